import { describe, it } from "@effect/vitest"
import { Context } from "effect"
import * as assert from "node:assert/strict"
import { CurrentOptions } from "../../../src/internal/ambient/callOptions.ts"
import { Turn } from "../../../src/internal/ambient/turn.ts"

const contextWith = (timeout: number) => Context.make(CurrentOptions, { timeout })

describe("what the calls of one turn share", () => {
  it("has the options of the context that was entered last, although another one was kept", () => {
    const turn = new Turn()
    const [one, other] = [contextWith(1), contextWith(2)]
    turn.enter(one)
    turn.keep(one, turn.options, turn.deadline)
    turn.enter(other)
    assert.deepEqual(turn.options, { timeout: 2 })
    turn.enter(one)
    assert.deepEqual(turn.options, { timeout: 1 })
    turn.enter(Context.empty())
    assert.equal(turn.options, undefined)
  })

  it("is of the call that keeps it, although another was made meanwhile", () => {
    const turn = new Turn()
    const [one, other] = [contextWith(1), contextWith(2)]
    turn.enter(one)
    const { deadline, options } = turn
    // By a balancer that calls, for instance.
    turn.enter(other)
    turn.keep(one, options, deadline)
    turn.enter(one)
    assert.deepEqual(turn.options, { timeout: 1 })
  })

  it("holds no context once it was left, or where none was kept", () => {
    const turn = new Turn()
    const context = contextWith(1)
    const holds = () => Object.values(turn).includes(context)
    turn.enter(context)
    assert.ok(!holds())
    turn.keep(context, turn.options, turn.deadline)
    assert.ok(holds())
    turn.leave()
    assert.ok(!holds())
    assert.equal(turn.options, undefined)
  })
})
