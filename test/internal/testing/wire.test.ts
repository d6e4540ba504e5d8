/**
 * One direction of an in-memory connection, on a clock that is moved by hand.
 */
import { describe, it } from "@effect/vitest"
import { Effect } from "effect"
import * as assert from "node:assert/strict"
import { Duplex } from "node:stream"
import { type Timer, unimpaired, Wire } from "../../../src/internal/testing/wire.ts"

const turn = Effect.callback<void>((resume) => {
  setImmediate(() => resume(Effect.void))
})

/** A clock, and a wire to a receiver that notes what comes. */
const set = () => {
  const seen: Array<string> = []
  const wire = new Wire()
  const receiver = new Duplex({ read: () => wire.ask(), write: (_chunk, _encoding, done) => done() })
  receiver.on("data", (chunk: Buffer) => seen.push(chunk.toString()))
  receiver.on("end", () => seen.push("end"))
  receiver.on("error", () => seen.push("reset"))
  wire.connect({ receiver, bounce: () => seen.push("bounced"), exhausted: () => seen.push("cut") })
  const clock = { now: 0, wakes: new Set<() => void>() }
  const timer: Timer = {
    now: () => clock.now,
    after: (_millis, wake) => {
      clock.wakes.add(wake)
      return () => clock.wakes.delete(wake)
    }
  }
  const moveTo = (now: number) => {
    clock.now = now
    const wakes = [...clock.wakes]
    clock.wakes.clear()
    for (const wake of wakes) wake()
    return turn
  }
  const send = (text: string, done: () => void = () => {}) => wire.send(Buffer.from(text), done)
  return { clock, moveTo, receiver, seen, send, timer, wire }
}

describe("a wire", () => {
  it.live("delivers bytes and then the end, and nothing from within the write", () =>
    Effect.gen(function*() {
      const { seen, send, wire } = set()
      yield* turn
      send("a")
      send("b")
      wire.end()
      assert.deepEqual(seen, [])
      yield* Effect.replicateEffect(turn, 3)
      assert.deepEqual(seen, ["a", "b", "end"])
    }))

  it.live("takes no end after a reset", () =>
    Effect.gen(function*() {
      const { seen, wire } = set()
      wire.reset()
      wire.end()
      yield* Effect.replicateEffect(turn, 3)
      assert.deepEqual(seen, ["reset"])
    }))

  it.live("holds bytes until their delay has passed, each from when it was sent", () =>
    Effect.gen(function*() {
      const { moveTo, seen, send, timer, wire } = set()
      wire.impair({ ...unimpaired, delay: { millis: 10, timer } })
      send("first")
      yield* moveTo(4)
      send("second")
      yield* moveTo(9)
      assert.deepEqual(seen, [])
      yield* moveTo(10)
      assert.deepEqual(seen, ["first"])
      yield* moveTo(14)
      assert.deepEqual(seen, ["first", "second"])
    }))

  it.live("has no timer left when its delay is healed, and delivers at once", () =>
    Effect.gen(function*() {
      const { clock, seen, send, timer, wire } = set()
      wire.impair({ ...unimpaired, delay: { millis: 10, timer } })
      send("late")
      yield* turn
      assert.equal(clock.wakes.size, 1)
      wire.impair(unimpaired)
      assert.equal(clock.wakes.size, 0)
      yield* turn
      assert.deepEqual(seen, ["late"])
    }))

  it.live("delivers just as many bytes as there are before its cut", () =>
    Effect.gen(function*() {
      const { seen, send, wire } = set()
      wire.impair({ ...unimpaired, cutAfter: 3 })
      send("abcde")
      wire.end()
      yield* Effect.replicateEffect(turn, 3)
      assert.deepEqual(seen, ["abc", "cut"])
    }))

  it.live("tells the sender where the receiver has closed", () =>
    Effect.gen(function*() {
      const { receiver, seen, send } = set()
      receiver.destroy()
      yield* turn
      send("a")
      yield* turn
      assert.deepEqual(seen, ["bounced"])
    }))
})
