import { describe, it } from "@effect/vitest"
import * as assert from "node:assert/strict"
import { checkMemory } from "./checks.ts"
import { limits } from "./limits.ts"
import { Resident } from "./resident.ts"
import { Violations } from "./violations.ts"

const mebibyte = 2 ** 20
const before = { heapUsed: 30 * mebibyte, external: 20 * mebibyte, rss: 0 }

/** What is found where the RSS was `rss` and so much more is alive at the end. */
const found = (rss: (second: number) => number, seconds: number = limits.settled, more = 0) => {
  const resident = new Resident()
  for (let second = 0; second < seconds; second++) resident.add(rss(second))
  const violations = new Violations()
  checkMemory({ start: before, end: { ...before, external: before.external + more }, resident, seconds }, violations)
  return violations.told.map(({ check }) => check)
}

describe("the memory of a soak's driver", () => {
  it("is fine where it settles, and where the run is too short for that", () => {
    assert.deepEqual(found((second) => Math.min(second, 200)), [])
    assert.deepEqual(found((second) => second, 60), [])
  })

  it("is not where its RSS goes on growing", () => {
    assert.deepEqual(found((second) => 100 + second), ["residentGrew"])
  })

  it("is not where more is alive than the account of the calls takes", () => {
    assert.deepEqual(found(() => 1, 60, 16 * mebibyte), [])
    assert.deepEqual(found(() => 1, 60, 40 * mebibyte), ["memoryGrew"])
  })
})
