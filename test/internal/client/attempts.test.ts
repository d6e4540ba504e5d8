/**
 * What a call on the slow path has been through.
 */
import { describe, it } from "@effect/vitest"
import { Exit } from "effect"
import { MethodKey } from "effect-call"
import * as assert from "node:assert/strict"
import { Attempts } from "../../../src/internal/client/attempts.ts"
import { Call } from "../../../src/internal/client/call.ts"
import { poolOf } from "./support.ts"

const callWith = (waitForReady: boolean): Call =>
  Object.assign(
    new Call(MethodKey.make("test", "method"), { waitForReady }, Infinity, undefined, undefined, () => Exit.void, {
      onUnsent: () => {},
      onRefused: () => {}
    }),
    { since: 7 }
  )

describe("attempts", () => {
  it("count endpoints as tried that have failed since the call began", () => {
    const attempts = Attempts.of(callWith(false))
    assert.equal(attempts.hasTried(poolOf("a", { failureNumber: 7 })), false)
    assert.equal(attempts.hasTried(poolOf("a", { failureNumber: 8 })), true)
  })

  it("of a call that waits for endpoints do not count failures of other calls' dials", () => {
    const attempts = Attempts.of(callWith(true))
    assert.equal(attempts.hasTried(poolOf("a", { failureNumber: 8 })), false)
  })

  it("do not note an endpoint a second time whose failure has a number", () => {
    const attempts = new Attempts(0)
    attempts.noteDialFailed(poolOf("a", { failureNumber: 1 }), "refused")
    attempts.noteDialFailed(poolOf("b"), "refused")
    assert.deepEqual([...attempts.tried], ["b"])
    assert.deepEqual([...attempts.failures.keys()], ["a", "b"])
  })

  it("count an endpoint as tried when more of its connections were lost than it has", () => {
    const attempts = new Attempts(0)
    const pool = poolOf("a", { size: 2 })
    attempts.noteLost(pool)
    attempts.noteLost(pool)
    assert.equal(attempts.hasTried(pool), false)
    attempts.noteLost(pool)
    assert.equal(attempts.hasTried(pool), true)
  })

  it("do not change a set of tried endpoints when they begin again", () => {
    const attempts = new Attempts(0)
    attempts.noteBackoff(poolOf("a"))
    const before = attempts.tried
    attempts.beginAnew()
    attempts.noteBackoff(poolOf("b"))
    assert.deepEqual([[...before], [...attempts.tried]], [["a"], ["b"]])
  })

  it("name the endpoint last that the call waits for", () => {
    const attempts = new Attempts(0)
    const pool = poolOf("a")
    attempts.noteDialFailed(pool, "refused")
    attempts.noteDialFailed(poolOf("b"), "reset")
    attempts.beginWaiting(pool)
    assert.equal(attempts.describe(), "b: reset; a: it was still being dialed")
    attempts.endWaiting()
    assert.equal(attempts.describe(), "a: refused; b: reset")
  })

  it("say that a connection had no room where the endpoint is connected", () => {
    const attempts = new Attempts(0)
    attempts.beginWaiting(poolOf("a", { isOpen: true }))
    assert.equal(attempts.describe(), "a: there was no room on its connection")
  })
})
