import { describe, it } from "@effect/vitest"
import * as assert from "node:assert/strict"
import { Random } from "./random.ts"

const many = Array.from({ length: 2000 }, (_, i) => i)

const draws = (seed: number, name: string) => {
  const random = new Random(seed, name)
  return many.slice(0, 20).map(() => random.next())
}

describe("chance", () => {
  it("is the same for the same seed and name, and another for another of either", () => {
    assert.deepEqual(draws(1, "a"), draws(1, "a"))
    assert.notDeepEqual(draws(1, "a"), draws(2, "a"))
    assert.notDeepEqual(draws(1, "a"), draws(1, "b"))
  })

  it("is spread over all that can be drawn, and nothing else", () => {
    const random = new Random(7, "spread")
    const next = many.map(() => random.next())
    assert.ok(next.every((value) => value >= 0 && value < 1))
    assert.ok(Math.abs(next.reduce((sum, value) => sum + value) / next.length - 0.5) < 0.02)
    assert.deepEqual(new Set(many.map(() => random.whole(3, 5))), new Set([3, 4, 5]))
    assert.deepEqual(new Set(many.map(() => random.pick(["a", "b", "c"]))), new Set(["a", "b", "c"]))
    assert.ok(many.every(() => {
      const value = random.magnitude(5, 5000)
      return Number.isInteger(value) && value >= 5 && value <= 5000
    }))
    const low = many.filter(() => random.magnitude(1, 10_000) <= 100).length
    assert.ok(Math.abs(low / many.length - 0.5) < 0.05, `${low} of the lower half of the magnitudes`)
  })

  it("follows the weights", () => {
    const random = new Random(7, "weights")
    const drawn = many.map(() => random.weighted({ often: 9, seldom: 1, never: 0 }))
    const often = drawn.filter((name) => name === "often").length
    assert.ok(Math.abs(often / many.length - 0.9) < 0.03)
    assert.ok(!drawn.includes("never"))
    assert.throws(() => random.weighted({}), /nothing to choose/)
  })

  it("reorders without losing anything", () => {
    const shuffled = new Random(7, "order").shuffled(many)
    assert.notDeepEqual(shuffled, many)
    assert.deepEqual(shuffled.toSorted((a, b) => a - b), many)
  })
})
