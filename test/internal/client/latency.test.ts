import { assert, describe, it } from "@effect/vitest"
import { Latency } from "../../../src/internal/client/latency.ts"

describe("Latency", () => {
  it("is unknown before the first answer", () => {
    assert.isUndefined(new Latency().at(1_000_000))
  })

  it("is what the first answer took, also where that was no time at all", () => {
    const latency = new Latency()
    latency.observe(0, 5)
    assert.strictEqual(latency.at(5), 0)
    latency.observe(12, 5)
    assert.strictEqual(latency.at(5), 12)
  })

  it("jumps to a slow answer at once", () => {
    const latency = new Latency()
    for (let now = 0; now < 1000; now += 10) latency.observe(5, now)
    latency.observe(800, 1000)
    assert.strictEqual(latency.at(1000), 800)
  })

  it("comes down with time, for any number of fast answers", () => {
    const few = new Latency()
    const many = new Latency()
    for (const latency of [few, many]) latency.observe(1000, 0)
    for (let now = 1; now <= 10_000; now++) many.observe(10, now)
    few.observe(10, 10_000)
    for (const latency of [few, many]) assert.closeTo(latency.at(10_000) ?? NaN, 10 + 990 / Math.E, 1)
  })

  it("follows answers that stay fast, and does not fall below them while they come", () => {
    const latency = new Latency()
    latency.observe(500, 0)
    for (let now = 0; now <= 120_000; now += 100) latency.observe(20, now)
    assert.closeTo(latency.at(120_000) ?? NaN, 20, 0.2)
  })

  it("is forgotten while nothing is heard, so that the endpoint is tried again", () => {
    const latency = new Latency()
    latency.observe(1000, 0)
    assert.closeTo(latency.at(10_000) ?? NaN, 1000 / Math.E, 1e-9)
    assert.isBelow(latency.at(100_000) ?? NaN, 0.1)
  })

  it("is no less than what a call has waited for, once there was an answer", () => {
    const latency = new Latency()
    latency.begin(0)
    assert.isUndefined(latency.at(500, true))
    latency.observe(10, 1000)
    latency.begin(2000)
    assert.isBelow(latency.at(2005, true) ?? NaN, 10)
    assert.strictEqual(latency.at(2700, true), 700)
    assert.isBelow(latency.at(2700) ?? NaN, 10)
    // Another call was answered, and how long the others have waited is not known.
    latency.observe(12, 2710)
    assert.isBelow(latency.at(2715, true) ?? NaN, 13)
    assert.strictEqual(latency.at(3710, true), 1000)
  })

  it("does not grow when the clock is set back", () => {
    const latency = new Latency()
    latency.observe(100, 50_000)
    assert.strictEqual(latency.at(0), 100)
    latency.observe(10, 0)
    assert.strictEqual(latency.at(0), 100)
  })
})
