/**
 * Calls that are refused before anything is tried.
 */
import { describe, it } from "@effect/vitest"
import type { Connection } from "effect-call"
import * as assert from "node:assert/strict"
import { Call, type CallOwner } from "../../../src/internal/client/call.ts"
import { refusal } from "../../../src/internal/client/refusal.ts"
import { echo } from "../../support/networks.ts"

const owner: CallOwner = { onUnsent: () => {}, onRefused: () => {} }

const call = (deadlineAt = Infinity, options?: Connection.CallOptions) =>
  new Call(echo, options, deadlineAt, undefined, undefined, () => {}, owner)

describe("a call", () => {
  it("is not refused where its arguments are as large as allowed, it has time left, and its key is a u64", () => {
    assert.equal(refusal(call(11, { shardKey: 2n ** 64n - 1n }), 5, 5, 10), undefined)
  })

  it("is refused where its arguments are a byte too large, and says that no handler has seen it", () => {
    const error = refusal(call(), 6, 5, 0)
    assert.ok(error?._tag === "CommunicationError")
    assert.deepEqual([error.reason._tag, error.maybeExecuted], ["TooLarge", false])
    assert.match(error.message, /are 6 bytes, expected at most 5$/)
  })

  it("is refused at its deadline, and not before", () => {
    assert.equal(refusal(call(10), 0, 5, 9), undefined)
    assert.equal(refusal(call(10), 0, 5, 10)?._tag, "DeadlineExceeded")
  })

  it("is refused with a shard key that is not a u64, which its error names", () => {
    const error = refusal(call(Infinity, { shardKey: 2n ** 64n }), 0, 5, 0)
    assert.ok(error?._tag === "Unreachable")
    assert.match(error.message, /^shard key 18446744073709551616 of /)
    // As it may come from a program without types.
    assert.match(refusal(call(Infinity, { shardKey: 7 as never }), 0, 5, 0)!.message, /shard key 7 of /)
  })

  it("is refused for its size first, then for its deadline, then for its shard key", () => {
    const wrong = call(10, { shardKey: -1n })
    assert.deepEqual([refusal(wrong, 6, 5, 10)?._tag, refusal(wrong, 5, 5, 10)?._tag, refusal(wrong, 5, 5, 9)?._tag], [
      "CommunicationError",
      "DeadlineExceeded",
      "Unreachable"
    ])
  })
})
