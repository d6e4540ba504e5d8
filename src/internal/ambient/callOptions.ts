/**
 * The options of a call, and those that the running fiber is under, as the client and `Connection.withOptions` share
 * them.
 *
 * They are values: this module must not know clients and connections.
 */
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import type * as Schedule from "effect/Schedule"
import type { Balancer } from "../../Balancer.ts"
import type { CallError } from "../../CallError.ts"

/**
 * Options of one call.
 *
 * **Details**
 *
 * All of them are optional. What a call does not say is taken from `Connection.withOptions` around it.
 *
 * Source: `type CallOptions` of the Go package, `shardKey` and `balancer`; the others are ours.
 *
 * @category models
 * @since 0.1.0
 */
export interface CallOptions {
  /** The key that a balancer may route the call by, a u64: 0 to 2^64 − 1. The key 0 is a key, too. Default: none. */
  readonly shardKey?: bigint | undefined
  /** The balancer for this call, in place of the Connection's. It gets the current endpoints before its pick. */
  readonly balancer?: Balancer | undefined
  /**
   * How long the call may take, from when it is made until its answer is here. Default: no limit.
   *
   * **Details**
   *
   * The earlier of this and the deadline of the region (`Deadline.within`) counts. Then the call fails with
   * `DeadlineExceeded`, and its handler is interrupted.
   */
  readonly timeout?: Duration.Input | undefined
  /**
   * Whether to wait for endpoints, or for the end of their backoff, where the call would fail with `Unreachable`.
   * Default: false.
   */
  readonly waitForReady?: boolean | undefined
  /**
   * When a call that has failed is made again: after the delays of this schedule, which gets the errors, for as long as
   * it goes on. Default: none.
   *
   * **Details**
   *
   * A call is made again where it has surely not run: it is `Unreachable`, or its server `isOverloaded`. Where it may
   * have run, since its connection was lost, it is made again only if its method is declared idempotent
   * (`Component.idempotent`, `MethodKey.idempotent`). It is never made again after its deadline, which counts for all
   * tries together, or when the `retryBudget` of the Connection is used up.
   *
   * Without this option, too, a call goes to another endpoint if its endpoint cannot be dialed, or if its connection is
   * lost before the request was sent.
   */
  readonly retry?: Schedule.Schedule<unknown, CallError> | undefined
}

/** The call options of a region, set with `Connection.withOptions`. */
export const CurrentOptions: Context.Reference<CallOptions | undefined> = Context.Reference<CallOptions | undefined>(
  "effect-call/Connection/CurrentOptions",
  { defaultValue: () => undefined }
)

/** The options of `inner` and, where it says nothing, those of `outer`. */
export const mergeOptions = (outer: CallOptions, inner: CallOptions): CallOptions => ({
  shardKey: inner.shardKey ?? outer.shardKey,
  balancer: inner.balancer ?? outer.balancer,
  timeout: inner.timeout ?? outer.timeout,
  waitForReady: inner.waitForReady ?? outer.waitForReady,
  retry: inner.retry ?? outer.retry
})
