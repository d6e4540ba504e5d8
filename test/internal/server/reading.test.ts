import { describe, it } from "@effect/vitest"
import * as assert from "node:assert/strict"
import { Reading } from "../../../src/internal/server/reading.ts"

describe("the reading of a client's requests", () => {
  it("reports once that it stops, and once that it goes on", () => {
    const reading = new Reading()
    assert.equal(reading.resume(false), false)
    assert.deepEqual([reading.pause(), reading.pause(), reading.state], [true, false, "Paused"])
    assert.deepEqual([reading.resume(false), reading.resume(false), reading.state], [true, false, "Reading"])
  })

  it("goes on without its calls while too much waits in parts", () => {
    const reading = new Reading()
    assert.equal(reading.release(), false)
    assert.deepEqual([reading.hold(), reading.hold(), reading.state], [true, false, "Holding"])
    assert.deepEqual([reading.release(), reading.release(), reading.state], [true, false, "Reading"])
  })

  it("starts calls again only when there is room and not too much waits in parts", () => {
    const reading = new Reading()
    reading.hold()
    assert.deepEqual([reading.pause(), reading.hold(), reading.release(), reading.state], [
      true,
      false,
      false,
      "Paused"
    ])
    assert.deepEqual([reading.resume(true), reading.state], [true, "Holding"])
    assert.deepEqual([reading.release(), reading.state], [true, "Reading"])
  })
})
