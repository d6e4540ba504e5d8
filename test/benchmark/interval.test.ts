import { describe, it } from "@effect/vitest"
import * as assert from "node:assert/strict"
import { meanRatio } from "./interval.ts"

const assertClose = (value: number, expected: number, tolerance = 0.002) =>
  assert.ok(Math.abs(value / expected - 1) < tolerance, `expected ${expected}, got ${value}`)

describe("the mean of ratios", () => {
  it("takes half and double to be equally far from 1", () => {
    assertClose(meanRatio([0.5, 2, 0.5, 2]).ratio, 1)
  })

  it("is certain where all rounds agree", () => {
    const { highest, lowest, ratio } = meanRatio([1.1, 1.1, 1.1])
    for (const value of [ratio, lowest, highest]) assertClose(value, 1.1)
  })

  it("has the interval of Student's distribution", () => {
    // The logarithms are -0.1, 0 and 0.1, or those of eleven rounds: 4.303 and 2.228 times their standard errors.
    assertClose(Math.log(meanRatio([-0.1, 0, 0.1].map(Math.exp)).highest), 4.303 * 0.1 / Math.sqrt(3), 0.04)
    const eleven = [-0.1, 0, 0.1, -0.1, 0, 0.1, -0.1, 0, 0.1, -0.1, 0.1]
    const deviation = Math.sqrt(eleven.reduce((total, value) => total + value ** 2, 0) / 10)
    assertClose(Math.log(meanRatio(eleven.map(Math.exp)).highest), 2.228 * deviation / Math.sqrt(11))
  })

  it("says nothing about how certain a single round is", () => {
    assert.equal(meanRatio([1.5]).ratio, 1.5)
    assert.ok(Number.isNaN(meanRatio([1.5]).highest))
  })
})
