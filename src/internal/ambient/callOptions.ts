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
 * Options of one call: its time limit, when it is made again, and where it goes.
 *
 * **When to use**
 *
 * Give them to `Connection.call`, or to all calls of a region with `Connection.withOptions`. For the methods of a
 * component, `withOptions` is the way.
 *
 * **Details**
 *
 * All of them are optional. What a call does not say is taken from `Connection.withOptions` around it.
 *
 * **Gotchas**
 *
 * A call has no time limit unless it has a `timeout`, or a `Deadline` around it.
 *
 * **Example** (A time limit and retries for every call of a region)
 *
 * ```ts
 * import { Schedule } from "effect"
 * import { Connection } from "effect-call"
 *
 * const patiently = Connection.withOptions({
 *   timeout: "2 seconds",
 *   retry: Schedule.exponential("20 millis").pipe(Schedule.jittered)
 * })
 * ```
 *
 * Source: `type CallOptions` of the Go package, `shardKey` and `balancer`; the others are ours.
 *
 * @category models
 * @since 0.1.0
 */
export interface CallOptions {
  /**
   * The key that a balancer may route the call by, a u64: 0 to 2^64 − 1. Calls with the same key go to the same replica
   * if the balancer goes by keys, such as `Balancer.sharded`. The key 0 is a key, too. Default: none.
   *
   * **Gotchas**
   *
   * A call with another number fails with `Unreachable`.
   */
  readonly shardKey?: bigint | undefined
  /**
   * The balancer for this call: an instance, not the effect that makes one. It gets the current endpoints before its
   * pick. Default: the balancer of the Connection.
   */
  readonly balancer?: Balancer | undefined
  /**
   * How long the call may take, from when it is made until its answer is here; for a stream, until its end. Default: no
   * limit.
   *
   * **When to use**
   *
   * Give every call a time limit: a server that lives may still not answer, and nothing else ends such a call.
   *
   * **Details**
   *
   * The earlier of this and the deadline of the region (`Deadline.within`) counts. All attempts and retries together
   * have this time. When it is over, the call fails with `DeadlineExceeded`, and its handler is interrupted. The time
   * is sent with the call, so the handler, and the calls that it makes, have what is left of it.
   *
   * **Gotchas**
   *
   * It is for the call itself. Schemas that take their time, and the client's half of a middleware, are only limited by
   * a `Deadline`. `Effect.timeout` ends a call, too, and its handler with it. But it is not sent, so the servers do not
   * know how much time is left, and it does not count for `ClientOptions.outlierEjection`.
   */
  readonly timeout?: Duration.Input | undefined
  /**
   * Whether to wait for endpoints, or for the end of their backoff, where the call would fail with `Unreachable`.
   * Default: false.
   *
   * **When to use**
   *
   * Use it where a call should survive that all servers are away for a moment, or have not started yet. A `retry` makes
   * a few further attempts instead.
   *
   * **Gotchas**
   *
   * Without a `timeout` or a `Deadline`, it waits for ever.
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
   * If the next try would come after the deadline, the call fails at once with its last error. If an earlier try may
   * have run, it fails with CommunicationError `Lost`, so that no error says that nothing has run.
   *
   * A stream is made again in the same cases, and only while it has given no item and nothing was taken from its
   * `items`.
   *
   * Without this option, too, a Connection makes a call again where no handler can have seen it: if its endpoint cannot
   * be dialed, it goes to another one, and tries each endpoint once; if its connection is lost before the request was
   * handed to it, it goes over another one.
   *
   * **Gotchas**
   *
   * `Effect.retry` around a call knows neither what may be repeated nor the budget. Errors of the method's contract are
   * never repeated by this option: `Effect.retry` is for them.
   *
   * **Example** (At most three further tries)
   *
   * ```ts
   * import { Schedule } from "effect"
   * import { Connection } from "effect-call"
   *
   * const threeTimes = Connection.withOptions({
   *   timeout: "1 second",
   *   retry: Schedule.exponential("20 millis").pipe(Schedule.jittered, Schedule.upTo({ times: 3 }))
   * })
   * ```
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
