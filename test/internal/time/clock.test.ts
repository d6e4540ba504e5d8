import { describe, it } from "@effect/vitest"
import { Clock, Context, Effect, Fiber } from "effect"
import { TestClock } from "effect/testing"
import * as assert from "node:assert/strict"
import { CoarseClock, nowMillis, nowTicks, secondsBetween, sleepMillis } from "../../../src/internal/time/clock.ts"
import { clockThat } from "../../support/clock.ts"

it.effect("a sleep of less than half a nanosecond still lets the time come for which it waits", () =>
  Effect.gen(function*() {
    const clock = yield* Clock.clockWith(Effect.succeed)
    const until = nowMillis(clock) + 4e-7
    const sleeping = yield* Effect.forkChild(sleepMillis(clock, until - nowMillis(clock)), { startImmediately: true })
    assert.equal(sleeping.pollUnsafe(), undefined)
    yield* TestClock.adjust("1 millis")
    yield* Fiber.join(sleeping)
    assert.ok(nowMillis(clock) >= until)
  }))

describe("a clock that is read once for what happens together", () => {
  /** A clock that is a second later each time that it is read. */
  const make = () => {
    let readings = 0
    const clock = new CoarseClock(clockThat(() => 1000 * ++readings))
    return { clock, readings: () => readings }
  }

  it("is not read before it is needed", () => {
    assert.equal(make().readings(), 0)
  })

  it("says the same time 16 times, and is then read again", () => {
    const { clock, readings } = make()
    const times = Array.from({ length: 33 }, () => clock.now())
    assert.equal(readings(), 3)
    assert.deepEqual(times.slice(0, 16), Array.from({ length: 16 }, () => times[0]))
    assert.deepEqual(times.slice(16, 32), Array.from({ length: 16 }, () => times[16]))
    assert.deepEqual([0, 16, 32].map((i) => secondsBetween(times[0]!, times[i]!)), [0, 1, 2])
  })

  it("is read again when it has been told to forget, and then for all that comes together after that", () => {
    const { clock, readings } = make()
    const before = clock.now()
    clock.forget()
    const after = Array.from({ length: 16 }, () => clock.now())
    assert.equal(readings(), 2)
    assert.deepEqual(after.map((time) => secondsBetween(before, time)), Array.from({ length: 16 }, () => 1))
  })

  it("is not read when it forgets its time, even many times", () => {
    const { clock, readings } = make()
    for (let i = 0; i < 100; i++) clock.forget()
    assert.equal(readings(), 0)
    clock.now()
    assert.equal(readings(), 1)
  })

  it.effect("uses the clock that it is given", () =>
    Effect.gen(function*() {
      const clock = new CoarseClock(yield* Clock.clockWith(Effect.succeed))
      const start = clock.now()
      yield* TestClock.adjust("3 seconds")
      assert.equal(secondsBetween(start, clock.now()), 0)
      clock.forget()
      assert.equal(secondsBetween(start, clock.now()), 3)
    }))
})

describe("the time in ticks", () => {
  const at = (millis: number) => nowTicks(clockThat(() => millis))
  const week = 7 * 24 * 3600 * 1000

  it("tells 10 microseconds apart", () => {
    assert.equal(secondsBetween(at(5), at(5.01)), 0.000_01)
    assert.equal(secondsBetween(at(0), at(0.009)), 0)
  })

  it("is a small integer, even after the process has run for long", () => {
    for (const millis of [0, 0.005, 1e7 + 0.3, week, 500 * week]) {
      assert.ok(Number.isInteger(at(millis)) && at(millis) >= 0 && at(millis) < 2 ** 31, `${at(millis)}`)
    }
  })

  it("gives the seconds between two moments, at any time of a process", () => {
    // Every half hour of a week: also where the ticks start over in between.
    for (let start = 0; start < week; start += 1_800_000) {
      for (const seconds of [0, 0.25, 3, 3600, 5 * 3600]) {
        assert.equal(secondsBetween(at(start), at(start + 1000 * seconds)), seconds)
      }
    }
  })

  it("is that of the live clock, too", () => {
    const live = Context.get(Context.empty(), Clock.Clock)
    const [start, before, end] = [nowTicks(live), nowMillis(live), nowTicks(live)]
    assert.ok(secondsBetween(start, at(before)) < 1 && secondsBetween(at(before), end) < 1)
  })
})
