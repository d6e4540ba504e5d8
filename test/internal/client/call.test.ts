/**
 * One call: what is wrong with what it is given, and what it keeps when it is made again.
 */
import { describe, it } from "@effect/vitest"
import * as assert from "node:assert/strict"
import { runInNewContext } from "node:vm"
import { Call, type CallOwner, misuse } from "../../../src/internal/client/call.ts"
import { echo } from "../../support/networks.ts"

const owner = (): CallOwner => ({ onUnsent: () => {}, onRefused: () => {} })

describe("what a call is given", () => {
  it("is a key and bytes, also bytes of another realm", () => {
    assert.equal(misuse(echo, new Uint8Array()), undefined)
    assert.equal(misuse(echo, runInNewContext("new Uint8Array(3)")), undefined)
  })

  it("is named in the error where it is something else", () => {
    assert.match(misuse("echo", new Uint8Array())!.message, /the key of a call is a MethodKey, got string/)
    assert.match(misuse(echo, "text")!.message, /the arguments of .*echo are a Uint8Array, got string/)
  })
})

describe("a call that is made again", () => {
  it("is the same call for its new owner, and has not been sent, measured or counted", () => {
    const first = new Call(echo, { shardKey: 3n }, 7, undefined, undefined, () => {}, owner())
    Object.assign(first, { id: 5, since: 2, startedAt: 100, sentAt: 200, counted: true, isAnswered: true })
    const next = owner()
    const again = first.again(next)
    assert.equal(again.owner, next)
    assert.deepEqual([again.key, again.options, again.deadlineAt, again.resume], [
      first.key,
      first.options,
      7,
      first.resume
    ])
    assert.deepEqual(
      [again.id, again.since, again.startedAt, again.sentAt, again.counted, again.isAnswered, again.link],
      [0, 0, -1, -1, false, false, undefined]
    )
  })
})
