import { describe, it } from "@effect/vitest"
import { Context } from "effect"
import * as assert from "node:assert/strict"
import { CurrentOptions } from "../../../src/internal/ambient/callOptions.ts"
import { Region } from "../../../src/internal/ambient/turn.ts"

const contextWith = (timeout: number) => Context.make(CurrentOptions, { timeout })

describe("the region of calls", () => {
  it("has the options of the context that was entered last, although another one was kept", () => {
    const region = new Region()
    const [one, other] = [contextWith(1), contextWith(2)]
    region.enter(one)
    region.keep(one, region.options, region.deadline)
    region.enter(other)
    assert.deepEqual(region.options, { timeout: 2 })
    region.enter(one)
    assert.deepEqual(region.options, { timeout: 1 })
    region.enter(Context.empty())
    assert.equal(region.options, undefined)
  })

  it("is that of the call that keeps it, although another was made meanwhile", () => {
    const region = new Region()
    const [one, other] = [contextWith(1), contextWith(2)]
    region.enter(one)
    const { deadline, options } = region
    // By a balancer that calls, for instance.
    region.enter(other)
    region.keep(one, options, deadline)
    region.enter(one)
    assert.deepEqual(region.options, { timeout: 1 })
  })

  it("holds no context once it was left, or where none was kept", () => {
    const region = new Region()
    const context = contextWith(1)
    const holds = () => Object.values(region).includes(context)
    region.enter(context)
    assert.ok(!holds())
    region.keep(context, region.options, region.deadline)
    assert.ok(holds())
    region.leave()
    assert.ok(!holds())
    assert.equal(region.options, undefined)
  })
})
