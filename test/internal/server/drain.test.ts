import { describe, it } from "@effect/vitest"
import * as fc from "fast-check"
import * as assert from "node:assert/strict"
import { Drain, type DrainState, holdAt } from "../../../src/internal/server/drain.ts"

const states: ReadonlyArray<DrainState> = ["serving", "leaving", "lastWord", "holding", "closing", "ended"]

describe("the end of a connection", () => {
  it("can be reached from each state, and nothing comes after it", () => {
    fc.assert(fc.property(fc.array(fc.constantFrom(...states), { maxLength: 30 }), (wanted) => {
      const drain = new Drain()
      for (const state of wanted) {
        const before = drain.state
        try {
          drain.become(state)
          assert.notEqual(before, "ended")
          assert.equal(drain.state, state)
        } catch (error) {
          assert.match(String(error), new RegExp(`a connection that is ${before} cannot become ${state}`))
          assert.equal(drain.state, before)
        }
      }
      if (drain.state === "serving") drain.become("leaving")
      if (drain.state !== "ended") drain.become("ended")
      assert.throws(() => drain.become("serving"))
    }))
  })

  it("is not undone, but for one that was only being waited for", () => {
    const drain = new Drain()
    assert.equal(drain.isGoingAway, false)
    for (const state of ["leaving", "holding", "leaving", "holding", "closing"] as const) drain.become(state)
    assert.deepEqual([drain.isGoingAway, drain.isLast], [true, true])
    for (const state of ["serving", "leaving", "holding", "lastWord"] as const) {
      assert.throws(() => drain.become(state), /expected ended$/)
    }
  })

  it("is prepared for in the last second of the grace, or in its second half", () => {
    assert.deepEqual([holdAt(70_000, 60_000), holdAt(12_000, 2000), holdAt(10_500, 500)], [69_000, 11_000, 10_250])
  })
})
