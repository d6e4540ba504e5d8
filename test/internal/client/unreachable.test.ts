/**
 * The errors of calls that have no endpoint left.
 */
import { describe, it } from "@effect/vitest"
import { Cause, Effect } from "effect"
import { CallError, Resolver } from "effect-call"
import { TestClock } from "effect/testing"
import * as assert from "node:assert/strict"
import { Attempts } from "../../../src/internal/client/attempts.ts"
import { Roster } from "../../../src/internal/client/roster.ts"
import { Unavailable } from "../../../src/internal/client/unavailable.ts"
import { UnreachableErrors, unreachableOf } from "../../../src/internal/client/unreachable.ts"
import { poolOf } from "./support.ts"

const none = new CallError.Unreachable({ message: "every endpoint was tried", attempts: [] })

/** Two endpoints in backoff, the first until 10, the second until 20. */
const down = Effect.gen(function*() {
  const clock = yield* TestClock.make()
  const roster = new Roster()
  const pools = ["a", "b"].map((address, index) =>
    poolOf(address, { backoffUntil: 10 * (index + 1), lastFailure: "refused" })
  )
  for (const pool of pools) {
    roster.add(pool)
    roster.noteFailure(pool)
    roster.noteBackoff(pool)
  }
  const errors = new UnreachableErrors(clock, roster)
  errors.update(pools.length)
  const unavailable: ReadonlySet<string> = new Set(["a", "b"])
  const make = (attempts = new Attempts(Infinity)) => errors.make(none, attempts, unavailable, roster.version)
  return { clock, errors, make, pools, roster }
})

describe("the error of a call without an endpoint", () => {
  it.effect("names the last failure of each endpoint", () =>
    Effect.gen(function*() {
      const { make } = yield* down
      assert.deepEqual(make().attempts, [
        { endpoint: "a", message: "refused" },
        { endpoint: "b", message: "refused" }
      ])
    }))

  it.effect("names also endpoints whose backoff has ended since the balancer was asked", () =>
    Effect.gen(function*() {
      const { clock, errors, roster } = yield* down
      const asked = new Unavailable(roster, Infinity, new Set(), 0)
      const { version } = roster
      yield* clock.adjust(20)
      const { attempts } = errors.make(none, new Attempts(Infinity), asked, version)
      assert.deepEqual(attempts.map(({ endpoint }) => endpoint), ["a", "b"])
    }))

  it.effect("is shared by calls that have met nothing else, until something changes", () =>
    Effect.gen(function*() {
      const { errors, make } = yield* down
      const first = make()
      assert.equal(make(), first)
      errors.forget()
      assert.notEqual(make(), first)
    }))

  it.effect("is not shared with a call that has met another failure", () =>
    Effect.gen(function*() {
      const { make, pools } = yield* down
      const first = make()
      const attempts = new Attempts(Infinity)
      attempts.noteLost(pools[0]!)
      const own = make(attempts)
      assert.notEqual(own, first)
      assert.match(own.message, /a: the connection was lost before the request was sent: refused/)
    }))

  it.effect("about backoffs is shared until the first of them ends", () =>
    Effect.gen(function*() {
      const { clock, make, pools } = yield* down
      const first = make()
      yield* clock.adjust(9)
      assert.equal(make(), first)
      yield* clock.adjust(1)
      pools[0]!.backoffUntil = 0
      assert.notEqual(make(), first)
    }))

  it.effect("says what the resolver has said last", () =>
    Effect.gen(function*() {
      const { errors, make } = yield* down
      errors.resolverAnswered({ endpoints: [], version: undefined, problem: "no such name" })
      assert.match(make().message, /; no such name$/)
      errors.resolverFailed(Cause.fail(new Resolver.ResolverError({ message: "timed out" })))
      assert.match(make().message, /; no such name; the resolver failed: timed out$/)
      errors.resolverAnswered({ endpoints: [], version: undefined })
      assert.doesNotMatch(make().message, /resolver|name/)
    }))

  it("is whatever a user's balancer fails with, as an error", () => {
    assert.equal(unreachableOf(none), none)
    assert.equal(unreachableOf("closed today").message, "the balancer failed: closed today")
  })
})
