import { describe, it } from "@effect/vitest"
import { Cause, Effect, Exit, Fiber } from "effect"
import * as fc from "fast-check"
import * as assert from "node:assert/strict"
import { headerSize, MessageType } from "../../../src/internal/protocol/frame.ts"
import { ItemTooLarge, OutgoingItems } from "../../../src/internal/session/outgoingItems.ts"
import { turn } from "../transport/support.ts"
import { itemsOf, makeFlow, readAll } from "./sending.ts"

const plenty = 0x7fff_ffff
const maxItem = 104_857_600

const bytes = (size: number, value = size & 0xff): Uint8Array => new Uint8Array(size).fill(value)

const makeOut = (credit = plenty, max = maxItem) => {
  const made = makeFlow()
  return { ...made, out: new OutgoingItems(1, made.flow, credit, max) }
}

describe("items that one end sends", () => {
  it.effect("leave at once where there is credit and room, several in one message", () =>
    Effect.gen(function*() {
      const { duplex, out } = makeOut()
      for (let i = 0; i < 100; i++) assert.ok(Exit.isExit(out.write([bytes(i), bytes(1)])))
      yield* turn
      assert.equal(duplex.messages.length, 1)
      const { items } = itemsOf(duplex, 1)
      assert.deepEqual(items.map(({ length }) => length), Array.from({ length: 100 }, (_, i) => [i, 1]).flat())
      assert.deepEqual([out.items, out.bytes], [200, 4 * 200 + 4950 + 100])
    }))

  it.effect("make a message of their own where something else was queued since", () =>
    Effect.gen(function*() {
      const { duplex, out, writer } = makeOut()
      yield* out.write([bytes(1)])
      writer.empty(7, MessageType.cancel)
      yield* out.write([bytes(2)])
      yield* turn
      yield* out.write([bytes(3)])
      yield* turn
      assert.deepEqual(
        duplex.messages.map(({ id, type }) => [id, type]),
        [[1, MessageType.items], [7, MessageType.cancel], [1, MessageType.items], [1, MessageType.items]]
      )
    }))

  it.effect("make messages of 64 KiB at most, where they are small", () =>
    Effect.gen(function*() {
      const { duplex, flow, out } = makeOut()
      const writing = yield* Effect.forkChild(out.write(Array.from({ length: 200 }, () => bytes(5000))))
      yield* readAll(duplex, flow)
      yield* Fiber.join(writing)
      assert.equal(itemsOf(duplex, 1).items.length, 200)
      assert.ok(duplex.messages.every(({ payload }) => payload.length <= 65_536))
    }))

  it.effect("begin only while there is credit, which counts their lengths, and may overdraw it by one item", () =>
    Effect.gen(function*() {
      const { duplex, flow, out } = makeOut(10)
      const writing = yield* Effect.forkChild(out.write([bytes(0), bytes(1), bytes(100), bytes(2)]))
      yield* readAll(duplex, flow)
      // 4 + 5 bytes are 1 less than the credit: the third item begins, and takes 104.
      assert.deepEqual(itemsOf(duplex, 1).items.map(({ length }) => length), [0, 1, 100])
      assert.equal(out.grant(103), undefined)
      yield* turn
      assert.equal(writing.pollUnsafe(), undefined)
      assert.equal(out.grant(1), undefined)
      yield* readAll(duplex, flow, 4 + 5 + 104)
      yield* Fiber.join(writing)
      assert.deepEqual(itemsOf(duplex, 1).items.map(({ length }) => length), [0, 1, 100, 2])
    }))

  it.effect("of 16 KiB and more go by reference, and over 256 KiB in pieces that need no credit", () =>
    Effect.gen(function*() {
      const { duplex, flow, out } = makeOut(1)
      const item = bytes(1_000_000, 3)
      const writing = yield* Effect.forkChild(out.write([item]))
      yield* readAll(duplex, flow)
      yield* Fiber.join(writing)
      assert.deepEqual(itemsOf(duplex, 1).items, [Buffer.from(item)])
      const sizes = duplex.messages.map(({ payload }) => payload.length)
      assert.deepEqual(sizes, [262_144 + 8, 262_144 + 4, 262_144 + 4, 1_000_000 - 3 * 262_144 + 4])
      assert.ok(duplex.writes.flat().some((chunk) => chunk.buffer === item.buffer))
    }))

  it.effect("wait while 256 KiB are in flight, and go on when the peer has read some", () =>
    Effect.gen(function*() {
      const { duplex, flow, out } = makeOut()
      const writing = yield* Effect.forkChild(out.write(Array.from({ length: 10 }, () => bytes(65_532))))
      for (let i = 0; i < 10; i++) yield* turn
      assert.equal(duplex.messages.length, 4)
      assert.equal(flow.landed(65_536), undefined)
      for (let i = 0; i < 10; i++) yield* turn
      assert.equal(duplex.messages.length, 5)
      yield* readAll(duplex, flow, 65_536)
      yield* Fiber.join(writing)
      assert.equal(duplex.messages.length, 10)
    }))

  it.effect("of several streams take turns", () =>
    Effect.gen(function*() {
      const { duplex, flow } = makeFlow()
      const outs = [1, 2, 3].map((id) => new OutgoingItems(id, flow, plenty, maxItem))
      const writing = yield* Effect.forkChild(
        Effect.forEach(outs, (out) => out.write(Array.from({ length: 1000 }, () => bytes(1020))), {
          concurrency: "unbounded"
        })
      )
      yield* readAll(duplex, flow)
      yield* Fiber.join(writing)
      const ids = duplex.messages.map(({ id }) => id)
      // The first has taken all the room before the others came.
      assert.deepEqual(ids.slice(5, 14), [2, 3, 1, 2, 3, 1, 2, 3, 1])
    }))

  it.effect("that are written one by one leave together in the turn of their stream", () =>
    Effect.gen(function*() {
      const { duplex, flow } = makeFlow()
      const outs = [1, 2].map((id) => new OutgoingItems(id, flow, plenty, maxItem))
      const writing = yield* Effect.forkChild(
        Effect.forEach(outs, (out) => Effect.repeat(Effect.suspend(() => out.write([bytes(96)])), { times: 9999 }), {
          concurrency: "unbounded"
        })
      )
      yield* readAll(duplex, flow)
      yield* Fiber.join(writing)
      for (const id of [1, 2]) assert.equal(itemsOf(duplex, id).items.length, 10_000)
      // 2 MB in messages of 64 KiB or a little less, and not in 20 000.
      assert.ok(duplex.messages.length < 500, `${duplex.messages.length} messages`)
    }))

  it.effect("have a byte before each of them where one is given", () =>
    Effect.gen(function*() {
      const { duplex, flow, out } = makeOut()
      const sizes = [0, 3, 20_000, 600_000, 1]
      const writing = yield* Effect.forkChild(out.write(sizes.map((size) => bytes(size, 7)), 9))
      yield* readAll(duplex, flow)
      yield* Fiber.join(writing)
      const { items } = itemsOf(duplex, 1)
      assert.deepEqual(items.map(({ length }) => length), sizes.map((size) => size + 1))
      for (const item of items) assert.ok(item[0] === 9 && item.subarray(1).every((byte) => byte === 7))
      assert.equal(out.bytes, duplex.messages.reduce((sum, { payload }) => sum + payload.length, 0))
      yield* out.write([bytes(2)])
      yield* turn
      assert.equal(itemsOf(duplex, 1).items.at(-1)?.length, 2)
      const limited = makeOut(plenty, 1000).out
      assert.deepEqual(yield* Effect.flip(limited.write([bytes(1000)], 9)), new ItemTooLarge(1001, 1000))
    }))

  it.effect("that are no bytes are a defect, after those before them have left", () =>
    Effect.gen(function*() {
      const { duplex, out } = makeOut()
      const exit = yield* Effect.exit(out.write([bytes(1), "two" as never, bytes(3)]))
      assert.ok(Exit.isFailure(exit))
      assert.match(String(Cause.squash(exit.cause)), /an item of a stream.*expected a Uint8Array.*two/)
      yield* turn
      assert.deepEqual(itemsOf(duplex, 1).items.map(({ length }) => length), [1])
      yield* out.write([bytes(4)])
    }))

  it.effect("that are longer than a message may be are refused", () =>
    Effect.gen(function*() {
      const { out } = makeOut(plenty, 1000)
      const error = yield* Effect.flip(out.write([bytes(1000), bytes(1001)]))
      assert.deepEqual(error, new ItemTooLarge(1001, 1000))
    }))

  it.effect("go on after a write that was interrupted between two items", () =>
    Effect.gen(function*() {
      const { duplex, flow, out } = makeOut(1)
      const writing = yield* Effect.forkChild(out.write([bytes(1), bytes(2)]))
      yield* turn
      yield* Fiber.interrupt(writing)
      assert.equal(out.state, "Idle")
      assert.equal(out.grant(100), undefined)
      yield* out.write([bytes(3)])
      yield* readAll(duplex, flow)
      assert.deepEqual(itemsOf(duplex, 1).items.map(({ length }) => length), [1, 3])
    }))

  it.effect("do not go on after a write that was interrupted inside an item", () =>
    Effect.gen(function*() {
      const { duplex, out } = makeOut()
      const writing = yield* Effect.forkChild(out.write([bytes(1_000_000)]))
      yield* turn
      yield* Fiber.interrupt(writing)
      assert.equal(out.state, "Closed")
      assert.ok(itemsOf(duplex, 1).unfinished > 0)
      assert.ok(Exit.isFailure(yield* Effect.exit(out.write([bytes(3)]))))
    }))

  it.effect("are interrupted when the stream is closed, those that wait and those that come", () =>
    Effect.gen(function*() {
      const { out } = makeOut(0)
      const writing = yield* Effect.forkChild(Effect.exit(out.write([bytes(1)])))
      yield* turn
      out.close()
      out.close()
      for (const exit of [yield* Fiber.join(writing), yield* Effect.exit(out.write([bytes(1)]))]) {
        assert.ok(Exit.isFailure(exit) && Cause.hasInterruptsOnly(exit.cause))
      }
    }))

  it.effect("do not change when their bytes are transferred while they leave: the write is a defect", () =>
    Effect.gen(function*() {
      const { flow, out } = makeOut()
      const item = bytes(1_000_000)
      const writing = yield* Effect.forkChild(Effect.exit(out.write([item])))
      yield* turn
      structuredClone(item, { transfer: [item.buffer as ArrayBuffer] })
      assert.equal(flow.landed(262_144 + 8), undefined)
      const exit = yield* Fiber.join(writing)
      assert.ok(Exit.isFailure(exit))
      assert.match(String(Cause.squash(exit.cause)), /transferred.*expected 1000000 bytes.*got 0/)
      assert.equal(out.state, "Closed")
    }))

  it.effect("have at most 2^31 - 1 bytes of credit", () =>
    Effect.sync(() => {
      const { out } = makeOut(10)
      assert.equal(out.grant(plenty - 10), undefined)
      assert.match(out.grant(1) ?? "", /credit of 1 bytes in addition to 2147483647, expected at most 2147483647/)
    }))

  it.effect("come out as they went in, whatever their sizes, the credit and the pace of the peer", () =>
    Effect.promise(() =>
      fc.assert(
        fc.asyncProperty(
          fc.array(fc.array(fc.oneof(fc.nat(40), fc.nat(40_000), fc.nat(600_000)), { maxLength: 6 }), { maxLength: 8 }),
          fc.array(fc.integer({ min: 5000, max: 300_000 }), { minLength: 1, maxLength: 5 }),
          (chunks, grants) =>
            Effect.runPromise(Effect.gen(function*() {
              const { duplex, flow, out } = makeOut(0)
              const sizes = chunks.flat()
              const writing = yield* Effect.forkChild(
                Effect.forEach(chunks, (sizes) => out.write(sizes.map((size) => bytes(size))), { discard: true })
              )
              let read = 0
              for (let i = 0; writing.pollUnsafe() === undefined; i++) {
                assert.ok(i < 3000, "it goes on")
                if (out.grant(grants[i % grants.length]!) !== undefined) return
                for (let k = 0; k < 4; k++) yield* turn
                const sent = out.bytes
                flow.landed(sent - read)
                read = sent
              }
              yield* Fiber.join(writing)
              yield* turn
              const { items } = itemsOf(duplex, 1)
              assert.deepEqual(items.map(({ length }) => length), sizes)
              assert.ok(items.every((item) => item.equals(bytes(item.length))))
              assert.equal(out.bytes, duplex.messages.reduce((sum, { payload }) => sum + payload.length, 0))
              assert.equal(Buffer.concat(duplex.writes.flat()).length, out.bytes + headerSize * duplex.messages.length)
            }))
        ),
        { numRuns: 25 }
      )
    ))
})
