import { describe, it } from "@effect/vitest"
import * as assert from "node:assert/strict"
import type { Pool } from "../../../src/internal/client/pool.ts"
import { Roster } from "../../../src/internal/client/roster.ts"

/** What a roster looks at of a Pool, and nothing else; it counts the looks at its backoff. */
const poolOf = (address: string) => {
  const seen = { looks: 0 }
  let until = 0
  const self = {
    address,
    failureNumber: 0,
    isOpen: false,
    get backoffUntil() {
      seen.looks++
      return until
    }
  }
  const pool = self as unknown as Pool
  const fail = (roster: Roster, at: number) => {
    until = at
    roster.noteFailure(pool)
    roster.noteBackoff(pool)
  }
  const dial = (roster: Roster) => {
    until = 0
    roster.noteChange(pool)
  }
  return { pool, seen, fail, dial }
}

describe("a roster", () => {
  it("keeps no backoffs that are over, also where endpoints are dialed for long and no call looks", () => {
    const roster = new Roster()
    const [a, b] = [poolOf("a"), poolOf("b")]
    for (const { pool } of [a, b]) roster.add(pool)
    b.fail(roster, 20_000)
    for (let at = 1; at <= 10_000; at++) {
      a.fail(roster, at)
      a.dial(roster)
    }
    a.fail(roster, 10_001)
    a.seen.looks = 0
    roster.settle(10_000)
    assert.ok(a.seen.looks < 200, `${a.seen.looks} looks at its backoff`)
    assert.deepEqual([roster.until, ...roster.available(Infinity)], [10_001])
    roster.settle(10_001)
    assert.deepEqual([roster.until, ...roster.available(Infinity)], [20_000, "a"])
  })

  it("keeps nothing of endpoints that have gone", () => {
    const roster = new Roster()
    for (const { fail, pool } of Array.from({ length: 1000 }, (_, i) => poolOf(`${i}`))) {
      roster.add(pool)
      fail(roster, 1e9)
      roster.remove(pool)
      roster.pools.delete(pool.address)
    }
    const last = poolOf("last")
    roster.add(last.pool)
    // They are looked through now and then.
    for (let i = 0; i < 100; i++) last.fail(roster, 2e9)
    assert.equal(roster.until, 2e9)
  })
})
