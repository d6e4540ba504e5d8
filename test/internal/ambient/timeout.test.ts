/**
 * The deadline of a call, from its timeout and the deadline that its fiber is under.
 */
import { describe, it } from "@effect/vitest"
import { Duration, Effect } from "effect"
import { TestClock } from "effect/testing"
import * as assert from "node:assert/strict"
import { Timeouts } from "../../../src/internal/ambient/timeout.ts"

const make = Effect.map(TestClock.make(), (clock) => ({ clock, timeouts: new Timeouts(clock) }))

describe("the deadline of a call", () => {
  it.effect("is never where there is neither a timeout nor an ambient deadline", () =>
    Effect.map(make, ({ timeouts }) => assert.equal(timeouts.deadlineAt(undefined, undefined, 5), Infinity)))

  it.effect("is the earlier of both", () =>
    Effect.map(make, ({ clock, timeouts }) => {
      assert.equal(timeouts.deadlineAt({ at: 100, clock }, "50 millis", 5), 55)
      assert.equal(timeouts.deadlineAt({ at: 40, clock }, "50 millis", 5), 40)
    }))

  it.effect("is the same moment where the ambient deadline is of another clock", () =>
    Effect.gen(function*() {
      const { timeouts } = yield* make
      const other = yield* TestClock.make()
      yield* other.setTime(1000)
      assert.equal(timeouts.deadlineAt({ at: 1030, clock: other }, undefined, 5), 35)
    }))

  it.effect("is that of each timeout, whatever the one before was", () =>
    Effect.map(make, ({ timeouts }) => {
      const ends = ["1 second", "1 second", "2 seconds", 10, Duration.millis(20), "1 second"] as const
      assert.deepEqual(ends.map((timeout) => timeouts.deadlineAt(undefined, timeout, 0)), [
        1000,
        1000,
        2000,
        10,
        20,
        1000
      ])
    }))

  it.effect("is refused where the timeout is no duration", () =>
    Effect.map(make, ({ timeouts }) => assert.throws(() => timeouts.deadlineAt(undefined, NaN, 0), /timeout/)))
})
