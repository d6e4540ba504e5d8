import { assert, describe, it } from "@effect/vitest"
import * as fc from "fast-check"
import { Sampler } from "../../../src/internal/balancer/sampler.ts"

const weights = fc.array(fc.double({ min: 1e-3, max: 1e5, noNaN: true }), { minLength: 1, maxLength: 40 })
  .map((weights) => Float64Array.from(weights))

/** How much of the numbers from 0 to 1 draws each position: what a fine comb sees. */
const sharesOf = (sampler: Sampler) => {
  const teeth = 40_000
  const shares = new Float64Array(sampler.size)
  for (let i = 0; i < teeth; i++) shares[sampler.draw((i + 0.5) / teeth)]! += 1 / teeth
  return shares
}

describe("Sampler", () => {
  it("draws each as often as its weight says", () => {
    fc.assert(
      fc.property(weights, (weights) => {
        const total = weights.reduce((sum, weight) => sum + weight)
        sharesOf(new Sampler(weights)).forEach((share, index) =>
          // Each column may be off by a tooth at both of its ends.
          assert.closeTo(share, weights[index]! / total, 2 * weights.length / 40_000)
        )
      }),
      { seed: 6, numRuns: 60 }
    )
  })

  it("draws from a part of them by their weights", () => {
    const sampler = new Sampler(Float64Array.from([1, 100, 3, 100, 6]), Int32Array.from([0, 2, 4]))
    assert.deepStrictEqual([0, 1, 2].map((position) => sampler.at(position)), [0, 2, 4])
    const shares = sharesOf(sampler)
    for (const [position, share] of [0.1, 0.3, 0.6].entries()) assert.closeTo(shares[position]!, share, 1e-3)
  })

  it("draws every other position equally often", () => {
    const sampler = new Sampler(Float64Array.from([5, 1, 1, 1]))
    for (let not = 0; not < 4; not++) {
      const counts = [0, 0, 0, 0]
      for (let i = 0; i < 300; i++) counts[sampler.drawOther(i / 300, not)]!++
      assert.deepStrictEqual(counts, [0, 1, 2, 3].map((position) => position === not ? 0 : 100))
    }
  })
})
