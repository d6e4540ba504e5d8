/**
 * Why a call fails before anything is tried: it is too large, its deadline has passed, or its shard key is none.
 *
 * It is on the hot path of each call: it compares numbers, and makes an object only where a call is refused. It must
 * not know how a call is made.
 */
import { type CallError, CommunicationError, DeadlineExceeded, Unreachable } from "../../CallError.ts"
import { isShardKey, maxShardKey } from "../balancer/shardKey.ts"
import { shown } from "../guard.ts"
import type { Call } from "./call.ts"

/** Why a call with arguments of `size` bytes is refused, where at most `maxArgs` are allowed. */
export const refusal = (call: Call, size: number, maxArgs: number, now: number): CallError | undefined => {
  const large = tooLarge(call, size, maxArgs)
  if (large !== undefined) return large
  if (call.deadlineAt <= now) {
    return new DeadlineExceeded({ message: `deadline exceeded: ${call.method} was not sent, since no time was left` })
  }
  const shardKey = call.options?.shardKey
  if (shardKey !== undefined && !isShardKey(shardKey)) {
    return new Unreachable({
      message: `shard key ${
        typeof shardKey === "bigint" ? shardKey : shown(shardKey)
      } of ${call.method} is not a u64: expected a bigint from 0 to ${maxShardKey}`,
      attempts: []
    })
  }
  return undefined
}

/** The error of a call whose arguments are larger than `maxArgs` bytes. */
export const tooLarge = (call: Call, size: number, maxArgs: number): CommunicationError | undefined =>
  size <= maxArgs ? undefined : new CommunicationError({
    reason: { _tag: "TooLarge" },
    message: `the arguments of ${call.method} are ${size} bytes, expected at most ${maxArgs}`,
    maybeExecuted: false
  })
