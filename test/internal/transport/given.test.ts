import { describe, it } from "@effect/vitest"
import * as assert from "node:assert/strict"
import { Duplex } from "node:stream"
import { isDuplex, isTaken, markTaken, take } from "../../../src/internal/transport/given.ts"

describe("a connection that a user gives", () => {
  it("is taken once", () => {
    const duplex = new Duplex()
    assert.deepEqual([isTaken(duplex), take(duplex), isTaken(duplex)], [false, undefined, true])
    assert.match(String(take(duplex)), /^expected a Duplex of its own/)
  })

  it("is not taken by a dial where a server has it, and the other way round", () => {
    const duplex = new Duplex()
    markTaken(duplex)
    assert.match(String(take(duplex)), /^expected a Duplex of its own/)
  })

  it.each([
    undefined,
    null,
    1,
    "duplex",
    {},
    () => {},
    new Proxy({}, {
      has: () => {
        throw new Error("hostile")
      }
    })
  ])(
    "is no connection where it cannot do what a Duplex can: %s",
    (given) => {
      assert.equal(isDuplex(given), false)
      assert.match(String(take(given)), /^expected a Duplex, got /)
    }
  )
})
