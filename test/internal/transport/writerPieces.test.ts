/**
 * Large messages, which a writer gives to the socket in pieces: what is left of one comes before all that is queued.
 */
import { describe, it } from "@effect/vitest"
import { Effect } from "effect"
import * as fc from "fast-check"
import * as assert from "node:assert/strict"
import { dataView } from "../../../src/internal/memory/bytes.ts"
import { headerSize, MessageType, writeHeader } from "../../../src/internal/protocol/frame.ts"
import type { Writer } from "../../../src/internal/transport/writer.ts"
import type { messagesOf } from "../../support/raw.ts"
import { drain, makeWriter, Slow, turn } from "./support.ts"

/** The largest piece. */
const pieceSize = 1_048_576
const large = { large: true } as const
/** A request is 16 bytes of header and the 4 of its payload that `makeWriter` copies, and then its body. */
const headSize = headerSize + 4

const slow = () => new Slow(true, { writableHighWaterMark: 100 })
const ids = (duplex: Slow) => duplex.messages.map(({ id }) => id)
const sizesOf = (duplex: Slow) => duplex.writes.map((chunks) => chunks.map(({ length }) => length))

const assertWhole = (messages: ReturnType<typeof messagesOf>) => {
  for (const { id, payload } of messages) {
    assert.ok(Buffer.alloc(payload.length, id & 0xff).equals(payload), `payload of ${id}`)
  }
}

/** The socket takes what it was given, and is given what comes next. */
const step = (duplex: Slow) => Effect.andThen(Effect.sync(() => duplex.done?.()), turn)

const respond = (writer: Writer, id: number, size: number) => {
  const head = new Uint8Array(headerSize)
  writeHeader(dataView(head), 0, id, MessageType.response, size)
  writer.reference(id, MessageType.response, head, new Uint8Array(size).fill(id))
}

describe("a large message", () => {
  it.effect("is given to the socket a piece at a time, each when it has taken the one before", () =>
    Effect.gen(function*() {
      const duplex = slow()
      const { request, writer } = makeWriter(duplex)
      request(3 * pieceSize + 1000 + 4, large)
      yield* turn
      yield* turn
      assert.deepEqual(sizesOf(duplex), [[headSize, pieceSize]])
      for (const left of [2 * pieceSize + 1000, pieceSize + 1000, 1000]) {
        assert.equal(writer.pendingBytes - duplex.writableLength, left)
        assert.ok(!writer.isEmpty)
        yield* step(duplex)
      }
      assert.ok(writer.isEmpty)
      assert.deepEqual(sizesOf(duplex).slice(1), [[pieceSize], [pieceSize], [1000]])
      assertWhole(duplex.messages)
      yield* drain(duplex)
      assert.equal(writer.pendingBytes, 0)
    }))

  it.effect("goes as a whole where it is no larger than a piece", () =>
    Effect.gen(function*() {
      const duplex = new Slow(false)
      const { request } = makeWriter(duplex)
      request(pieceSize + 4, large)
      yield* turn
      assert.deepEqual(sizesOf(duplex), [[headSize, pieceSize]])
      request(pieceSize + 5, large)
      for (let i = 0; i < 3; i++) yield* turn
      assert.deepEqual(sizesOf(duplex).slice(1), [[headSize, pieceSize], [1]])
      assert.deepEqual(ids(duplex), [1, 2])
    }))

  it.effect("goes on in later turns over a duplex that buffers so much that it never has to drain", () =>
    Effect.gen(function*() {
      const duplex = new Slow(false, { writableHighWaterMark: 64 * pieceSize })
      const { request, writer } = makeWriter(duplex)
      request(5 * pieceSize, large)
      request(10)
      request(5 * pieceSize, large)
      request(20)
      while (!writer.isEmpty) yield* turn
      assert.deepEqual(ids(duplex), [1, 2, 3, 4])
      assertWhole(duplex.messages)
    }))

  it.effect("goes on once where the other end answers while it is being written, and that is answered in turn", () =>
    Effect.gen(function*() {
      // As both ends of a `duplexPair` do: each write is the other end's "data".
      class Prompt extends Slow {
        answered = () => {}
        override _writev(...written: Parameters<Slow["_writev"]>): void {
          super._writev(...written)
          this.answered()
        }
      }
      const duplex = new Prompt(false, { writableHighWaterMark: 64 * pieceSize })
      const { request, writer } = makeWriter(duplex)
      duplex.answered = () => writer.flush()
      request(5 * pieceSize, large)
      request(10)
      while (!writer.isEmpty) yield* turn
      assert.deepEqual(ids(duplex), [1, 2])
      assertWhole(duplex.messages)
      const written = sizesOf(duplex).flat().reduce((sum, size) => sum + size, 0)
      assert.equal(written, headerSize + 5 * pieceSize + headerSize + 10)
    }))

  it.effect("lets what was queued before it go first, and what is queued behind it, or while it is on its way, go after", () =>
    Effect.gen(function*() {
      const duplex = slow()
      const { request, writer } = makeWriter(duplex)
      request(10)
      request(3 * pieceSize, large)
      request(20)
      request(5000, large)
      yield* turn
      request(30)
      yield* step(duplex)
      assert.deepEqual(ids(duplex), [1])
      request(2 * pieceSize, large)
      writer.empty(1, MessageType.cancel)
      yield* drain(duplex)
      assert.deepEqual(
        duplex.messages.map(({ id, type }) => [id, type]),
        [...[1, 2, 3, 4, 5, 6].map((id) => [id, MessageType.request]), [1, MessageType.cancel]]
      )
      assertWhole(duplex.messages)
    }))

  it.effect("makes the writer full for as long as much of it waits, and there is room again before the last piece is taken", () =>
    Effect.gen(function*() {
      const duplex = slow()
      const { counts, request, writer } = makeWriter(duplex)
      request(3 * pieceSize, large)
      assert.equal(writer.hasRoom(), false)
      yield* turn
      assert.equal(writer.hasRoom(), false)
      yield* step(duplex)
      // Of the last piece nothing waits in the writer, but it waits in the socket, together with the one before.
      yield* step(duplex)
      assert.equal(counts.rooms, 1)
      assert.equal(writer.hasRoom(), true)
      assert.ok(writer.pendingBytes > 0)
    }))

  it.effect("counts a drain for each piece, by which it is seen that the peer takes some of it", () =>
    Effect.gen(function*() {
      const duplex = slow()
      const { request, writer } = makeWriter(duplex)
      request(4 * pieceSize, large)
      yield* turn
      assert.equal(writer.drains, 0)
      for (const drains of [1, 2, 3]) {
        yield* step(duplex)
        assert.equal(writer.drains, drains)
      }
    }))

  it.effect("counts once among the bytes that were sent", () =>
    Effect.gen(function*() {
      const duplex = slow()
      const { request, traffic } = makeWriter(duplex)
      request(4 * pieceSize, large)
      yield* turn
      yield* drain(duplex)
      assert.equal(traffic.sent, headerSize + 4 * pieceSize)
    }))

  it.effect("is written in full before the duplex is ended", () =>
    Effect.gen(function*() {
      const duplex = slow()
      const { request, writer } = makeWriter(duplex)
      request(3 * pieceSize, large)
      request(10)
      yield* turn
      writer.end()
      yield* step(duplex)
      assert.equal(duplex.writableEnded, false)
      yield* drain(duplex)
      assert.deepEqual(ids(duplex), [1, 2])
      assert.ok(duplex.ended)
    }))

  it.effect("is written in full before the duplex is ended also where that never has to drain", () =>
    Effect.gen(function*() {
      const duplex = new Slow(false, { writableHighWaterMark: 64 * pieceSize })
      const { request, writer } = makeWriter(duplex)
      request(3 * pieceSize, large)
      request(3 * pieceSize, large)
      writer.end()
      for (let i = 0; i < 5; i++) yield* turn
      assert.deepEqual(ids(duplex), [1, 2])
      assert.ok(duplex.ended)
    }))

  it.effect("is released where the writer is closed in the middle of it", () =>
    Effect.gen(function*() {
      const duplex = slow()
      const { counts, request, writer } = makeWriter(duplex)
      request(3 * pieceSize, large)
      request(10)
      yield* turn
      writer.close()
      assert.ok(writer.isEmpty)
      yield* drain(duplex)
      assert.deepEqual(sizesOf(duplex), [[headSize, pieceSize]])
      assert.equal(counts.rooms, 0)
    }))

  it.effect("of a server's is followed by its other answers, whole and in order", () =>
    Effect.gen(function*() {
      const duplex = slow()
      const { writer } = makeWriter(duplex)
      for (const [id, size] of [[7, 3 * pieceSize], [8, 100_000], [5, 2 * pieceSize]] as const) {
        respond(writer, id, size)
      }
      writer.empty(6, MessageType.version)
      yield* turn
      yield* drain(duplex)
      assert.deepEqual(ids(duplex), [7, 8, 5, 6])
      assertWhole(duplex.messages)
    }))
})

describe("several messages that are large together", () => {
  it.effect("are given to the socket until it has a piece's worth of them, and the others when it has taken those", () =>
    Effect.gen(function*() {
      const duplex = slow()
      const { request, writer } = makeWriter(duplex)
      const size = 400_000
      for (let i = 0; i < 7; i++) request(size, large)
      yield* turn
      const [first] = sizesOf(duplex)
      assert.deepEqual(first, Array.from({ length: 3 }, () => [headSize, size - 4]).flat())
      assert.deepEqual([3, 4, 7].map((id) => writer.isQueued(id)), [false, true, true])
      assert.equal(writer.pendingBytes - duplex.writableLength, 4 * (headerSize + size))
      assert.deepEqual([writer.isEmpty, writer.handovers], [false, 0])
      writer.drop(5)
      yield* drain(duplex)
      assert.deepEqual(ids(duplex), [1, 2, 3, 4, 6, 7])
      assertWhole(duplex.messages)
      assert.deepEqual([writer.isEmpty, writer.handovers, writer.pendingBytes], [true, 1, 0])
    }))

  it.effect("go on over a duplex that never has to drain, and small ones among them keep their place", () =>
    Effect.gen(function*() {
      const duplex = new Slow(false, { writableHighWaterMark: 64 * pieceSize })
      const { request, writer } = makeWriter(duplex)
      for (let i = 0; i < 12; i++) {
        request(400_000, large)
        request(10)
      }
      while (!writer.isEmpty) yield* turn
      assert.deepEqual(ids(duplex), Array.from({ length: 24 }, (_, i) => i + 1))
      assertWhole(duplex.messages)
    }))
})

describe("a writer that holds", () => {
  it.effect("hands nothing over until it is released, or ended", () =>
    Effect.gen(function*() {
      for (const go of ["release", "end"] as const) {
        const duplex = new Slow(false)
        const { request, writer } = makeWriter(duplex)
        writer.hold()
        request(10)
        request(20_000, large)
        yield* turn
        writer.flush()
        assert.deepEqual(ids(duplex), [])
        writer[go]()
        assert.deepEqual([ids(duplex), duplex.writableEnded], [[1, 2], go === "end"])
      }
    }))

  it.effect("holds nothing back once it is ending, or closed", () =>
    Effect.gen(function*() {
      const duplex = new Slow(false)
      const { request, writer } = makeWriter(duplex)
      request(1)
      writer.end()
      writer.hold()
      yield* turn
      assert.deepEqual([duplex.messages.length, duplex.ended, writer.isEmpty], [1, true, true])
      writer.close()
      writer.hold()
      writer.release()
      writer.end()
      yield* turn
      assert.equal(duplex.messages.length, 1)
    }))

  it("is full when as much waits as may", () => {
    const { counts, request, writer } = makeWriter(new Slow(false))
    writer.hold()
    request(pieceSize, large)
    assert.equal(writer.hasRoom(), false)
    writer.release()
    assert.deepEqual([counts.rooms, writer.hasRoom()], [1, true])
  })
})

describe("a request behind a large one", () => {
  /** The first piece of request 1 has been handed over; requests 2 to 5 are behind it. */
  const queued = Effect.fnUntraced(function*(onLeave?: Parameters<typeof makeWriter>[1], deadline = false) {
    const duplex = slow()
    const made = makeWriter(duplex, onLeave)
    made.request(2 * pieceSize + 4, { large: true, deadline })
    made.request(10, { deadline })
    made.request(3000, { large: true, deadline })
    yield* turn
    made.request(20, { deadline })
    made.request(2 * pieceSize, { large: true, deadline })
    yield* turn
    assert.equal(duplex.writes.length, 1)
    return { ...made, duplex }
  })

  it.effect("is the writer's own until that has left, and the large one is not", () =>
    Effect.gen(function*() {
      const { duplex, writer } = yield* queued()
      assert.deepEqual([1, 2, 3, 4, 5, 6].map((id) => writer.isQueued(id)), [false, true, true, true, true, false])
      const unsent = writer.unsent()
      assert.deepEqual([...unsent].map(([id, payload]) => [id, payload.length]), [
        [2, 10],
        [3, 3000],
        [4, 20],
        [5, 2 * pieceSize]
      ])
      for (const [id, payload] of unsent) assert.ok(payload.every((byte) => byte === id))
      // The second piece is the last one: what follows leaves with the drain after it.
      yield* step(duplex)
      assert.ok(writer.isQueued(2))
      yield* step(duplex)
      assert.deepEqual([2, 3, 4, 5].map((id) => writer.isQueued(id)), [false, false, false, false])
      yield* drain(duplex)
      assert.deepEqual(ids(duplex), [1, 2, 3, 4, 5])
    }))

  it.effect("is not sent where it was dropped, large or small", () =>
    Effect.gen(function*() {
      const { duplex, writer } = yield* queued()
      for (const id of [2, 3, 5]) writer.drop(id)
      assert.deepEqual([...writer.unsent().keys()], [4])
      yield* drain(duplex)
      assert.deepEqual(ids(duplex), [1, 4])
      assertWhole(duplex.messages)
      assert.ok(writer.isEmpty)
    }))

  it.effect("is asked about when it leaves, and not before; the large one once", () =>
    Effect.gen(function*() {
      const asked: Array<number> = []
      const { duplex } = yield* queued((id, bytes, payloadAt) => {
        asked.push(id)
        bytes.setUint16(payloadAt, 0xeeee)
        return id !== 2 && id !== 5
      }, true)
      assert.deepEqual(asked, [1])
      yield* step(duplex)
      assert.deepEqual(asked, [1])
      yield* step(duplex)
      assert.deepEqual(asked, [1, 2, 3, 4, 5])
      yield* drain(duplex)
      assert.deepEqual(asked, [1, 2, 3, 4, 5])
      assert.deepEqual(ids(duplex), [1, 3, 4])
      for (const { payload } of duplex.messages) assert.equal(payload.subarray(0, 2).toString("hex"), "eeee")
    }))

  it.effect("comes before messages of a caller that is resumed as the large one leaves", () =>
    Effect.gen(function*() {
      const duplex = slow()
      const late = { request: () => {} }
      const { request } = makeWriter(duplex, (id) => {
        if (id === 1) late.request()
        return id !== 1
      })
      late.request = () => void request(30)
      request(10, { deadline: true })
      request(2 * pieceSize, large)
      request(20)
      yield* turn
      yield* drain(duplex)
      assert.deepEqual(ids(duplex), [2, 3, 4])
      assertWhole(duplex.messages)
    }))
})

describe("messages that are queued, dropped, late and taken in any order", () => {
  type Command =
    | { readonly _tag: "Request"; readonly size: number; readonly late: boolean }
    | { readonly _tag: "Drop"; readonly pick: number }
    | { readonly _tag: "Turn" | "Drain" }
  const command: fc.Arbitrary<Command> = fc.oneof(
    {
      weight: 4,
      arbitrary: fc.record({
        _tag: fc.constant("Request"),
        size: fc.oneof(
          fc.integer({ min: 4, max: 100 }),
          fc.integer({ min: 20_000, max: 300_000 }),
          fc.constantFrom(pieceSize + 3, pieceSize + 4, pieceSize + 5, 3 * pieceSize)
        ),
        late: fc.boolean()
      })
    },
    { weight: 2, arbitrary: fc.record({ _tag: fc.constant("Drop"), pick: fc.nat() }) },
    { weight: 3, arbitrary: fc.record({ _tag: fc.constantFrom("Turn", "Drain") }) }
  )
  const settings = fc.record({
    holds: fc.boolean(),
    highWaterMark: fc.constantFrom(100, 65_536, 100 * pieceSize),
    commands: fc.array(command, { maxLength: 25 })
  })

  it("every message that was to be sent arrives once, whole and in order, and no other", () =>
    fc.assert(
      fc.asyncProperty(settings, async ({ commands, highWaterMark, holds }) => {
        const duplex = new Slow(holds, { writableHighWaterMark: highWaterMark })
        const late = new Set<number>()
        const dropped = new Set<number>()
        const { request, writer } = makeWriter(duplex, (id) => !late.has(id))
        let last = 0
        for (const command of commands) {
          if (command._tag === "Request") {
            last = request(command.size, { large: command.size >= 20_000, deadline: command.late })
            if (command.late) late.add(last)
          } else if (command._tag === "Drop") {
            const queued = Array.from({ length: last }, (_, i) => i + 1).filter((id) => writer.isQueued(id))
            const id = queued[command.pick % queued.length]
            if (id === undefined || dropped.has(id)) continue
            writer.drop(id)
            dropped.add(id)
          } else {
            if (command._tag === "Drain") duplex.done?.()
            await Effect.runPromise(turn)
          }
          const unsent = [...writer.unsent().keys()]
          assert.ok(unsent.every((id) => writer.isQueued(id) && !dropped.has(id)))
        }
        while (!writer.isEmpty || duplex.done !== undefined) {
          duplex.done?.()
          await Effect.runPromise(turn)
        }
        const expected = Array.from({ length: last }, (_, i) => i + 1).filter((id) => !late.has(id) && !dropped.has(id))
        assert.deepEqual(ids(duplex), expected)
        assertWhole(duplex.messages)
        assert.equal(writer.pendingBytes, 0)
        assert.equal(writer.hasRoom(), true)
      }),
      { numRuns: 60, seed: 11 }
    ))
})
