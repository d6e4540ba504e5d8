/**
 * The contract between a Connection and its balancer. `Balancer.ts` exports it.
 *
 * It knows no particular balancer. It does not know how a Connection decides which endpoints to exclude.
 */
import type * as Effect from "effect/Effect"
import type { Unreachable } from "../../CallError.ts"
import type { Endpoint } from "../../Endpoint.ts"

/**
 * What a balancer knows of the call that it picks an endpoint for.
 *
 * Source: `type CallOptions` of the Go package. There a shard key of 0 means no key; here 0n is a key like any other.
 *
 * @category models
 * @since 0.1.0
 */
export interface PickOptions {
  /** The call's shard key, a u64 (0 to 2^64 − 1). A balancer may ignore it. Default: none. */
  readonly shardKey?: bigint | undefined
  /**
   * The addresses of the endpoints that the balancer should not pick.
   *
   * **Details**
   *
   * Some are excluded because they cannot be called: the call has tried them, or they are in backoff after a failed
   * dial. The others are excluded only while there are better ones: they are ejected because their calls kept failing,
   * report that they do not serve, have a higher `priority` number, or are not connected yet although the Connection is
   * `eager`. If the pick fails, the Connection asks again without excluding these others, unless the call has a shard
   * key and the balancer has a {@link Balancer.stickiness}.
   */
  readonly avoid: ReadonlySet<string>
}

/**
 * What a Connection knows of an endpoint, for balancers that decide by load or latency.
 *
 * **Details**
 *
 * It is not a snapshot: each property gives the current value.
 *
 * **Gotchas**
 *
 * A view shows only the calls of its own Connection. Calls of other clients and of other Connections are not known.
 *
 * @category models
 * @since 0.1.0
 */
export interface EndpointView {
  /** The endpoint that the view is of. */
  readonly endpoint: Endpoint
  /** The state of its connection, as in `Connection.EndpointState`. */
  readonly state: "Idle" | "Dialing" | "Active" | "Draining" | "Gone"
  /**
   * The number of calls that were sent to the endpoint and have not ended, and of calls that wait to be sent to it.
   * Calls on draining connections do not count.
   */
  readonly callsPending: number
  /**
   * How long answers have taken, in milliseconds, as an average; undefined before the first answer.
   *
   * **Details**
   *
   * A slow answer counts in full at once. Later answers bring the average down within some 10 seconds. It also goes
   * down if no answers come. While calls wait for answers, it is at least the time since the last answer.
   */
  readonly latency: number | undefined
  /**
   * How many calls have failed since the last answer, as `ClientOptions.outlierEjection` counts failures. Calls that
   * were lost together count as one failure.
   */
  readonly failuresInARow: number
  /**
   * The endpoint's share of the calls: its weight, or less while it starts slowly (`ClientOptions.slowStart`). It is
   * above 0.
   */
  readonly weight: number
}

/**
 * Picks the endpoint of each call.
 *
 * **When to use**
 *
 * Implement it for a balancer with state. Without state, `Balancer.make` makes one of a function.
 *
 * **Details**
 *
 * A balancer belongs to one `Connection`, which calls its methods one at a time.
 *
 * **Gotchas**
 *
 * Two Connections must not share a balancer: each would replace the endpoints of the other. Pass on an effect that
 * makes one.
 *
 * Source: `type Balancer` of the Go package.
 *
 * @category models
 * @since 0.1.0
 */
export interface Balancer {
  /**
   * Whether a shard key has only one endpoint. Default: undefined, any endpoint may answer any call.
   *
   * **When to use**
   *
   * Set it to `"key"` if each shard key belongs to one endpoint and no other endpoint can answer, as with
   * `Balancer.sharded`. Leave it out if another endpoint can stand in, as with `Balancer.consistentHash`.
   *
   * **Details**
   *
   * With `"key"`, a call that has a shard key has no alternative. `PickOptions.avoid` then contains only endpoints that
   * cannot be called, and no endpoint that is excluded because there are better ones. A Connection with such a balancer
   * ejects no endpoints, unless `ClientOptions.outlierEjection` is given: then a call whose endpoint is ejected fails.
   * Calls without a shard key are treated as usual.
   *
   * **Gotchas**
   *
   * The value must not change. A value other than `"key"` and undefined is a defect of the Connection, or of the call,
   * that is given the balancer. `Balancer.zoneAware` and `Balancer.subset` have no stickiness, whatever the balancer
   * inside them has: they have other endpoints to use.
   *
   * **Example** (Each key belongs to one endpoint)
   *
   * ```ts
   * import { Balancer, CallError } from "effect-call"
   * import { Effect } from "effect"
   *
   * const byParity: Effect.Effect<Balancer.Balancer> = Balancer.make((endpoints, { avoid, shardKey = 0n }) => {
   *   const endpoint = endpoints[Number(shardKey % 2n)]
   *   return endpoint === undefined || avoid.has(endpoint.address)
   *     ? Effect.fail(new CallError.Unreachable({ message: `the endpoint of key ${shardKey} is down`, attempts: [] }))
   *     : Effect.succeed(endpoint)
   * }).pipe(Effect.map((balancer) => ({ ...balancer, stickiness: "key" })))
   * ```
   */
  readonly stickiness?: "key" | undefined
  /**
   * Replaces the endpoints to pick from. The list may be empty. Before the first update it is empty.
   *
   * **Details**
   *
   * The address identifies an endpoint, and each address is listed once. `views` has the view of each endpoint, in the
   * same order. The view of an endpoint stays the same object as long as the endpoint is listed. Without `views`,
   * nothing is known of the endpoints.
   */
  update(endpoints: ReadonlyArray<Endpoint>, views?: ReadonlyArray<EndpointView>): void
  /**
   * Picks one of the endpoints of the last update. Fails with `Unreachable` if there are no endpoints, or no suitable
   * one outside `avoid`.
   *
   * **Gotchas**
   *
   * The state of the balancer changes when the effect runs, not when it is made. To return anything but one of the
   * listed endpoints is a defect of the call.
   */
  pick(options: PickOptions): Effect.Effect<Endpoint, Unreachable>
}

/** Whether a shard key has only one endpoint: a call with a key then has no alternative. */
export const isSticky = (balancer: Balancer): boolean => balancer.stickiness === "key"
