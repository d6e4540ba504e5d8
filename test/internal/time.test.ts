import { it } from "@effect/vitest"
import { Clock, Effect, Fiber } from "effect"
import { TestClock } from "effect/testing"
import * as assert from "node:assert/strict"
import { nowMillis, sleepMillis } from "../../src/internal/time.ts"

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
