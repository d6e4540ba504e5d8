import { describe, it } from "@effect/vitest"
import * as assert from "node:assert/strict"
import { Reading } from "../../../src/internal/server/reading.ts"

describe("the reading of a client's requests", () => {
  it("reports once that it stops, and once that it goes on", () => {
    const reading = new Reading()
    assert.equal(reading.resume(), false)
    assert.deepEqual([reading.pause(), reading.pause(), reading.state], [true, false, "Paused"])
    assert.deepEqual([reading.resume(), reading.resume(), reading.state], [true, false, "Reading"])
  })
})
