import { describe, it } from "@effect/vitest"
import * as assert from "node:assert/strict"
import { Trouble } from "../../../src/internal/client/trouble.ts"

describe("a warning about an endpoint", () => {
  it("is the first dial that fails, and no other until it was connected", () => {
    const trouble = new Trouble()
    assert.deepEqual([trouble.dialFailed(0), trouble.dialFailed(5000), trouble.state], [true, false, "Down"])
    trouble.connected()
    assert.deepEqual([trouble.state, trouble.dialFailed(6000)], ["Fine", true])
  })

  it("is a connection that is lost, but not others that are lost together with it", () => {
    const trouble = new Trouble()
    assert.deepEqual([trouble.lost(0), trouble.lost(900), trouble.lost(1800), trouble.lost(2900)], [
      true,
      false,
      false,
      true
    ])
  })

  it("is a connection that is lost just after it was connected again", () => {
    const trouble = new Trouble()
    trouble.lost(0)
    trouble.connected()
    assert.equal(trouble.lost(1), true)
  })

  it("is no dial that fails within ten seconds after its server has said that it goes away", () => {
    const trouble = new Trouble()
    trouble.goesAway(0)
    assert.deepEqual([trouble.dialFailed(9999), trouble.state], [false, "Leaving"])
    assert.deepEqual([trouble.dialFailed(10_000), trouble.state], [true, "Down"])
  })

  it("is a connection that is lost while its server goes away", () => {
    const trouble = new Trouble()
    trouble.goesAway(0)
    assert.deepEqual([trouble.lost(1), trouble.state], [true, "Down"])
  })

  it("is nothing new when one of its servers goes away while it is down", () => {
    const trouble = new Trouble()
    trouble.dialFailed(0)
    trouble.goesAway(1)
    assert.deepEqual([trouble.state, trouble.dialFailed(20_000)], ["Down", false])
  })
})
