/** Admission of calls: how many run, how many wait, and in which order they start. */
import { describe, it } from "@effect/vitest"
import { Effect } from "effect"
import * as assert from "node:assert/strict"
import { Admission, type AdmittedConnection } from "../../../src/internal/server/admission.ts"
import { forever, one, other, turn } from "./admissionSupport.ts"

/** Calls that note when they are started; `busy` is how long each keeps the event loop, in milliseconds. */
const makeCalls = (busy = 0, connection: AdmittedConnection = one) => {
  const started: Array<number> = []
  const call = (n: number) => ({
    connection,
    isPressed: () => false,
    refuse: () => {},
    start: () => {
      const until = performance.now() + busy
      while (performance.now() < until) {
        // busy
      }
      started.push(n)
    }
  })
  return { started, call }
}

/** Without limits for a connection. */
const admissionOf = (maxConcurrentCalls: number, maxQueuedCalls: number, turnMillis: number) =>
  new Admission({
    maxConcurrentCalls,
    maxQueuedCalls,
    maxConcurrentCallsPerConnection: Infinity,
    maxQueuedCallsPerConnection: Infinity
  }, turnMillis)

describe("admission", () => {
  it("lets that many calls run, queues that many more, and refuses others", () => {
    const admission = admissionOf(2, 3, forever)
    const { call } = makeCalls()
    admission.beginTurn()
    assert.deepEqual([admission.tryStart(one), admission.tryStart(one), admission.tryStart(one)], [true, true, false])
    assert.deepEqual([1, 2, 3, 4].map((n) => admission.tryQueue(call(n))), [true, true, true, false])
  })

  it.effect("starts queued calls in their order, one for each that ends", () =>
    Effect.gen(function*() {
      const admission = admissionOf(2, 10, forever)
      const { call, started } = makeCalls()
      admission.beginTurn()
      admission.tryStart(one)
      admission.tryStart(one)
      for (const n of [1, 2, 3, 4]) admission.tryQueue(call(n))
      yield* turn
      assert.deepEqual(started, [])
      admission.ended(one)
      yield* turn
      assert.deepEqual(started, [1])
      admission.ended(one)
      admission.ended(one)
      yield* turn
      assert.deepEqual(started, [1, 2, 3])
      yield* turn
      assert.deepEqual(started, [1, 2, 3])
    }))

  it.effect("lets no new call pass one that waits", () =>
    Effect.gen(function*() {
      const admission = admissionOf(1, 10, forever)
      const { call, started } = makeCalls()
      admission.beginTurn()
      assert.ok(admission.tryStart(one))
      admission.tryQueue(call(1))
      admission.ended(one)
      // There is room for one, and it is taken.
      assert.equal(admission.tryStart(one), false)
      yield* turn
      assert.deepEqual(started, [1])
    }))

  it.effect("forgets a call that leaves the queue, and frees its place for another", () =>
    Effect.gen(function*() {
      const admission = admissionOf(1, 2, forever)
      const { call, started } = makeCalls()
      admission.beginTurn()
      admission.tryStart(one)
      const [first, second, third] = [call(1), call(2), call(3)]
      assert.deepEqual([admission.tryQueue(first), admission.tryQueue(second), admission.tryQueue(third)], [
        true,
        true,
        false
      ])
      admission.leave(first)
      assert.equal(admission.tryQueue(third), true)
      admission.ended(one)
      yield* turn
      admission.ended(one)
      yield* turn
      assert.deepEqual(started, [2, 3])
      admission.ended(one)
      admission.beginTurn()
      assert.ok(admission.tryStart(one))
    }))

  it.effect("puts calls off when the turn's time is up, and starts them in later turns, a part of them in each", () =>
    Effect.gen(function*() {
      const admission = admissionOf(1000, 1000, 2)
      const { call, started } = makeCalls(1)
      admission.beginTurn()
      let atOnce = 0
      for (let n = 0; n < 100; n++) {
        if (started.length === n && admission.tryStart(one)) {
          call(n).start()
          atOnce++
        } else {
          assert.ok(admission.tryQueue(call(n)))
        }
      }
      assert.ok(atOnce >= 2 && atOnce < 20, `${atOnce} at once`)
      let turns = 0
      while (started.length < 100) {
        const before = started.length
        yield* turn
        turns++
        assert.ok(started.length - before < 20, `${started.length - before} in one turn`)
        assert.ok(turns < 200)
      }
      assert.ok(turns > 4)
      assert.deepEqual(started, Array.from({ length: 100 }, (_, n) => n))
    }))

  it.effect("lets a call of another connection start while the calls of a flood are put off", () =>
    Effect.gen(function*() {
      const admission = admissionOf(1000, 1000, 1)
      const { call, started } = makeCalls(1)
      admission.beginTurn()
      for (let n = 0; n < 100; n++) {
        if (admission.tryStart(one)) call(n).start()
        else admission.tryQueue(call(n))
      }
      assert.ok(started.length < 100)
      assert.equal(admission.tryStart(one), false)
      admission.beginTurn()
      assert.ok(admission.tryStart(other))
      while (started.length < 100) yield* turn
    }))

  it("lets no call of another connection pass calls that wait for others to end", () => {
    const admission = admissionOf(2, 10, forever)
    const { call } = makeCalls()
    admission.beginTurn()
    admission.tryStart(one)
    admission.tryStart(one)
    admission.tryQueue(call(1))
    admission.ended(one)
    assert.equal(admission.tryStart(other), false)
  })

  it.effect("starts queued calls connection by connection, each one's in their order", () =>
    Effect.gen(function*() {
      const admission = admissionOf(1, 100, forever)
      const { call, started } = makeCalls()
      const others = makeCalls(0, other)
      admission.beginTurn()
      admission.tryStart(one)
      for (const n of [1, 2, 3]) admission.tryQueue(call(n))
      for (const n of [11, 12]) admission.tryQueue({ ...others.call(n), start: () => started.push(n) })
      for (let ended = 0; ended < 5; ended++) {
        admission.ended(one)
        yield* turn
      }
      assert.deepEqual(started, [1, 11, 2, 12, 3])
    }))

  it("always starts the first call of a turn, even with no time at all", () => {
    const admission = admissionOf(10, 0, 0)
    for (let n = 0; n < 10; n++) {
      admission.beginTurn()
      assert.ok(admission.tryStart(one))
    }
    assert.equal(admission.tryStart(one), false)
  })

  it.effect("puts off rather than refuses where the queue has no places and only time is short", () =>
    Effect.gen(function*() {
      const admission = admissionOf(100, 0, 0)
      const { call, started } = makeCalls()
      admission.beginTurn()
      const now = performance.now()
      while (performance.now() === now) {
        // until the clock has moved on
      }
      const accepted = Array.from({ length: 100 }, (_, n) => admission.tryStart(one) || admission.tryQueue(call(n)))
      assert.ok(accepted.every((yes) => yes))
      assert.equal(admission.tryStart(one) || admission.tryQueue(call(100)), false)
      const waited = accepted.length - 7
      while (started.length < waited) yield* turn
      assert.equal(started.length, waited)
    }))

  it.effect("goes on where a call ends in its own start", () =>
    Effect.gen(function*() {
      const admission = admissionOf(1, 100, forever)
      const ended = { count: 0 }
      admission.beginTurn()
      admission.tryStart(one)
      for (let n = 0; n < 50; n++) {
        admission.tryQueue({
          connection: one,
          isPressed: () => false,
          refuse: () => {},
          start: () => {
            ended.count++
            admission.ended(one)
          }
        })
      }
      admission.ended(one)
      while (ended.count < 50) yield* turn
      admission.beginTurn()
      assert.ok(admission.tryStart(one))
    }))
})
