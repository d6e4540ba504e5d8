import { describe, it } from "@effect/vitest"
import * as assert from "node:assert/strict"
import { StalledMessage } from "../../../src/internal/session/stalledMessage.ts"

describe("a message that arrives", () => {
  it("is stalled when it is not whole after the timeout", () => {
    const message = new StalledMessage(1000)
    assert.equal(message.begin(5000), 6000)
    assert.deepEqual([message.look(5999, true, true), message.state], [6000, "Arriving"])
    assert.deepEqual([message.look(6000, true, true), message.state], [Infinity, "Stalled"])
    assert.equal(message.problem, "a message that was not whole after 1s")
  })

  it("is not stalled when it became whole in time", () => {
    const message = new StalledMessage(1000)
    message.begin(0)
    assert.deepEqual([message.look(5000, false, true), message.state], [Infinity, "Whole"])
    assert.equal(message.begin(6000), 7000)
  })

  it("gets its whole time again when its peer was not read from", () => {
    const message = new StalledMessage(1000)
    message.begin(0)
    assert.deepEqual([message.look(5000, true, false), message.state], [Infinity, "Suspended"])
    assert.deepEqual([message.look(7000, true, true), message.state], [8000, "Arriving"])
    message.look(8000, true, true)
    assert.equal(message.state, "Stalled")
  })

  it("is looked at before it has begun, in the middle of a read, and has its whole time from then on", () => {
    const message = new StalledMessage(1000)
    assert.deepEqual([message.look(5000, true, true), message.state], [6000, "Arriving"])
    const other = new StalledMessage(1000)
    assert.deepEqual([other.look(5000, true, false), other.state], [Infinity, "Suspended"])
  })

  it("gets its whole time again when the next message begins to arrive", () => {
    const message = new StalledMessage(1000)
    message.begin(0)
    assert.equal(message.begin(900), 1900)
    assert.equal(message.look(1000, true, true), 1900)
  })

  it("stays stalled, and refuses to begin again", () => {
    const message = new StalledMessage(1000)
    message.begin(0)
    message.look(1000, true, true)
    assert.equal(message.look(2000, false, true), Infinity)
    assert.throws(() => message.begin(3000), /cannot go from Stalled to Arriving, expected no other state/)
  })
})
