/**
 * Which endpoint a call goes to.
 *
 * A `Balancer` is given the current endpoints whenever they change, and picks one of them for each call. Its state,
 * such as whose turn is next, belongs to one `Connection`. So a program passes around an effect that makes a balancer:
 * {@link roundRobin}, another one of this module, or one from {@link make}. Each Connection runs the effect for itself.
 *
 * | Balancer                 | A call goes to                                                            | Use it where                                        |
 * | ------------------------ | ------------------------------------------------------------------------- | --------------------------------------------------- |
 * | {@link roundRobin}       | each endpoint in turn                                                     | they are alike; the default                         |
 * | {@link weighted}         | each in turn, by weight                                                   | it is known how much each can take                  |
 * | {@link leastPending}     | the one of two with fewer calls pending                                   | a client has many calls at once                     |
 * | {@link peakEwma}         | the one of two that is expected to answer sooner                          | endpoints are, or get, of different speed           |
 * | {@link consistentHash}   | the one that the shard key belongs to, or the next                        | they hold caches                                    |
 * | {@link sharded}          | the one that the shard key belongs to, and no other                       | they hold shards                                    |
 * | {@link zoneAware}        | the client's own zone, while its endpoints can take the calls             | traffic between zones is slow or has a price        |
 * | {@link subset}           | a few of many                                                             | there are many clients and many endpoints           |
 *
 * A Connection excludes an endpoint from a pick by its address in `PickOptions.avoid`. This module does not know how
 * the Connection finds out which ones to exclude, nor how it sends a call.
 *
 * @module
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { Unreachable } from "./CallError.ts"
import type { Endpoint } from "./Endpoint.ts"
import { balancerOf } from "./internal/balancer/checks.ts"
import * as consistent from "./internal/balancer/consistentHash.ts"
import { noEndpoints } from "./internal/balancer/immediate.ts"
import * as least from "./internal/balancer/leastPending.ts"
import type { Balancer, PickOptions } from "./internal/balancer/model.ts"
import * as peak from "./internal/balancer/peakEwma.ts"
import * as turns from "./internal/balancer/roundRobin.ts"
import * as shards from "./internal/balancer/sharded.ts"
import * as subsets from "./internal/balancer/subset.ts"
import * as weights from "./internal/balancer/weighted.ts"
import * as zones from "./internal/balancer/zoneAware.ts"
import { effectOf } from "./internal/guard.ts"
import { invalid, wholeNumber } from "./internal/options.ts"

export type { Balancer, EndpointView, PickOptions } from "./internal/balancer/model.ts"

/**
 * Round robin: each call goes to the next endpoint, e1, e2, … en, e1, and so on. Excluded endpoints are skipped.
 *
 * **When to use**
 *
 * Use it if the endpoints are alike. It is the default.
 *
 * **Details**
 *
 * Each run makes a new balancer, which begins with the first endpoint. An update does not start over: the rotation goes
 * on with the endpoint that has waited longest, new ones first. So every endpoint gets its turn, however often the list
 * changes.
 *
 * **Example** (A connection that takes its endpoints in turn)
 *
 * ```ts
 * import { Balancer, Connection, Endpoint, Resolver } from "effect-call"
 *
 * const connection = Connection.make(
 *   Resolver.constant(Endpoint.tcp("10.0.0.1:7000"), Endpoint.tcp("10.0.0.2:7000")),
 *   { balancer: Balancer.roundRobin }
 * )
 * ```
 *
 * Source: `func RoundRobin` of the Go package.
 *
 * @category constructors
 * @since 0.1.0
 */
export const roundRobin: Effect.Effect<Balancer> = Effect.sync(turns.roundRobin)

/**
 * Sharding: each shard key belongs to one endpoint, and the calls with that key go to it and to no other one. Of n
 * endpoints e0, … en−1, that is the endpoint at k mod n for the key k, computed over all of u64.
 *
 * **When to use**
 *
 * Use it if each endpoint holds a part of the data, and no other endpoint can answer for it. If endpoints only hold
 * caches, {@link consistentHash} lets another one answer.
 *
 * **Details**
 *
 * A call with a key never goes to another endpoint: the balancer has the {@link Balancer.stickiness} `"key"`. If the
 * endpoint of the key is excluded, the call fails with `Unreachable`. So does a call with a key outside u64, and the
 * message names the key. A call without a key goes to an endpoint that is drawn at random (with Effect's `Random`) and
 * is not excluded. Each run makes a new balancer.
 *
 * **Gotchas**
 *
 * Nearly all keys move when the number of endpoints changes.
 *
 * **Example** (A balancer for one call)
 *
 * ```ts
 * import { Effect } from "effect"
 * import { Balancer, type Connection, MethodKey } from "effect-call"
 *
 * const get = MethodKey.make("example/Cache", "get")
 *
 * const program = (connection: Connection.Connection, user: bigint, args: Uint8Array) =>
 *   Effect.flatMap(Balancer.sharded, (balancer) => connection.call(get, args, { balancer, shardKey: user }))
 * ```
 *
 * Source: `func Sharded` of the Go package.
 *
 * @category constructors
 * @since 0.1.0
 */
export const sharded: Effect.Effect<Balancer> = Effect.sync(shards.sharded)

/**
 * Round robin by weight: of endpoints with the weights 3, 1 and 1, the first one gets three calls of five, and not in a
 * row.
 *
 * **When to use**
 *
 * Use it if it is known how much each endpoint can take.
 *
 * **Details**
 *
 * The weights are the `weight` of the endpoints, or less while an endpoint starts slowly. `Endpoint.withAttributes`
 * sets a weight, and so do resolvers, from SRV records for example. An excluded endpoint loses its turn. An update does
 * not start over. A new endpoint gets its first call early: within half of the calls in which it has one turn.
 *
 * **Example** (A server that can take three times as many calls as the other)
 *
 * ```ts
 * import { Balancer, Connection, Endpoint, Resolver } from "effect-call"
 *
 * const connection = Connection.make(
 *   Resolver.constant(
 *     Endpoint.withAttributes(Endpoint.tcp("10.0.0.1:7000"), { weight: 3 }),
 *     Endpoint.tcp("10.0.0.2:7000")
 *   ),
 *   { balancer: Balancer.weighted }
 * )
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const weighted: Effect.Effect<Balancer> = Effect.sync(weights.weighted)

/**
 * Least pending calls: a call goes to an endpoint with few calls in flight. Two endpoints are drawn (with Effect's
 * `Random`), and the call goes to the one with fewer calls pending for its weight: the power of two choices.
 *
 * **When to use**
 *
 * Use it if a client has many calls at once. With few calls at once, as each of many clients may have, {@link peakEwma}
 * notices more.
 *
 * **Details**
 *
 * Only the calls of this Connection count: it notices that an endpoint is slow when its own calls pile up there. A
 * client takes the better of two, and not the best of all. So many clients do not choose the same endpoint at the same
 * time. The first endpoint is drawn by weight, and gets the call if both have as much to do. So idle endpoints get
 * their shares, too. Without views, calls are spread at random, by weight.
 *
 * **Example** (A client with many calls at once)
 *
 * ```ts
 * import { Balancer, Connection, Endpoint, Resolver } from "effect-call"
 *
 * const connection = Connection.make(
 *   Resolver.constant(Endpoint.tcp("10.0.0.1:7000"), Endpoint.tcp("10.0.0.2:7000")),
 *   { balancer: Balancer.leastPending }
 * )
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const leastPending: Effect.Effect<Balancer> = Effect.sync(least.leastPending)

/**
 * Lowest expected latency: a call goes to an endpoint that is expected to answer soon. Two endpoints are drawn (with
 * Effect's `Random`), and the call goes to the one with the lower cost: the power of two choices.
 *
 * ```text
 * cost = latency × (calls pending + 1) ÷ weight
 * ```
 *
 * **When to use**
 *
 * Use it if endpoints are of different speed, or can become slow.
 *
 * **Details**
 *
 * A slow answer counts in full at once. It is forgotten within some 10 seconds (`EndpointView.latency`). An endpoint
 * that has not answered yet gets its share of the calls while no call is pending there. Each pending call makes it
 * count as slower. So it is tried with a few calls, and not flooded. Without views, calls are spread at random, by
 * weight.
 *
 * **Gotchas**
 *
 * An endpoint that answers with errors at once looks fast, and has nothing pending. Of n endpoints it gets up to 2/n of
 * the calls: of ten twice its share, of two nearly all. {@link roundRobin} gives it no more than its share.
 *
 * **Example** (Replicas of different speed)
 *
 * ```ts
 * import { Balancer, Connection, Endpoint, Resolver } from "effect-call"
 *
 * const connection = Connection.make(
 *   Resolver.constant(Endpoint.tcp("10.0.0.1:7000"), Endpoint.tcp("10.0.0.2:7000")),
 *   { balancer: Balancer.peakEwma }
 * )
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const peakEwma: Effect.Effect<Balancer> = Effect.sync(peak.peakEwma)

/**
 * Consistent hashing: a call goes to the endpoint that its shard key belongs to, and keys stay where they are when
 * other endpoints join or leave.
 *
 * **When to use**
 *
 * Use it if endpoints hold caches. If no other endpoint can answer for a key, use {@link sharded}.
 *
 * **Details**
 *
 * - An endpoint that joins n − 1 others takes over 1/n of the keys. One that leaves hands its keys to all others. No
 *   other key moves. The shares follow the weights of the endpoints, give or take 9 %.
 * - All clients with the same endpoints find the same one for a key, in whatever order the endpoints are listed.
 * - An excluded endpoint is passed over for the next on the ring, unlike with {@link sharded}. Its keys go to all
 *   others, each key to the same one every time.
 * - So is an endpoint that has too much to do: more than 1.25 times the mean of the calls pending for its weight, and
 *   at least 4. Only the calls of this Connection count, and only with views.
 * - A call without a key goes to the endpoint that {@link leastPending} would pick. A key outside u64 fails with
 *   `Unreachable`, and the message names the key.
 *
 * **Example** (Replicas with caches: a user's calls go to the one that knows the user)
 *
 * ```ts
 * import { Balancer, Connection, Endpoint, MethodKey, Resolver } from "effect-call"
 * import { Effect } from "effect"
 *
 * const get = MethodKey.make("example/Profiles", "get")
 *
 * const program = Effect.gen(function*() {
 *   const connection = yield* Connection.make(
 *     Resolver.constant(Endpoint.tcp("10.0.0.1:7000"), Endpoint.tcp("10.0.0.2:7000")),
 *     { balancer: Balancer.consistentHash }
 *   )
 *   return yield* connection.call(get, new Uint8Array(), { shardKey: 8_412n })
 * })
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const consistentHash: Effect.Effect<Balancer> = Effect.sync(consistent.consistentHash)

/**
 * Prefers the endpoints of the client's own zone (`Endpoint.zone`) while they can take the calls.
 *
 * `balancer` balances over the endpoints of the zone, and a second one of its kind over all others. Default:
 * {@link roundRobin}.
 *
 * **When to use**
 *
 * Use it if traffic between zones is slow or has a price.
 *
 * **Details**
 *
 * An endpoint counts as healthy unless it is excluded or overloaded. It is overloaded with more than 8 calls pending
 * for its weight and a latency of more than twice the mean of the other side. The two sides are the zone and all
 * others. All calls stay in the zone
 *
 * - while at least 1/1.4 of its weight is healthy, some 71 %. Below that, 1.4 times the healthy share stays, and the
 *   rest goes to the others;
 * - or if no larger share of the others is healthy.
 *
 * So a zone that breaks down loses its calls step by step, and gets them back in the same way. A zone that is too small
 * for its clients keeps as many calls as it can answer without getting slow. If one side has nothing to pick, the other
 * side is asked. After as many calls as there are endpoints, the balancer checks again which ones are overloaded. That
 * needs views. Endpoints with a higher priority number (`Endpoint.priority`) count once the endpoints with a lower
 * number are not enough.
 *
 * **Gotchas**
 *
 * A zone that is not a string is a defect.
 *
 * **Example**
 *
 * ```ts
 * import { Balancer, Connection, Endpoint, Resolver } from "effect-call"
 *
 * const connection = Connection.make(
 *   Resolver.constant(
 *     Endpoint.withAttributes(Endpoint.tcp("10.0.1.1:7000"), { zone: "eu-west-1a" }),
 *     Endpoint.withAttributes(Endpoint.tcp("10.0.2.1:7000"), { zone: "eu-west-1b" })
 *   ),
 *   { balancer: Balancer.zoneAware("eu-west-1a", Balancer.peakEwma) }
 * )
 * ```
 *
 * @category combinators
 * @since 0.1.0
 */
export const zoneAware = (zone: string, balancer: Effect.Effect<Balancer> = roundRobin): Effect.Effect<Balancer> =>
  Effect.gen(function*() {
    if (typeof zone !== "string") return invalid("zone", zone, "the name of a zone")
    const make = balancerOf(() => balancer)
    return zones.zoneAware(zone, yield* make, yield* make)
  })

/**
 * Which client a {@link subset} is for.
 *
 * @category models
 * @since 0.1.0
 */
export interface SubsetOptions {
  /**
   * The name of the client, such as the name of its pod or host. No other client may have it, and it must stay the same
   * when the client restarts.
   */
  readonly client: string
}

/**
 * Uses `size` of the endpoints, and makes no connections to the others, unless the Connection is `eager`. `balancer`
 * balances over the endpoints in use. Default: {@link roundRobin}.
 *
 * **When to use**
 *
 * Use it if many clients call many servers: without it, each server has a connection of every client. With few clients
 * choose a larger size.
 *
 * **Details**
 *
 * - The name of the client and the addresses decide which endpoints are used (rendezvous hashing): the same ones after
 *   a restart, in whatever order they are listed.
 * - An endpoint that joins or leaves changes only the subsets that it belongs to, by one endpoint each.
 * - Of c clients, c × size ÷ n use each of n endpoints, give or take the square root of that: 1000 clients with subsets
 *   of 10 put 100 ± 10 on each of 100 endpoints.
 * - Endpoints of a lower `priority` number belong to a subset before all others.
 * - While every endpoint of the subset is excluded, as many others stand in, the same ones every time.
 *
 * **Gotchas**
 *
 * Weights count within a subset. They do not decide which endpoints belong to it: choose a size at which a subset has
 * endpoints of all weights. A size below 1, or a client without a name, is a defect.
 *
 * **Example**
 *
 * ```ts
 * import { Balancer, type Connection } from "effect-call"
 * import { hostname } from "node:os"
 *
 * const options: Connection.ClientOptions = {
 *   balancer: Balancer.subset(20, { client: hostname() }, Balancer.leastPending)
 * }
 * ```
 *
 * @category combinators
 * @since 0.1.0
 */
export const subset = (
  size: number,
  options: SubsetOptions,
  balancer: Effect.Effect<Balancer> = roundRobin
): Effect.Effect<Balancer> =>
  Effect.gen(function*() {
    const { client } = options
    if (typeof client !== "string" || client === "") return invalid("client", client, "the name of the client")
    const make = balancerOf(() => balancer)
    return subsets.subset(wholeNumber("size", size, 1, 1), client, yield* make, yield* make)
  })

/**
 * A balancer from a function of the current endpoints and the options of a pick.
 *
 * **When to use**
 *
 * Use it for a balancer of your own that keeps no state between picks. Otherwise implement {@link Balancer}.
 *
 * **Details**
 *
 * The function is not called if there are no endpoints: such a pick fails with `Unreachable` by itself. For a balancer
 * whose shard keys have one endpoint each, see {@link Balancer.stickiness}.
 *
 * **Example** (The first endpoint that is up)
 *
 * ```ts
 * import { Effect } from "effect"
 * import { Balancer, CallError } from "effect-call"
 *
 * const primary = Balancer.make((endpoints, { avoid }) => {
 *   const first = endpoints.find(({ address }) => !avoid.has(address))
 *   return first === undefined
 *     ? Effect.fail(new CallError.Unreachable({ message: "neither primary nor standby is up", attempts: [] }))
 *     : Effect.succeed(first)
 * })
 * ```
 *
 * Source: `func BalancerFunc` of the Go package.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = (
  pick: (endpoints: ReadonlyArray<Endpoint>, options: PickOptions) => Effect.Effect<Endpoint, Unreachable>
): Effect.Effect<Balancer> =>
  Effect.sync(() => {
    let current: ReadonlyArray<Endpoint> = []
    return {
      update: (endpoints) => {
        current = endpoints.slice()
      },
      pick: (options) =>
        Effect.suspend(() =>
          current.length === 0
            ? Effect.fail(new Unreachable({ message: noEndpoints, attempts: [] }))
            : effectOf("the pick of the balancer", () => pick(current, options))
        )
    }
  })

/**
 * Makes the balancer of each Connection. It is the service that `Connection.layer` takes its balancer from.
 *
 * **Details**
 *
 * Each Connection runs `make` once.
 *
 * @category services
 * @since 0.1.0
 */
export interface Factory {
  /** Makes a new balancer. */
  readonly make: Effect.Effect<Balancer>
}

/**
 * The key of the service {@link Factory}.
 *
 * @category services
 * @since 0.1.0
 */
export const Factory: Context.Service<Factory, Factory> = Context.Service<Factory>("effect-call/Balancer/Factory")

/**
 * Provides the {@link Factory} that runs `make`.
 *
 * **Details**
 *
 * A layer is built once, however often it is provided. The service holds the effect, not a balancer. So Connections
 * that share the layer still have a balancer each.
 *
 * **Example**
 *
 * ```ts
 * import { Layer } from "effect"
 * import { Balancer, Connection, Endpoint, Resolver } from "effect-call"
 *
 * const connection = Connection.layer().pipe(
 *   Layer.provide(Resolver.layer(Resolver.constant(Endpoint.unix("/run/cart.sock")))),
 *   Layer.provide(Balancer.layer(Balancer.sharded))
 * )
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = (make: Effect.Effect<Balancer>): Layer.Layer<Factory> => Layer.succeed(Factory, { make })
