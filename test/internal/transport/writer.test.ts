import { describe, it } from "@effect/vitest"
import { Effect, Fiber } from "effect"
import * as assert from "node:assert/strict"
import * as net from "node:net"
import { join } from "node:path"
import { dataView } from "../../../src/internal/memory/bytes.ts"
import { headerSize, MessageType, writeHeader } from "../../../src/internal/protocol/frame.ts"
import { temporaryDirectory } from "../../support/networks.ts"
import { messagesOf } from "../../support/raw.ts"
import { plainServer } from "../net/sockets.ts"
import { batchSize, drain, makeWriter, Slow, turn } from "./support.ts"

const ids = (duplex: Slow) => duplex.messages.map(({ id }) => id)

const assertWhole = (messages: ReturnType<typeof messagesOf>) => {
  for (const { id, payload } of messages) assert.ok(payload.every((byte) => byte === (id & 0xff)), `payload of ${id}`)
}

describe("a writer", () => {
  it.effect("writes what was queued in one turn at once, in order", () =>
    Effect.gen(function*() {
      const duplex = new Slow(false)
      const { request, writer } = makeWriter(duplex)
      for (let i = 0; i < 100; i++) request(i)
      assert.equal(duplex.writes.length, 0)
      yield* turn
      assert.equal(duplex.writes.length, 1)
      assert.deepEqual(
        duplex.messages.map(({ id, payload }) => [id, payload.length]),
        Array.from({ length: 100 }, (_, i) => [i + 1, i])
      )
      assertWhole(duplex.messages)
      assert.ok(writer.isEmpty)
    }))

  it.effect("writes more than a batch takes, and messages larger than a batch, in one go and in order", () =>
    Effect.gen(function*() {
      const duplex = new Slow(false)
      const { request } = makeWriter(duplex)
      const sizes = [100_000, 100_000, 100_000, batchSize * 2, 10, batchSize - headerSize, 1, 0]
      for (const size of sizes) request(size)
      yield* turn
      assert.equal(duplex.writes.length, 1)
      assert.deepEqual(duplex.messages.map(({ payload }) => payload.length), sizes)
      assertWhole(duplex.messages)
    }))

  it.effect("sends a large payload from where it is, between the small ones", () =>
    Effect.gen(function*() {
      const duplex = new Slow(false)
      const { request, writer } = makeWriter(duplex)
      request(10)
      const head = new Uint8Array(headerSize)
      const body = new Uint8Array(50_000).fill(2)
      writeHeader(dataView(head), 0, 2, MessageType.response, body.length)
      writer.reference(2, MessageType.response, head, body)
      writer.requestQueued(2, false)
      writer.empty(3, MessageType.cancel)
      yield* turn
      assert.deepEqual(duplex.messages.map(({ id, payload, type }) => [id, type, payload.length]), [
        [1, MessageType.request, 10],
        [2, MessageType.response, 50_000],
        [3, MessageType.cancel, 0]
      ])
      assert.ok(duplex.writes.flat().some((chunk) => chunk.buffer === body.buffer))
    }))

  it.effect("waits for the end of a read, where it is inside one", () =>
    Effect.gen(function*() {
      const duplex = new Slow(false)
      const { request, writer } = makeWriter(duplex)
      writer.beginRead()
      request(1)
      yield* turn
      assert.equal(duplex.writes.length, 0)
      writer.endRead()
      writer.flush()
      assert.deepEqual(ids(duplex), [1])
    }))

  it.effect("does not send what was dropped, and moves the other messages together", () =>
    Effect.gen(function*() {
      const duplex = new Slow(false)
      const { request, writer } = makeWriter(duplex)
      for (let i = 0; i < 10; i++) request(i * 100, { large: i === 3 || i === 4 })
      for (const id of [1, 3, 4, 10]) writer.drop(id)
      yield* turn
      assert.deepEqual(ids(duplex), [2, 5, 6, 7, 8, 9])
      assertWhole(duplex.messages)
      // What comes later is not taken for what was dropped.
      request(1)
      yield* turn
      assert.deepEqual(ids(duplex).slice(6), [11])
    }))

  it.effect("writes nothing where everything was dropped", () =>
    Effect.gen(function*() {
      const duplex = new Slow(false)
      const { request, writer } = makeWriter(duplex)
      writer.drop(request(10))
      writer.drop(request(5000, { large: true }))
      yield* turn
      assert.equal(duplex.writes.length, 0)
      assert.ok(writer.isEmpty)
    }))

  it.effect("asks about each request with a deadline as it leaves, and lets the answer be written into it", () =>
    Effect.gen(function*() {
      const duplex = new Slow(false)
      const asked: Array<number> = []
      const { request, writer } = makeWriter(duplex, (id, bytes, payloadAt) => {
        asked.push(id)
        // The first bytes of the payload, both in a batch and in a message of its own.
        bytes.setUint16(payloadAt, 0xeeee)
        return id !== 3 && id !== 5
      })
      request(20)
      request(20, { deadline: true })
      request(20, { deadline: true })
      request(200, { deadline: true, large: true })
      request(200, { deadline: true, large: true })
      writer.empty(6, MessageType.cancel)
      assert.deepEqual(asked, [])
      yield* turn
      // All of a batch in which one has a deadline.
      assert.deepEqual(asked, [1, 2, 3, 4, 5])
      assert.deepEqual(ids(duplex), [1, 2, 4, 6])
      assert.deepEqual(duplex.messages.map(({ payload }) => payload.subarray(0, 3).toString("hex")), [
        "eeee01",
        "eeee02",
        "eeee04",
        ""
      ])
    }))

  it.effect("hands nothing to a socket that has not drained: until then requests are still its own", () =>
    Effect.gen(function*() {
      const duplex = new Slow(true, { writableHighWaterMark: 100 })
      const { request, writer } = makeWriter(duplex)
      request(200)
      yield* turn
      assert.equal(writer.isQueued(1), false)
      const queued = [request(10), request(20), request(3000, { large: true }), request(40)]
      yield* turn
      yield* turn
      assert.equal(duplex.writes.length, 1)
      assert.ok(queued.every((id) => writer.isQueued(id)))
      assert.equal(writer.isQueued(6), false)
      writer.drop(3)
      const unsent = writer.unsent()
      assert.deepEqual([...unsent.keys()], [2, 4, 5])
      for (const [id, payload] of unsent) {
        assert.equal(payload.length, id === 2 ? 10 : id === 4 ? 3000 : 40)
        assert.ok(payload.every((byte) => byte === id))
      }
      yield* drain(duplex)
      assert.deepEqual(ids(duplex), [1, 2, 4, 5])
      assertWhole(duplex.messages)
      assert.ok(queued.every((id) => !writer.isQueued(id)))
      assert.equal(writer.unsent().size, 0)
      // What was said to be unsent is a copy.
      assert.ok(unsent.get(2)!.every((byte) => byte === 2))
    }))

  it.effect("is full with a mebibyte that waits, and says once when there is room again", () =>
    Effect.gen(function*() {
      const duplex = new Slow(true, { writableHighWaterMark: 100 })
      const { counts, request, writer } = makeWriter(duplex)
      request(200)
      yield* turn
      while (writer.pendingBytes < 1_048_576) {
        assert.ok(writer.hasRoom())
        request(50_000, { large: true })
      }
      assert.equal(writer.hasRoom(), false)
      yield* turn
      assert.equal(counts.rooms, 0)
      duplex.done?.()
      yield* turn
      // All of it has gone to the socket, which is full itself now.
      assert.equal(writer.isEmpty, true)
      assert.equal(writer.hasRoom(), false)
      assert.equal(counts.rooms, 0)
      yield* drain(duplex)
      assert.equal(writer.hasRoom(), true)
      assert.equal(counts.rooms, 1)
    }))

  it.effect("says that there is room as soon as there is, also where the socket gets its next bytes before it is idle", () =>
    Effect.gen(function*() {
      const duplex = new Slow(true, { writableHighWaterMark: 100 })
      const { counts, request, writer } = makeWriter(duplex)
      request(1_048_576)
      assert.equal(writer.hasRoom(), false)
      yield* turn
      request(200)
      yield* turn
      assert.equal(counts.rooms, 0)
      duplex.done?.()
      yield* turn
      // The socket is busy with the second one, and has not said that it has drained.
      assert.ok(duplex.done !== undefined && duplex.writableNeedDrain)
      assert.equal(counts.rooms, 1)
      assert.equal(writer.hasRoom(), true)
    }))

  it.effect("is full for as long as one turn's messages wait for its end", () =>
    Effect.gen(function*() {
      const duplex = new Slow(false)
      const { counts, request, writer } = makeWriter(duplex)
      while (writer.hasRoom()) request(10_000)
      yield* turn
      assert.equal(writer.hasRoom(), true)
      assert.equal(counts.rooms, 1)
    }))

  it.effect("says that there is room also over a duplex that buffers so much that it never has to drain", () =>
    Effect.gen(function*() {
      const duplex = new Slow(true, { writableHighWaterMark: 64 * 1_048_576 })
      const { counts, request, writer } = makeWriter(duplex)
      while (writer.hasRoom()) request(100_000, { large: true })
      yield* turn
      assert.equal(counts.rooms, 1)
      assert.equal(writer.hasRoom(), true)
    }))

  it.effect("ends the duplex when everything has left it", () =>
    Effect.gen(function*() {
      const duplex = new Slow(true, { writableHighWaterMark: 100 })
      const { request, writer } = makeWriter(duplex)
      request(200)
      yield* turn
      request(300)
      writer.end()
      yield* turn
      assert.equal(duplex.writableEnded, false)
      yield* drain(duplex)
      assert.deepEqual(ids(duplex), [1, 2])
      assert.ok(duplex.ended)
    }))

  it.effect("ends also a duplex that buffers so much that it never has to drain", () =>
    Effect.gen(function*() {
      const duplex = new Slow(false, { writableHighWaterMark: 16_000_000 })
      const { request, writer } = makeWriter(duplex)
      request(3_000_000, { large: true })
      request(100)
      writer.end()
      for (let i = 0; i < 3; i++) yield* turn
      assert.deepEqual(ids(duplex), [1, 2])
      assert.ok(duplex.ended)
    }))

  it.effect("writes nothing after it was closed", () =>
    Effect.gen(function*() {
      const duplex = new Slow(true, { writableHighWaterMark: 100 })
      const { counts, request, writer } = makeWriter(duplex)
      request(200)
      yield* turn
      request(10)
      writer.close()
      writer.close()
      yield* drain(duplex)
      assert.deepEqual(ids(duplex), [1])
      assert.equal(counts.rooms, 0)
    }))

  it.effect("does not write into bytes that another duplex may still hold", () =>
    Effect.gen(function*() {
      const duplex = new Slow(false)
      const { request } = makeWriter(duplex)
      for (let i = 0; i < 50; i++) {
        request(100)
        yield* turn
      }
      assert.equal(duplex.writes.length, 50)
      assertWhole(duplex.messages)
    }))

  it.live("reuses its buffers only when the socket is done with them", () =>
    Effect.gen(function*() {
      const path = join(yield* temporaryDirectory, "socket")
      const server = yield* plainServer({ path })
      const accepting = yield* Effect.forkChild(server.next, { startImmediately: true })
      const socket = yield* Effect.acquireRelease(
        Effect.sync(() => net.connect({ path })),
        (socket) => Effect.sync(() => socket.destroy())
      )
      const peer = yield* Fiber.join(accepting)
      const chunks: Array<Buffer> = []
      const { request, writer } = makeWriter(socket)
      // The peer reads now and then, so that the socket still has some of what it was given.
      const count = 400
      for (let i = 0; i < count; i++) {
        request(20_000)
        if (i % 20 === 0) {
          const chunk: Buffer | null = peer.read()
          if (chunk !== null) chunks.push(Buffer.from(chunk))
        }
        if (i % 4 === 0) yield* turn
      }
      peer.on("data", (chunk: Buffer) => chunks.push(chunk))
      const total = count * (headerSize + 20_000)
      while (chunks.reduce((length, chunk) => length + chunk.length, 0) < total) yield* turn
      assert.ok(writer.isEmpty)
      const messages = messagesOf(Buffer.concat(chunks))
      assert.deepEqual(messages.map(({ id }) => id), Array.from({ length: count }, (_, i) => i + 1))
      assertWhole(messages)
    }))

  it.live("keeps little memory for thousands of small messages behind a peer that reads nothing", () =>
    Effect.gen(function*() {
      const path = join(yield* temporaryDirectory, "socket")
      yield* plainServer({ path })
      const socket = yield* Effect.acquireRelease(
        Effect.sync(() => net.connect({ path })),
        (socket) => Effect.sync(() => socket.destroy())
      )
      // Until the system takes no more, and the socket has to keep what it is given.
      for (let stalled = 0; stalled < 20; stalled = socket.writableLength > 0 ? stalled + 1 : 0) {
        if (socket.writableLength === 0) socket.write(Buffer.alloc(10_000))
        yield* turn
      }
      const { writer } = makeWriter(socket)
      const before = process.memoryUsage().arrayBuffers
      for (let id = 1; id <= 3000; id++) {
        writer.empty(id, MessageType.cancel)
        yield* turn
      }
      // Each of them has gone to the socket, which had not to drain.
      assert.ok(writer.isEmpty)
      assert.ok(socket.writableLength > 3000 * headerSize)
      const kept = process.memoryUsage().arrayBuffers - before
      assert.ok(kept < 32 * batchSize, `${kept} bytes`)
    }))
})
