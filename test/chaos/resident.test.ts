import { describe, it } from "@effect/vitest"
import * as assert from "node:assert/strict"
import { Resident } from "./resident.ts"

const watched = (samples: ReadonlyArray<number>): Resident => {
  const resident = new Resident()
  for (const sample of samples) resident.add(sample)
  return resident
}

describe("the RSS of a run", () => {
  it("has not grown over the last half where it rose at first only", () => {
    const { eighths, growth } = watched(Array.from({ length: 80 }, (_, i) => Math.min(i, 30)))
    assert.deepEqual(eighths, [4.5, 14.5, 24.5, 30, 30, 30, 30, 30])
    assert.equal(growth, 0)
  })

  it("has grown where it goes on rising, without regard to single peaks", () => {
    const { growth } = watched(Array.from({ length: 80 }, (_, i) => i === 50 ? 1000 : 100 + i))
    assert.ok(growth > 0.1 && growth < 0.15, String(growth))
  })
})
