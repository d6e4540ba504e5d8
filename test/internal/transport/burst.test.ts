import { describe, it } from "@effect/vitest"
import * as assert from "node:assert/strict"
import { Burst } from "../../../src/internal/transport/burst.ts"

/**
 * Handles chunks that each come `gap` milliseconds after the one before and take `work`; after which ones it is over.
 */
const overAfter = (chunks: number, gap: number, work: number): ReadonlyArray<number> => {
  const burst = new Burst()
  const over: Array<number> = []
  let now = 1000
  for (let i = 1; i <= chunks; i++) {
    now += gap
    burst.begin(now)
    now += work
    if (burst.end(now)) over.push(i)
  }
  return over
}

describe("a burst", () => {
  it("is over when one chunk after the other has taken more than a millisecond", () => {
    assert.deepEqual(overAfter(6, 0.01, 0.25), [4, 5, 6])
  })

  it("is over at once where one chunk has taken as long", () => {
    assert.deepEqual(overAfter(1, 0.01, 1.1), [1])
  })

  it("begins again where nothing could be read for a while", () => {
    assert.deepEqual(overAfter(1000, 0.06, 0.9), [])
  })

  it("goes on where that while was too short for others to have their turn", () => {
    assert.deepEqual(overAfter(4, 0.04, 0.4), [3, 4])
  })
})
