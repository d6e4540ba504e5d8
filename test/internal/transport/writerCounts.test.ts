/** What a writer counts, and what it says of its turns. */
import { describe, it } from "@effect/vitest"
import { Effect } from "effect"
import * as assert from "node:assert/strict"
import { headerSize, MessageType } from "../../../src/internal/protocol/frame.ts"
import { drain, makeWriter, Slow, turn } from "./support.ts"

describe("a writer", () => {
  it.effect("counts the bytes that it hands to the socket, when it does, and not the bytes that are dropped", () =>
    Effect.gen(function*() {
      const duplex = new Slow(true, { writableHighWaterMark: 100 })
      const { request, traffic, writer } = makeWriter(duplex)
      request(200)
      request(3000, { large: true })
      writer.drop(request(100))
      writer.drop(request(5000, { large: true }))
      writer.empty(5, MessageType.cancel)
      assert.equal(traffic.sent, 0)
      yield* turn
      const first = 3 * headerSize + 3200
      assert.equal(traffic.sent, first)
      // The socket has not drained, and gets no more.
      request(50)
      request(4000, { large: true })
      yield* turn
      assert.equal(traffic.sent, first)
      yield* drain(duplex)
      assert.equal(traffic.sent, first + 2 * headerSize + 4050)
      assert.equal(traffic.sent, duplex.writes.flat().reduce((sum, { length }) => sum + length, 0))
      assert.equal(traffic.received, 0)
    }))

  it.effect("counts the bytes of a large message piece by piece, as it hands them to the socket", () =>
    Effect.gen(function*() {
      const duplex = new Slow(true, { writableHighWaterMark: 100 })
      const { request, traffic, writer } = makeWriter(duplex)
      request(2_500_000, { large: true })
      const written: Array<number> = []
      yield* turn
      while (duplex.done !== undefined) {
        const all = duplex.writes.flat().reduce((sum, { length }) => sum + length, 0)
        assert.deepEqual([traffic.sent, writer.handed], [all, all])
        written.push(all)
        duplex.done()
        yield* turn
      }
      assert.deepEqual(written.map((bytes) => Math.floor(bytes / 1_048_576)), [1, 2, 2])
    }))

  it.effect("counts no bytes of what it drops when it is closed", () =>
    Effect.gen(function*() {
      const duplex = new Slow(true, { writableHighWaterMark: 100 })
      const { request, traffic, writer } = makeWriter(duplex)
      request(200)
      yield* turn
      request(10)
      request(3000, { large: true })
      writer.close()
      yield* drain(duplex)
      assert.equal(traffic.sent, headerSize + 200)
    }))

  it.effect("says once a turn that what was queued in it is to leave", () =>
    Effect.gen(function*() {
      const { counts, request, writer } = makeWriter(new Slow(false))
      for (let i = 1; i <= 3; i++) {
        for (let n = 0; n < 100; n++) request(n)
        request(3000, { large: true })
        assert.equal(counts.flushes, i - 1)
        assert.equal(writer.isFlushDue, true)
        yield* turn
        assert.equal(counts.flushes, i)
        assert.equal(writer.isFlushDue, false)
      }
    }))

  it.effect("says so before it asks about the first request", () =>
    Effect.gen(function*() {
      const asked: Array<number> = []
      const { counts, request } = makeWriter(new Slow(false), () => {
        asked.push(counts.flushes)
        return true
      })
      request(20, { deadline: true })
      yield* turn
      assert.deepEqual(asked, [1])
    }))

  it.effect("is due to flush at the end of a read", () =>
    Effect.gen(function*() {
      const { counts, request, writer } = makeWriter(new Slow(false))
      assert.equal(writer.isFlushDue, false)
      writer.beginRead()
      request(1)
      assert.equal(writer.isFlushDue, true)
      yield* turn
      assert.equal(counts.flushes, 0)
      writer.endRead()
      writer.flush()
      assert.equal(counts.flushes, 1)
      assert.equal(writer.isFlushDue, false)
    }))

  it.effect("is not due to flush while the socket has yet to drain", () =>
    Effect.gen(function*() {
      const duplex = new Slow(true, { writableHighWaterMark: 100 })
      const { request, writer } = makeWriter(duplex)
      request(200)
      yield* turn
      request(10)
      assert.equal(writer.isFlushDue, false)
      yield* drain(duplex)
      request(10)
      assert.equal(writer.isFlushDue, true)
    }))
})
