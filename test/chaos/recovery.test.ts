import { describe, it } from "@effect/vitest"
import * as assert from "node:assert/strict"
import { Recovery } from "./recovery.ts"

describe("how soon a replica is used again", () => {
  it("is measured from when it listens until it has answered, and reported for the slowest", () => {
    const recovery = new Recovery()
    recovery.started(1, "a", 1000)
    recovery.answered(1, "x", 1100)
    recovery.answered(1, "x", 9000)
    recovery.answered(1, "y", 1300)
    recovery.started(2, "a", 10_000)
    recovery.answered(2, "y", 10_150)
    assert.deepEqual(recovery.finish(), {
      first: { replica: "a", stamp: 2, millis: 150 },
      any: { replica: "a", stamp: 1, millis: 300 }
    })
    assert.equal(recovery.used, 2)
  })

  it("does not count the time in which it was not listed, or could not be reached", () => {
    const recovery = new Recovery()
    recovery.started(1, "a", 1000)
    recovery.listed("x", "a", 2000)
    recovery.listed("y", "a", 900)
    recovery.healed("a", 2500)
    recovery.healed("b", 9000)
    recovery.answered(1, "x", 2600)
    recovery.listed("y", "a", 3000)
    recovery.answered(1, "y", 3001)
    assert.deepEqual(recovery.finish(), {
      first: { replica: "a", stamp: 1, millis: 1 },
      any: { replica: "a", stamp: 1, millis: 100 }
    })
  })

  it("counts up to a fault where the answer comes in it", () => {
    const recovery = new Recovery()
    recovery.started(1, "a", 1000)
    recovery.disturbed("a", 1200)
    recovery.answered(1, "x", 1900)
    recovery.healed("a", 2000)
    recovery.answered(1, "y", 2030)
    const { any, first } = recovery.finish()
    assert.deepEqual([first?.millis, any?.millis], [30, 200])
  })

  it("is unknown for a replica that has had no call, or that answers after its end", () => {
    const recovery = new Recovery()
    recovery.started(1, "a", 1000)
    recovery.started(2, "a", 2000)
    recovery.answered(1, "x", 3000)
    assert.deepEqual(recovery.finish(), { first: undefined, any: undefined })
    assert.equal(recovery.used, 0)
  })
})
