import { describe, it } from "@effect/vitest"
import * as assert from "node:assert/strict"
import { headerSize } from "./payload.ts"
import { describePlan, longestTimeout, planOf } from "./plan.ts"
import { Random } from "./random.ts"

const random = new Random(1, "plans")
const plans = Array.from(
  { length: 20_000 },
  () => planOf(random, { typed: 0.5, keyed: 0.5, waiting: 0.5, untimed: 0.3, streams: 0 })
)

describe("plans of calls", () => {
  it("are of all sorts", () => {
    assert.deepEqual(
      new Set(plans.map(({ api, method }) => `${api} ${method}`)),
      new Set([
        ...["echo", "slow", "never", "fail", "die", "note"].map((method) => `typed ${method}`),
        ...["echo", "slow", "never", "fail", "die"].map((method) => `bytes ${method}`)
      ])
    )
    for (const size of [0, 2 ** 20]) {
      assert.ok(plans.some((plan) => plan.size === 0) && plans.some((plan) => plan.size > size))
    }
  })

  it("have no size that has no room for the call's id", () => {
    assert.ok(plans.every(({ size }) => size === 0 || size >= headerSize))
  })

  it("end by themselves where no server answers", () => {
    const never = plans.filter(({ method }) => method === "never")
    assert.ok(never.some(({ timeout }) => timeout === undefined))
    assert.ok(never.every(({ interruptAfter, timeout }) => timeout !== undefined || interruptAfter !== undefined))
  })

  it("have no deadline after the longest", () => {
    assert.ok(plans.every(({ timeout }) => timeout === undefined || timeout <= longestTimeout))
  })

  it("have a description", () => {
    assert.equal(
      describePlan({
        api: "typed",
        method: "slow",
        size: 20,
        work: 5,
        timeout: 70,
        within: true,
        interruptAfter: 1.234,
        shardKey: 9n,
        waitForReady: true
      }),
      "typed, slow, 20 B, works 5 ms, 70 ms of a region, given up after 1.2 ms, key 9, waits"
    )
  })
})
