import { describe, it } from "@effect/vitest"
import * as assert from "node:assert/strict"
import { Warnings } from "../../src/internal/warnings.ts"
import { clockThat } from "../support/clock.ts"

describe("warnings that peers can cause", () => {
  it("are given up to a hundred at once, and ten a second after that", () => {
    let now = 5000
    const warnings = new Warnings(clockThat(() => now))
    const given = (times: number) =>
      Array.from({ length: times }, () => warnings.next()).filter((warning) => warning !== undefined).length
    assert.equal(given(150), 100)
    now += 1000
    assert.equal(given(50), 10)
    now += 1_000_000
    assert.equal(given(150), 100)
  })

  it("say how many were left out before them", () => {
    let now = 0
    const warnings = new Warnings(clockThat(() => now))
    for (let i = 0; i < 100; i++) assert.equal(warnings.next(), "")
    assert.deepEqual([warnings.next(), warnings.next()], [undefined, undefined])
    now += 200
    assert.deepEqual([warnings.next(), warnings.next()], [" (2 more such warnings were left out before)", ""])
  })
})
