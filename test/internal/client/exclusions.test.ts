/**
 * Which endpoints are excluded, and for which calls.
 */
import { describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { Balancer } from "effect-call"
import { TestClock } from "effect/testing"
import * as assert from "node:assert/strict"
import { excludedFor, Exclusions } from "../../../src/internal/client/exclusions.ts"
import { Outliers } from "../../../src/internal/client/outliers.ts"
import type { Pool } from "../../../src/internal/client/pool.ts"
import { Roster } from "../../../src/internal/client/roster.ts"
import { poolOf } from "./support.ts"

const nothingTried: ReadonlySet<string> = new Set()

interface Given {
  readonly eager?: boolean
  readonly health?: string
  readonly hasPriorities?: boolean
}

/** The exclusions of a client with these endpoints, where one failed call ejects an endpoint for a second. */
const withPools = Effect.fnUntraced(function*(
  pools: ReadonlyArray<Pool>,
  { eager = false, hasPriorities = false, health }: Given = {}
) {
  const clock = yield* TestClock.make()
  const settings = { failures: 1, duration: 1000, maxDuration: 1000, ejectsShards: true }
  const roster = new Roster()
  const outliers = new Outliers(settings)
  const exclusions = new Exclusions(clock, roster, outliers, { eager, health, outlierEjection: settings })
  for (const pool of pools) roster.add(pool)
  exclusions.update(pools, hasPriorities)
  const eject = (pool: Pool) => {
    pool.failuresInARow = 1
    assert.ok(outliers.failed(pool, pools.length, clock.currentTimeMillisUnsafe()))
    exclusions.forget()
  }
  return { clock, eject, exclusions, roster }
})

const four = () => ["a", "b", "c", "d"].map((address) => poolOf(address))

describe("endpoints", () => {
  it.effect("of which all are equal are not excluded, and a balancer gets the same empty set each time", () =>
    Effect.gen(function*() {
      const { exclusions } = yield* withPools(four())
      const balancer = yield* Balancer.roundRobin
      const first = excludedFor(exclusions.now(), balancer, undefined)
      assert.equal(first.size, 0)
      assert.equal(excludedFor(exclusions.now(), balancer, undefined), first)
    }))

  it.effect("that are ejected are excluded for as long as they are", () =>
    Effect.gen(function*() {
      const pools = four()
      const { clock, eject, exclusions } = yield* withPools(pools)
      eject(pools[1]!)
      assert.deepEqual([...exclusions.now().all], ["b"])
      yield* clock.adjust(999)
      assert.deepEqual([...exclusions.now().all], ["b"])
      yield* clock.adjust(1)
      assert.deepEqual([...exclusions.now().all], [])
    }))

  it.effect("that cannot be called leave an ejected one eligible where it is the last", () =>
    Effect.gen(function*() {
      const pools = four()
      const { eject, exclusions } = yield* withPools(pools)
      eject(pools[0]!)
      assert.deepEqual([...exclusions.look(Infinity, new Set(["b", "c"])).all].sort(), ["a", "b", "c"])
      assert.deepEqual([...exclusions.look(Infinity, new Set(["b", "c", "d"])).all].sort(), ["b", "c", "d"])
    }))

  it.effect("that are ejected are excluded for keys, too, also where they are the last", () =>
    Effect.gen(function*() {
      const pools = four()
      const { eject, exclusions } = yield* withPools(pools)
      const sharded = yield* Balancer.sharded
      eject(pools[0]!)
      const exclusion = exclusions.look(Infinity, new Set(["b", "c", "d"]))
      assert.deepEqual([...excludedFor(exclusion, sharded, 0n)].sort(), ["a", "b", "c", "d"])
      assert.deepEqual([...excludedFor(exclusion, sharded, undefined)].sort(), ["b", "c", "d"])
    }))

  it.effect("that do not serve are excluded unless fewer than half were left", () =>
    Effect.gen(function*() {
      const pools = four()
      const { exclusions } = yield* withPools(pools, { health: "" })
      pools[0]!.isServing = false
      pools[1]!.isServing = false
      exclusions.forget()
      assert.deepEqual([...exclusions.now().all], ["a", "b"])
      pools[2]!.isServing = false
      exclusions.forget()
      assert.deepEqual([...exclusions.now().all], [])
    }))

  it.effect("without a connection are excluded where the client is eager and another has one", () =>
    Effect.gen(function*() {
      const pools = four()
      const { exclusions } = yield* withPools(pools, { eager: true })
      assert.deepEqual([...exclusions.now().all], [])
      pools[2]!.isOpen = true
      exclusions.forget()
      assert.deepEqual([...exclusions.now().all], ["a", "b", "d"])
    }))

  it.effect("with a worse priority are excluded until all with the best are ejected", () =>
    Effect.gen(function*() {
      const pools = ["a", "b", "c", "d"].map((address, index) => poolOf(address, { priority: index < 2 ? 0 : 1 }))
      const { eject, exclusions } = yield* withPools(pools, { hasPriorities: true })
      assert.deepEqual([...exclusions.now().all], ["c", "d"])
      eject(pools[0]!)
      eject(pools[1]!)
      assert.deepEqual([...exclusions.now().all], ["a", "b"])
    }))

  it.effect("are looked at once for all calls that began after the same failure", () =>
    Effect.gen(function*() {
      const pools = four()
      const { exclusions, roster } = yield* withPools(pools)
      const fail = (pool: ReturnType<typeof poolOf>) => {
        pool.backoffUntil = 1e9
        roster.noteFailure(pool)
        roster.noteBackoff(pool)
      }
      fail(pools[0]!)
      const first = exclusions.look(0, nothingTried)
      assert.equal(exclusions.look(0, nothingTried), first)
      fail(pools[1]!)
      const second = exclusions.look(0, nothingTried)
      assert.notEqual(second, first)
      assert.deepEqual([...second.unavailable], ["a", "b"])
    }))

  it.effect("that a user's balancer is to avoid are a set that does not change", () =>
    Effect.gen(function*() {
      const pools = four()
      const { exclusions, roster } = yield* withPools(pools)
      const own: Balancer.Balancer = { update: () => {}, pick: () => Effect.never }
      pools[0]!.backoffUntil = 1e9
      roster.noteFailure(pools[0]!)
      roster.noteBackoff(pools[0]!)
      exclusions.forget()
      const given = excludedFor(exclusions.now(), own, undefined)
      pools[1]!.backoffUntil = 1e9
      roster.noteFailure(pools[1]!)
      roster.noteBackoff(pools[1]!)
      assert.deepEqual([...given], ["a"])
    }))
})
