import { describe, it } from "@effect/vitest"
import * as assert from "node:assert/strict"
import { eligibleOf } from "../../../src/internal/balancer/excluded.ts"
import type { Pool } from "../../../src/internal/client/pool.ts"
import { Roster } from "../../../src/internal/client/roster.ts"
import { Unavailable } from "../../../src/internal/client/unavailable.ts"

/** A roster of endpoints, of which those in `failed` are in backoff until that time. */
const rosterOf = (addresses: ReadonlyArray<string>, failed: ReadonlyMap<string, number>) => {
  const roster = new Roster()
  const pools = new Map<string, { failureNumber: number; backoffUntil: number }>()
  for (const address of addresses) {
    // What a roster reads of a Pool.
    const self = { address, failureNumber: 0, backoffUntil: 0, isOpen: false }
    const pool = self as unknown as Pool
    roster.add(pool)
    pools.set(address, self)
    const until = failed.get(address)
    if (until === undefined) continue
    self.backoffUntil = until
    roster.noteFailure(pool)
    roster.noteBackoff(pool)
  }
  return { roster, pools }
}

describe("the unavailable endpoints of a call", () => {
  it("are those in backoff, those that failed since the call began, and those that it has tried", () => {
    const { roster } = rosterOf(["a", "b", "c", "d"], new Map([["a", 200], ["b", 50]]))
    // By the time 100, the backoff of b is over.
    const later = new Unavailable(roster, roster.failures, new Set(["c"]), 100)
    assert.deepEqual(["a", "b", "c", "d"].filter((address) => later.has(address)), ["a", "c"])
    // A call that began before both failures.
    const earlier = new Unavailable(roster, 0, new Set(), 100)
    assert.deepEqual(["a", "b", "c", "d"].filter((address) => earlier.has(address)), ["a", "b"])
  })

  it("do not change once they were listed", () => {
    const { pools, roster } = rosterOf(["a", "b"], new Map([["a", 200]]))
    const set = new Unavailable(roster, roster.failures, new Set(), 100)
    assert.deepEqual([...set], ["a"])
    pools.get("a")!.backoffUntil = 0
    assert.deepEqual([set.has("a"), set.size, [...set.keys()]], [true, 1, ["a"]])
  })

  it("leave the others eligible", () => {
    const { roster } = rosterOf(["a", "b", "c"], new Map([["a", 200]]))
    const set = new Unavailable(roster, 0, new Set(), 100)
    const eligible = [...set[eligibleOf]()].filter((address) => !set.has(address))
    assert.deepEqual(eligible.sort(), ["b", "c"])
  })

  it("can be joined with other sets, if the runtime's sets can", () => {
    const { roster } = rosterOf(["a", "b"], new Map([["a", 200]]))
    const set = new Unavailable(roster, 0, new Set(), 100)
    const union: unknown = Reflect.get(Set.prototype, "union")
    if (typeof union !== "function") return
    const joined: unknown = Reflect.apply(Reflect.get(set, "union"), set, [new Set(["z"])])
    assert.deepEqual(joined, new Set(["a", "z"]))
  })
})
