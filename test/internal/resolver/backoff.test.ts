import { describe, it } from "@effect/vitest"
import { Clock, Effect, Fiber, Random, type Schedule } from "effect"
import { TestClock } from "effect/testing"
import * as assert from "node:assert/strict"
import { backoff } from "../../../src/internal/resolver/backoff.ts"

/** A source of random numbers that always gives the same one. */
const always = (drawn: number): typeof Random.Random.Service => ({
  nextDoubleUnsafe: () => drawn,
  nextIntUnsafe: () => 0
})

/** The first waits of a schedule. */
const waitsOf = Effect.fnUntraced(function*(schedule: Schedule.Schedule<unknown>, count: number) {
  const times: Array<number> = []
  const note = Effect.map(Clock.currentTimeMillis, (now) => void times.push(now))
  const repeating = yield* Effect.forkChild(Effect.repeat(note, schedule), { startImmediately: true })
  while (times.length <= count) yield* TestClock.adjust(1)
  yield* Fiber.interrupt(repeating)
  return times.slice(1, count + 1).map((time, i) => time - times[i]!)
})

describe("backoff", () => {
  const schedule = backoff({ firstMillis: 100, factor: 2, longestMillis: 500, jitter: 0.4 })

  it.effect("grows by its factor up to the longest wait", () =>
    Effect.gen(function*() {
      assert.deepEqual(yield* waitsOf(schedule, 5), [100, 200, 400, 500, 500])
    }).pipe(Effect.provideService(Random.Random, always(0))))

  it.effect("leaves out a part of each wait, up to the jitter", () =>
    Effect.gen(function*() {
      assert.deepEqual(yield* waitsOf(schedule, 4), [80, 160, 320, 400])
    }).pipe(Effect.provideService(Random.Random, always(0.5))))

  it.effect("goes on with half of the jitter where a user's Random throws", () =>
    Effect.gen(function*() {
      assert.deepEqual(yield* waitsOf(schedule, 2), [80, 160])
    }).pipe(Effect.provideService(Random.Random, {
      nextDoubleUnsafe: () => {
        throw new Error("no luck")
      },
      nextIntUnsafe: () => 0
    })))

  it.effect("begins again with each use", () =>
    Effect.gen(function*() {
      assert.deepEqual(yield* waitsOf(schedule, 2), [100, 200])
      assert.deepEqual(yield* waitsOf(schedule, 2), [100, 200])
    }).pipe(Effect.provideService(Random.Random, always(0))))
})
