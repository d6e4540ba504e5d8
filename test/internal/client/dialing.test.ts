import { describe, it } from "@effect/vitest"
import { Clock, Effect } from "effect"
import { TestClock } from "effect/testing"
import * as assert from "node:assert/strict"
import { type BackoffTimes, Dialing } from "../../../src/internal/client/dialing.ts"

const make = (size: number, times: Partial<BackoffTimes> = {}, random = 0.5) =>
  Effect.gen(function*() {
    return new Dialing({
      clock: yield* Clock.Clock,
      context: yield* Effect.context<never>(),
      scope: yield* Effect.scope,
      backoff: { initial: 100, factor: 2, max: 1000, jitter: 0, ...times },
      random: () => random
    }, size)
  })

describe("an endpoint that cannot be dialed", () => {
  it.effect("is in backoff for longer with each failure, up to the longest, until it is connected", () =>
    Effect.gen(function*() {
      const dialing = yield* make(1)
      const waits: Array<number> = []
      let now = 10
      for (let i = 0; i < 6; i++) {
        dialing.failed(now)
        waits.push(dialing.backoffUntil - now)
        now = dialing.backoffUntil
      }
      assert.deepEqual([waits, dialing.state], [[100, 200, 400, 800, 1000, 1000], "Failing"])
      dialing.connected()
      assert.deepEqual([dialing.backoffUntil, dialing.state], [0, "Sound"])
      dialing.failed(now)
      assert.equal(dialing.backoffUntil - now, 100)
    }))

  it.effect("has failed once when several dials fail within one backoff", () =>
    Effect.gen(function*() {
      const dialing = yield* make(3)
      dialing.failed(0)
      dialing.failed(50)
      dialing.failed(99)
      assert.equal(dialing.backoffUntil, 100)
      dialing.failed(100)
      assert.equal(dialing.backoffUntil, 300)
    }))

  it.effect("is in backoff for no longer than the longest, whatever the jitter", () =>
    Effect.gen(function*() {
      const long = yield* make(1, { initial: 1000, jitter: 0.5 }, 1)
      long.failed(0)
      assert.equal(long.backoffUntil, 1000)
      const short = yield* make(1, { initial: 1000, jitter: 0.5 }, 0)
      short.failed(0)
      assert.equal(short.backoffUntil, 500)
    }))

  it.effect("counts its failures where the backoff has no length", () =>
    Effect.gen(function*() {
      const dialing = yield* make(1, { initial: 0 })
      dialing.failed(0)
      assert.deepEqual([dialing.backoffUntil, dialing.state], [0, "Failing"])
    }))
})

describe("a dial that is cut short", () => {
  it.effect("is repeated once for each connection", () =>
    Effect.gen(function*() {
      const dialing = yield* make(2)
      assert.deepEqual([dialing.repeat(), dialing.repeat(), dialing.repeat()], [true, true, false])
      dialing.connected()
      assert.equal(dialing.repeat(), true)
    }))

  it.effect("is not repeated after another has failed", () =>
    Effect.gen(function*() {
      const dialing = yield* make(2)
      dialing.failed(0)
      assert.equal(dialing.repeat(), false)
    }))
})

describe("connections that are lost", () => {
  it.effect("are dialed again at once, but not more often in a second than there are connections", () =>
    Effect.gen(function*() {
      const dialing = yield* make(2)
      assert.deepEqual([dialing.lost(0), dialing.lost(100), dialing.lost(200), dialing.lost(300)], [0, 0, 800, 700])
      assert.equal(dialing.lost(1000), 0)
    }))
})

describe("what dials by itself", () => {
  it.effect("dials at once where there is no backoff", () =>
    Effect.gen(function*() {
      const dialing = yield* make(1)
      let dials = 0
      dialing.whenDue(0, () => dials++)
      assert.equal(dials, 1)
    }))

  it.effect("dials once when the backoff is over that there is by then", () =>
    Effect.gen(function*() {
      const dialing = yield* make(1)
      let dials = 0
      const dial = () => void dials++
      dialing.failed(0)
      dialing.whenDue(1, dial)
      dialing.whenDue(1, dial)
      yield* TestClock.adjust("99 millis")
      assert.equal(dials, 0)
      yield* TestClock.adjust("1 millis")
      assert.equal(dials, 1)
      dialing.failed(100)
      dialing.whenDue(0, dial)
      yield* TestClock.adjust("199 millis")
      dialing.failed(299)
      assert.equal(dials, 1)
      yield* TestClock.adjust("1 millis")
      assert.equal(dials, 2)
    }))

  it.effect("dials no more when it was stopped", () =>
    Effect.gen(function*() {
      const dialing = yield* make(1)
      let dials = 0
      dialing.failed(0)
      dialing.whenDue(0, () => dials++)
      dialing.stop()
      yield* TestClock.adjust("1 hour")
      assert.equal(dials, 0)
    }))
})
