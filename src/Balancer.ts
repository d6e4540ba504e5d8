/**
 * Which endpoint a call goes to.
 *
 * A `Balancer` is given the current endpoints whenever they change and is asked to pick one for each call. It has state
 * of its own (whose turn it is, say), and that state belongs to one `Connection`. What programs pass around is
 * therefore an effect that makes a balancer, {@link roundRobin} or {@link sharded} or one from {@link make}: every
 * connection runs it for itself.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { Unreachable } from "./CallError.ts"
import type { Endpoint } from "./Endpoint.ts"
import * as internal from "./internal/balancer.ts"

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
   * The addresses of the endpoints that this call has tried already, that are in backoff after a failed dial, or that are left alone because
   * their calls kept failing.
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
  /** The calls that were sent to it and have not ended, and those that wait to be sent to it. */
  readonly callsPending: number
  /**
   * How long its answers have taken, in milliseconds; undefined before there was one. A slow answer counts in full at once, and later ones
   * bring the average down again within some 10 seconds.
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
export const roundRobin: Effect.Effect<Balancer> = Effect.sync(internal.roundRobin)

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
export const sharded: Effect.Effect<Balancer> = Effect.sync(internal.sharded)

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
            ? Effect.fail(new Unreachable({ message: internal.noEndpoints, attempts: [] }))
            : pick(current, options)
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
