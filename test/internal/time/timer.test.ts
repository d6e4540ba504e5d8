import { describe, it } from "@effect/vitest"
import { Clock, Effect } from "effect"
import { TestClock } from "effect/testing"
import * as assert from "node:assert/strict"
import { nowMillis } from "../../../src/internal/time/clock.ts"
import { DeadlineTimer } from "../../../src/internal/time/timer.ts"

/** A timer over a list of deadlines, and which of them it ended when. */
const makeTimer = Effect.gen(function*() {
  const clock = yield* Clock.Clock
  const context = yield* Effect.context<never>()
  let deadlines: Array<number> = []
  const ended: Array<readonly [at: number, now: number]> = []
  let wakes = 0
  const timer = new DeadlineTimer(clock, context, (now) => {
    wakes++
    for (const at of deadlines) if (at <= now) ended.push([at, now])
    deadlines = deadlines.filter((at) => at > now)
    return Math.min(Infinity, ...deadlines)
  })
  return {
    clock,
    timer,
    ended,
    wakes: () => wakes,
    add: (at: number) => {
      deadlines.push(at)
      timer.arm(at)
    },
    settle: (at: number) => {
      deadlines = deadlines.filter((deadline) => deadline !== at)
    }
  }
})

describe("a timer for deadlines", () => {
  it.effect("ends each at its time, in any order of arrival", () =>
    Effect.gen(function*() {
      const { add, ended } = yield* makeTimer
      for (const at of [300, 100, 500, 100, 200, 400]) add(at)
      yield* TestClock.adjust(99)
      assert.deepEqual(ended, [])
      yield* TestClock.adjust(1000)
      assert.deepEqual(ended, [[100, 100], [100, 100], [200, 200], [300, 300], [400, 400], [500, 500]])
    }))

  it.effect("wakes once for the earliest of any number, and not at all for none", () =>
    Effect.gen(function*() {
      const { add, timer, wakes } = yield* makeTimer
      for (let at = 1000; at > 100; at--) add(at)
      yield* TestClock.adjust(100)
      assert.equal(wakes(), 0)
      yield* TestClock.adjust(1)
      assert.equal(wakes(), 1)
      timer.arm(Infinity)
      yield* TestClock.adjust("1 hour")
      const before = wakes()
      assert.equal(before, 900)
      yield* TestClock.adjust("1 hour")
      assert.equal(wakes(), before)
    }))

  it.effect("wakes for one that was settled before, finds nothing to do, and goes on", () =>
    Effect.gen(function*() {
      const { add, ended, settle, wakes } = yield* makeTimer
      add(100)
      add(200)
      settle(100)
      yield* TestClock.adjust(100)
      assert.equal(wakes(), 1)
      assert.deepEqual(ended, [])
      yield* TestClock.adjust(100)
      assert.deepEqual(ended, [[200, 200]])
    }))

  it.effect("ends at once what is due already", () =>
    Effect.gen(function*() {
      const { add, ended } = yield* makeTimer
      yield* TestClock.adjust(100)
      add(50)
      add(100)
      assert.deepEqual(ended, [[50, 100], [100, 100]])
    }))

  it.effect("does nothing after it was stopped", () =>
    Effect.gen(function*() {
      const { add, timer, wakes } = yield* makeTimer
      add(100)
      timer.stop()
      add(50)
      yield* TestClock.adjust("1 hour")
      assert.equal(wakes(), 0)
    }))

  it.effect("ends each at its time on a clock that rounds", () =>
    Effect.gen(function*() {
      // Tenths, thirds and the like are no whole nanoseconds, and sums of them no sums of doubles.
      const { add, clock, ended, wakes } = yield* makeTimer
      const steps = [0.1, 1 / 3, 47.123456789, 0.7, 1e-7, 99.9999999]
      for (let i = 0; i < 300; i++) {
        yield* TestClock.adjust(steps[i % steps.length]!)
        const before = wakes()
        add(nowMillis(clock) + 100)
        // Within a nanosecond or two.
        yield* TestClock.adjust(100.000002)
        assert.equal(ended.length, i + 1, `deadline ${i}`)
        assert.equal(wakes(), before + 1)
      }
    }))

  it.live("never ends one before its time", () =>
    Effect.gen(function*() {
      const { add, clock, ended } = yield* makeTimer
      const now = nowMillis(clock)
      for (let i = 0; i < 50; i++) add(now + i * 1.37)
      while (ended.length < 50) yield* Effect.sleep(1)
      for (const [at, seen] of ended) assert.ok(seen >= at, `${at} ended at ${seen}`)
    }))
})
