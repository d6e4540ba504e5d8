import { describe, it } from "@effect/vitest"
import * as assert from "node:assert/strict"
import { FairClock } from "./fairClock.ts"

describe("a fair clock", () => {
  it("shows the time as another clock does, as long as it is read often", () => {
    const clock = new FairClock(1000)
    for (let now = 1000; now <= 3000; now += 50) clock.look(now)
    assert.equal(clock.now, 2000)
  })

  it("moves by a moment only where no process could read it", () => {
    const clock = new FairClock(1000)
    clock.look(1050)
    clock.look(9000)
    clock.look(9010)
    assert.equal(clock.now, 160)
  })
})
