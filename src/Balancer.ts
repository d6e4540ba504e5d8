/**
 * Which endpoint a call goes to.
 *
 * A `Balancer` is given the current endpoints whenever they change and is asked to pick one for each call. It has state
 * of its own (whose turn it is, say), and that state belongs to one `Connection`. What programs pass around is
 * therefore an effect that makes a balancer, {@link roundRobin} or another one of this module or one from {@link make}: every
 * connection runs it for itself.
 *
 * | Balancer                 | A call goes to                                                            | Use it where                                        |
 * | ------------------------ | ------------------------------------------------------------------------- | --------------------------------------------------- |
 * | {@link roundRobin}       | each endpoint in turn                                                     | they are alike; the default                         |
 * | {@link weighted}         | each in turn, by weight                                                   | it is known how much each can take                  |
 * | {@link leastPending}     | the one of two with fewer calls pending                                   | a client has many calls at once                     |
 * | {@link peakEwma}         | the one of two that is expected to answer sooner                          | endpoints are, or get, of different speed           |
 * | {@link consistentHash}   | the one that the shard key belongs to, or the next                        | they hold caches                                    |
 * | {@link sharded}          | the one that the shard key belongs to, and no other                       | they hold shards                                    |
 * | {@link zoneAware}        | those of the own zone, as long as they are well                           | traffic between zones is slow or has a price        |
 * | {@link subset}           | a few of many                                                             | there are many clients and many endpoints           |
 *
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
 * Round robin: the endpoints in turn, e1, e2, … en, e1, and so on, without those to be avoided.
 *
 * An update does not start over: the rotation goes on with the endpoint that has waited longest, new ones first, so
 * that no endpoint is left out however often the list changes. Each run makes a fresh balancer, which begins with the
 * first endpoint.
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
 * Sharding: of n endpoints e0, … en−1, a call with shard key k goes to the endpoint at k mod n, computed over all
 * of u64.
 *
 * A call with a key never goes to another endpoint: where its own is to be avoided, it fails with `Unreachable`, and so
 * does a key outside u64, which is named. A call without a key goes to an endpoint picked at random (with Effect's
 * `Random`) among those not to be avoided. Each run makes a fresh balancer.
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
 * Round robin by weight: of endpoints with the weights 3, 1 and 1 the first one gets three calls of five, and not in a row.
 *
 * The weights are those of the endpoints (`Endpoint.withAttributes`; those that a resolver takes from SRV records), or less while an endpoint
 * starts slowly. An endpoint that is to be avoided loses its turn. An update does not start over; those that are new come next, each within half of the
 * calls in which it has one turn.
 *
 * **Example** (A server that can take three times as much as the other)
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
 * Least pending calls, by the power of two choices: two endpoints are drawn (with Effect's `Random`), and the one with fewer calls pending for its
 * weight gets the call.
 *
 * To take the best of all instead of the better of two would have many clients run after the same endpoint. The first one is drawn by weight
 * and gets the call where both have as much to do, so that idle endpoints have their shares, too. Without views, calls are spread at random, by weight.
 *
 * What counts are the calls of this connection: it notices that an endpoint is slow by its own calls that pile up there. With few calls at once, as
 * each of many clients may have, {@link peakEwma} notices more.
 *
 * @category constructors
 * @since 0.1.0
 */
export const leastPending: Effect.Effect<Balancer> = Effect.sync(least.leastPending)

/**
 * Lowest expected latency, by the power of two choices: two endpoints are drawn (with Effect's `Random`), and the call goes to the one with the lower
 * cost.
 *
 * ```
 * cost = latency × (calls pending + 1) ÷ weight
 * ```
 *
 * One slow answer makes an endpoint as costly as that answer was slow, at once; within some 10 seconds it is forgotten (`EndpointView.latency`). An
 * endpoint that has not answered yet gets its share of calls while none is pending there, and is taken for slower with each that is: it is tried
 * with a few calls and not flooded. Without views, calls are spread at random, by weight.
 *
 * An endpoint that answers with errors at once looks fast, and has nothing pending. It gets up to 2/n of the calls of n endpoints for that: of ten twice its
 * share, and of two nearly all. {@link roundRobin} gives it no more than its share.
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
 * Consistent hashing: a call goes to the endpoint that its shard key belongs to, and keys stay where they are when others join or leave.
 *
 * - An endpoint that joins n − 1 others takes over 1/n of the keys, and one that leaves hands its own to all others; no other key moves. The shares are as
 *   the weights of the endpoints, give or take 9 %.
 * - Every client with the same endpoints finds the same one for a key, in whatever order they are listed.
 * - An endpoint that is to be avoided is passed over for the next on the ring, unlike with {@link sharded}; its keys go to all others, each to
 *   the same one every time.
 * - So is one that has too much to do: more than 1.25 times the mean of the calls pending for its weight, and no less than 4. This is about the
 *   calls of this connection, and needs views.
 * - A call without a key goes where {@link leastPending} would send it. A key outside u64 is `Unreachable`, and named.
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
 * Prefers the endpoints of one's own zone (`Endpoint.zone`) while they can take the calls.
 *
 * `balancer` balances over those of the zone, and another one over all others; by default {@link roundRobin}.
 *
 * An endpoint is well unless it is to be avoided or has too much to do: more than 8 calls pending for its weight, and a latency of more than twice the
 * mean of the other side. All calls stay in the zone
 *
 * - as long as 1/1.4 of its weight is well, that is, some 71 %: below that 1.4 times the share that is well stays, and the rest goes to the others,
 * - or where of the others no larger share is well.
 *
 * So a zone that breaks down sends its calls away bit by bit, and gets them back so; and one that is too small for its clients keeps as many as it can
 * answer without getting slow. Where one side has nothing to pick the other is asked. Which endpoints have too much to do is found out anew after as many
 * calls as there are endpoints, and needs views.
 *
 * An endpoint behind others (`Endpoint.priority`) counts once those are not enough. A zone that is not a string is a defect.
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
 * Who picks a {@link subset}.
 *
 * @category models
 * @since 0.1.0
 */
export interface SubsetOptions {
  /** The name of the client, which no other client has and which stays the same when it restarts: of a pod or a host, say. */
  readonly client: string
}

/**
 * Uses `size` of the endpoints, and leaves the connections to the others unmade, unless the Connection is `eager`: with many clients and many servers each server would have a connection of
 * every client. Another balancer, by default {@link roundRobin}, balances over those.
 *
 * - Which they are depends on the name of the client and on the addresses (rendezvous hashing): the same ones again after a restart, in whatever order they
 *   are listed.
 * - An endpoint that joins or leaves changes the subsets it belongs to, by one endpoint each, and no others.
 * - Of c clients, c × size ÷ n use each of n endpoints, give or take the root of that: 1000 clients with subsets of 10 put 100 ± 10 on each of 100
 *   endpoints. With few clients choose a larger size.
 * - Those with a lower `priority` number belong to a subset before all others.
 * - While all of it is to be avoided, as many others stand in, the same ones every time.
 *
 * Weights count within a subset, and not for what belongs to it: give it a size at which it has endpoints of all kinds. A size below 1, or a client without a
 * name, is a defect.
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
 * A balancer from a function of the current endpoints and the options of a pick, which keeps no state between picks.
 *
 * The function is not asked where there are no endpoints; such a pick is `Unreachable` by itself.
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
 * The service from which `Connection.layer` takes its balancer: `make` is run once by each connection.
 *
 * @category services
 * @since 0.1.0
 */
export interface Factory {
  readonly make: Effect.Effect<Balancer>
}

/**
 * @category services
 * @since 0.1.0
 */
export const Factory: Context.Service<Factory, Factory> = Context.Service<Factory>("effect-call/Balancer/Factory")

/**
 * Provides the {@link Factory} that runs `make`.
 *
 * A layer is built once however often it is provided. Since the service holds the effect and not a balancer, the
 * connections that share the layer still have a balancer each.
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
