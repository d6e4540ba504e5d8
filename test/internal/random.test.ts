import { assert, describe, it } from "@effect/vitest"
import { uniform } from "../../src/internal/random.ts"

/** A `Random` that draws this. */
const drawing = (nextDoubleUnsafe: () => number) => ({ nextDoubleUnsafe, nextIntUnsafe: () => 0 })

describe("a number at random", () => {
  it("is what the application's Random draws", () => {
    for (const drawn of [0, 0.25, 0.999]) assert.strictEqual(uniform(drawing(() => drawn)), drawn)
  })

  it("is in the middle where that draws something else than a number from 0 to 1", () => {
    for (const drawn of [1, -0.1, Number.NaN, Infinity]) assert.strictEqual(uniform(drawing(() => drawn)), 0.5)
  })

  it("is in the middle where that throws", () => {
    const thrown = uniform(drawing(() => {
      throw new Error("no random numbers")
    }))
    assert.strictEqual(thrown, 0.5)
  })
})
