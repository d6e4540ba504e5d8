/**
 * What a balancer is: the contract between a Connection and whatever picks its endpoints. `Balancer.ts` exports it.
 *
 * It knows no balancer, and nothing of how a Connection finds out what a balancer is to avoid.
 */
import type * as Effect from "effect/Effect"
import type { Unreachable } from "../../CallError.ts"
import type { Endpoint } from "../../Endpoint.ts"

/**
 * What a balancer may go by when it picks an endpoint for a call.
 *
 * Source: `type CallOptions` of the Go package, where a shard key of 0 means none; here 0n is a key like any other.
 *
 * @category models
 * @since 0.1.0
 */
export interface PickOptions {
  /** The call's shard key, a u64 (0 to 2^64 − 1). A balancer may ignore it. Default: none. */
  readonly shardKey?: bigint | undefined
  /**
   * The addresses of the endpoints that this call has tried already or that are in backoff after a failed dial; and, as long as there are better ones, of
   * those that are left alone because their calls kept failing, say that they do not serve, have a higher `priority` number, or are not connected yet where
   * the Connection is `eager`.
   */
  readonly avoid: ReadonlySet<string>
}

/**
 * What a Connection knows of one of its endpoints: not a copy, but what it is whenever it is read.
 *
 * @category models
 * @since 0.1.0
 */
export interface EndpointView {
  readonly endpoint: Endpoint
  /** As in `Connection.EndpointState`. */
  readonly state: "Idle" | "Dialing" | "Active" | "Draining" | "Gone"
  /** The calls that were sent to it and have not ended, but for those on connections that drain, and those that wait to be sent to it. */
  readonly callsPending: number
  /**
   * How long its answers have taken, in milliseconds; undefined before there was one. A slow answer counts in full at once, and later ones
   * bring the average down again within some 10 seconds, and so does it to hear nothing. While calls wait there it is no less than the time since the
   * last answer.
   */
  readonly latency: number | undefined
  /** How many of its calls have failed since one was answered; those that were lost together count as one. */
  readonly failuresInARow: number
  /** Its share of the calls: the weight of the endpoint, or less of it while it starts slowly (`ClientOptions.slowStart`). Above 0. */
  readonly weight: number
}

/**
 * Picks the endpoint of each call.
 *
 * A balancer belongs to one `Connection`, which calls its methods one at a time; two connections must not share one.
 *
 * Source: `type Balancer` of the Go package.
 *
 * @category models
 * @since 0.1.0
 */
export interface Balancer {
  /**
   * What binds a call to a single endpoint. Default: nothing, any endpoint will do.
   *
   * **When to use**
   *
   * Set it to `"key"` where each shard key belongs to one endpoint and no other endpoint can answer, as with
   * {@link sharded}. Leave it out where a key only prefers an endpoint, as with {@link consistentHash}.
   *
   * **Details**
   *
   * A call with a shard key has no alternative then. The Connection asks the balancer to avoid an endpoint only where
   * the endpoint cannot be called: it is in backoff, or the call has tried it. Without `stickiness`, the Connection
   * also asks it to avoid endpoints that have better alternatives; see {@link PickOptions}. Outliers are not ejected,
   * unless `ClientOptions.outlierEjection` is given: then a call whose endpoint is ejected fails. Calls without a key
   * are treated as usual.
   *
   * **Gotchas**
   *
   * The value must not change. Any other value is a defect of the Connection, or of the call, that is given the
   * balancer. {@link zoneAware} and {@link subset} do not take it over from the balancer inside them, since they have
   * other endpoints to use.
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
   * Replaces the endpoints to pick from, which may leave none. Before the first update there are none. An endpoint is
   * known by its address, and each address is listed once.
   *
   * `views` are what is known of each, in the same order. The view of an endpoint stays the same for as long as it is listed. Without them
   * nothing is known.
   */
  update(endpoints: ReadonlyArray<Endpoint>, views?: ReadonlyArray<EndpointView>): void
  /**
   * Picks one of the endpoints of the last update, or fails with `Unreachable` where there is none to pick: there are
   * no endpoints, or none outside `avoid` will do. Its state changes when the effect runs, not when it is made.
   *
   * To return anything but one of those endpoints is a defect.
   */
  pick(options: PickOptions): Effect.Effect<Endpoint, Unreachable>
}

/** Whether a shard key has one endpoint only: a call with a key then has no alternative. */
export const isSticky = (balancer: Balancer): boolean => balancer.stickiness === "key"
