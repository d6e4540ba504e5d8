import { describe, it } from "@effect/vitest"
import * as assert from "node:assert/strict"
import { Outbound, OutboundProgress } from "../../../src/internal/server/outbound.ts"

describe("what waits for a client", () => {
  it("is what is queued, where the client does not know parts", () => {
    const outbound = new Outbound({ pendingBytes: 7, isBlocked: false })
    assert.deepEqual([outbound.pendingBytes, outbound.isBlocked, outbound.uncut, outbound.landed], [7, false, 0, 0])
  })

  it("is also what has yet to be cut, which waits for the client, too", () => {
    const outbound = new Outbound({ pendingBytes: 7, isBlocked: false })
    outbound.inParts = { landed: 3, answers: { unsentBytes: 5, size: 1 } }
    assert.deepEqual([outbound.pendingBytes, outbound.isBlocked, outbound.uncut, outbound.landed], [12, true, 1, 3])
    assert.ok(outbound.isHeldBack)
  })
})

describe("what a client takes", () => {
  const watch = (isHeldBack: boolean, moved: boolean) => {
    const outbound = { landed: 0, isHeldBack }
    return { outbound, progress: new OutboundProgress(outbound, { look: () => moved, forget: () => {} }) }
  }

  it("shows in its socket, or in what it says to have read", () => {
    assert.equal(watch(false, true).progress.look(), true)
    const { outbound, progress } = watch(false, false)
    assert.equal(progress.look(), false)
    outbound.landed = 5
    assert.deepEqual([progress.look(), progress.look()], [true, false])
    progress.forget()
    assert.equal(progress.look(), true)
  })

  it("shows only in what it says to have read, where that alone holds up the rest", () => {
    const { outbound, progress } = watch(true, true)
    assert.equal(progress.look(), false)
    outbound.landed = 5
    assert.equal(progress.look(), true)
  })
})
