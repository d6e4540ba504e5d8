/**
 * Which endpoints there are to call, now and later.
 *
 * A `Resolver` knows a set of endpoints that may change over time: the addresses behind a host name, the pods of a
 * service, the socket files in a directory. A `Connection` asks it for the current set, and then again and again for a
 * newer one. Every snapshot of the set has a {@link Version}, by which a resolver knows what its caller has seen.
 *
 * {@link constant}, {@link file} and {@link fromSubscriptionRef} are ready-made; any object with the two members is a
 * resolver.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Equal from "effect/Equal"
import * as FileSystem from "effect/FileSystem"
import * as Hash from "effect/Hash"
import * as Layer from "effect/Layer"
import * as PubSub from "effect/PubSub"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import * as SubscriptionRef from "effect/SubscriptionRef"
import type { Endpoint } from "./Endpoint.ts"
import { make as makeKubernetes } from "./internal/resolver/kubernetes.ts"
import type { Failure } from "./internal/resolver/kubernetesFailure.ts"

const VersionTypeId = "~effect-call/Resolver/Version"

/**
 * The version of a set of endpoints.
 *
 * Versions are opaque: they come from a resolver's `resolve`, are given back to the `resolve` of the same resolver, and
 * mean nothing elsewhere. They have no order; two are equal (`Equal.equals`) where their texts are.
 *
 * Source: `type Version` of the Go package.
 *
 * @category models
 * @since 0.1.0
 */
export interface Version extends Equal.Equal {
  readonly [VersionTypeId]: typeof VersionTypeId
  readonly opaque: string
  toString(): string
}

/**
 * What a resolver answers: the endpoints, in its order, and the version of this set of them. A constant resolver gives
 * no version.
 *
 * @category models
 * @since 0.1.0
 */
export interface Resolution {
  readonly endpoints: ReadonlyArray<Endpoint>
  readonly version?: Version | undefined
}

/**
 * A potentially changing set of endpoints. One resolver may serve several connections, and be asked by all of them at
 * once.
 *
 * **Example** (Following a resolver)
 *
 * ```ts
 * import { Console, Effect, Equal } from "effect"
 * import type { Resolver } from "effect-call"
 *
 * const printAddresses = Effect.fn("printAddresses")(function*(resolver: Resolver.Resolver) {
 *   let version: Resolver.Version | undefined
 *   while (true) {
 *     const resolution = yield* resolver.resolve(version)
 *     for (const endpoint of resolution.endpoints) yield* Console.log(endpoint.address)
 *     if (resolver.isConstant) return
 *     if (Equal.equals(resolution.version, version)) yield* Effect.sleep("1 second")
 *     version = resolution.version
 *   }
 * })
 * ```
 *
 * Source: `type Resolver` of the Go package.
 *
 * @category models
 * @since 0.1.0
 */
export interface Resolver {
  /** Whether the endpoints never change, so that one `resolve` is enough. */
  readonly isConstant: boolean
  /**
   * The endpoints. Without a version: the current set and its version, at once. With the version of an earlier answer,
   * one of two things, as the resolver likes: it waits until there is a newer set, or it returns the same version,
   * which means "ask again after a while". A constant resolver always returns the same endpoints and no version.
   */
  resolve(version?: Version): Effect.Effect<Resolution, ResolverError>
  /**
   * Says that what was resolved may be out of date: an endpoint could not be dialed, or was lost. A resolver that only looks now and then
   * looks again soon; it limits by itself how often. Default: it finds out without being told.
   */
  readonly refresh?: Effect.Effect<void> | undefined
}

/**
 * A resolver could not find out its endpoints. A `Connection` keeps the ones it has and asks again.
 *
 * @category errors
 * @since 0.1.0
 */
export class ResolverError extends Schema.TaggedError<ResolverError>("effect-call/ResolverError")("ResolverError", {
  message: Schema.String,
  cause: Schema.optionalKey(Schema.Defect())
}) {}

/**
 * The service from which `Connection.layer` takes its resolver.
 *
 * @category services
 * @since 0.1.0
 */
export const Resolver: Context.Service<Resolver, Resolver> = Context.Service<Resolver>("effect-call/Resolver")

const VersionProto = {
  [VersionTypeId]: VersionTypeId,
  [Equal.symbol](this: Version, that: Equal.Equal): boolean {
    return isVersion(that) && this.opaque === that.opaque
  },
  [Hash.symbol](this: Version): number {
    return Hash.string(this.opaque)
  },
  toString(this: Version): string {
    return `Version(${this.opaque})`
  }
}

const isVersion = (u: object): u is Version => VersionTypeId in u

/**
 * A version with the given text, for those who write a resolver.
 *
 * @category constructors
 * @since 0.1.0
 */
export const version = (text: string): Version => Object.assign(Object.create(VersionProto), { opaque: text })

/**
 * The version of something that does not exist (yet).
 *
 * Source: `var Missing` of the Go package.
 *
 * @category constructors
 * @since 0.1.0
 */
export const missing: Version = version("__tombstone__")

/**
 * A resolver whose endpoints never change.
 *
 * **Example**
 *
 * ```ts
 * import { Endpoint, Resolver } from "effect-call"
 *
 * const replicas = Resolver.constant(Endpoint.tcp("10.0.0.1:7000"), Endpoint.unix("/run/cart.sock"))
 * ```
 *
 * Source: `func NewConstantResolver` of the Go package.
 *
 * @category constructors
 * @since 0.1.0
 */
export const constant = (...endpoints: ReadonlyArray<Endpoint>): Resolver => {
  const resolution = Effect.succeed<Resolution>({ endpoints })
  return { isConstant: true, resolve: () => resolution }
}

const pollInterval = "250 millis"

/**
 * A resolver that has no endpoints until a file exists, and the given ones from then on.
 *
 * It notices the file within a second of its creation, and only looks for it while somebody waits. What the file
 * contains is not read. Its later removal changes nothing: it says that the servers have come up, not that they are up.
 * Where it cannot be found out whether the file exists (a directory on the way may not be entered, say), `resolve`
 * fails with a `ResolverError` that names the path.
 *
 * **Example** (A server that announces itself by a file)
 *
 * ```ts
 * import { NodeFileSystem } from "@effect/platform-node"
 * import { Effect } from "effect"
 * import { Endpoint, Resolver } from "effect-call"
 *
 * const whenReady = Resolver.file("/run/cart.ready", Endpoint.unix("/run/cart.sock"))
 *
 * const resolver = Resolver.layer(Effect.provide(whenReady, NodeFileSystem.layer))
 * ```
 *
 * Source: `func NewFileResolver` of the Go package.
 *
 * @category constructors
 * @since 0.1.0
 */
export const file = (
  path: string,
  ...endpoints: ReadonlyArray<Endpoint>
): Effect.Effect<Resolver, never, FileSystem.FileSystem> =>
  Effect.map(FileSystem.FileSystem, (fs): Resolver => {
    const absent: Resolution = { endpoints: [], version: missing }
    const present: Resolution = { endpoints, version: version(`created: ${path}`) }
    let seen = false

    const look: Effect.Effect<Resolution, ResolverError> = Effect.suspend(() => {
      if (seen) return Effect.succeed(present)
      if (path === "") return Effect.fail(new ResolverError({ message: "the path of the file to wait for is empty" }))
      return Effect.matchEffect(fs.exists(path), {
        onFailure: (cause) =>
          Effect.fail(
            new ResolverError({
              message: `whether the file "${path}" exists cannot be found out: ${cause.message}`,
              cause
            })
          ),
        onSuccess: (exists) => {
          if (exists) seen = true
          return Effect.succeed(seen ? present : absent)
        }
      })
    })

    const wait: Effect.Effect<Resolution, ResolverError> = Effect.flatMap(
      look,
      (resolution) => resolution === present ? Effect.succeed(present) : Effect.delay(wait, pollInterval)
    )

    return {
      isConstant: false,
      resolve: (version) => {
        if (version === undefined) return look
        if (Equal.equals(version, present.version)) return Effect.never
        return Equal.equals(version, missing) ? wait : look
      }
    }
  })

let refs = 0

/**
 * A resolver whose endpoints are those in a `SubscriptionRef`: setting the ref is all it takes to change them.
 *
 * Each change of the ref's value is a new version. `resolve` with the current version waits for the next change, with
 * any other it returns the current endpoints at once: several changes in a row may be seen as one, the last is never
 * missed.
 *
 * **Example** (Endpoints that the program itself decides on)
 *
 * ```ts
 * import { Effect, SubscriptionRef } from "effect"
 * import { Connection, Endpoint, Resolver } from "effect-call"
 *
 * const program = Effect.gen(function*() {
 *   const replicas = yield* SubscriptionRef.make<ReadonlyArray<Endpoint.Endpoint>>([Endpoint.tcp("10.0.0.1:7000")])
 *   const connection = yield* Connection.make(Resolver.fromSubscriptionRef(replicas))
 *   yield* SubscriptionRef.update(replicas, (current) => [...current, Endpoint.tcp("10.0.0.2:7000")])
 *   return connection
 * })
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const fromSubscriptionRef = (ref: SubscriptionRef.SubscriptionRef<ReadonlyArray<Endpoint>>): Resolver => {
  // No other resolver's version reads like one of ours.
  const id = ++refs
  let changes = 0
  const snapshot = (endpoints: ReadonlyArray<Endpoint>) => ({ endpoints, version: version(`ref ${id}: ${changes++}`) })
  let latest = snapshot(SubscriptionRef.getUnsafe(ref))

  // A ref does not count its changes: a value other than the last one seen is a change, whoever sees it first.
  const current = (): Resolution => {
    const endpoints = SubscriptionRef.getUnsafe(ref)
    if (endpoints !== latest.endpoints) latest = snapshot(endpoints)
    return latest
  }

  const newerThan = Effect.fnUntraced(function*(seen: Version) {
    // The subscription is there before the value is looked at, and a value is set before it is published: no change
    // gets past both.
    const subscription = yield* PubSub.subscribe(ref.pubsub)
    while (true) {
      const resolution = current()
      if (!Equal.equals(resolution.version, seen)) return resolution
      yield* PubSub.take(subscription)
    }
  }, Effect.scoped)

  return {
    isConstant: false,
    resolve: (version) =>
      Effect.suspend(() => {
        const resolution = current()
        return version !== undefined && Equal.equals(resolution.version, version)
          ? newerThan(version)
          : Effect.succeed(resolution)
      })
  }
}

/**
 * Which Kubernetes Service, and how to reach the API of its cluster.
 *
 * @category models
 * @since 0.1.0
 */
export interface KubernetesOptions {
  /** The name of the Service. */
  readonly service: string
  /** The namespace that it is in. Default: that of this pod, or of the kubeconfig's context, or `default`. */
  readonly namespace?: string | undefined
  /**
   * The name of the Service's port, whose number on the pods may differ from pod to pod; or the number that the pods listen on, which is not
   * that of the Service. Default: the only TCP port that there is.
   */
  readonly port?: string | number | undefined
  /** The path of a kubeconfig file. Default: see {@link kubernetes}. */
  readonly kubeconfig?: string | undefined
  /** The name of a context in the kubeconfig. Default: its `current-context`. */
  readonly context?: string | undefined
}

const kubernetesError = ({ cause, message }: Failure): ResolverError =>
  new ResolverError(cause === undefined ? { message } : { message, cause })

/**
 * The pods of a Kubernetes Service: its EndpointSlices, listed and then watched, so that a pod is known as soon as the cluster knows that it is
 * ready, or going. Calls go to the pods themselves; the Service may be headless or not.
 *
 * - The endpoints are the ready pods, and where none is ready those that terminate and still serve, as with kube-proxy. They have the zone of
 *   their node, and are in the order of their addresses, the same for all clients. A pod with an IPv4 and an IPv6 address is used by the former.
 *   Which zones should call them, the hints of the cluster, is left to the balancer.
 * - The cluster is that of `kubeconfig`, or of `KUBECONFIG`; else the one that this is a pod in; else that of `~/.kube/config`, each where it is
 *   there. Environment variables are read through `Config`. Tokens, certificates and keys are read anew for each request.
 * - The API is asked again after 0.5 s, then twice as long up to 30 s, up to half of it off at random. Meanwhile the last endpoints stay, and
 *   `resolve` fails once for each attempt for those who wait for newer ones.
 * - A watch lives for 5 to 10 minutes, and is given up where nothing comes for 150 s.
 *
 * The service account needs the verbs `list` and `watch` on `endpointslices` of `discovery.k8s.io`, in the Service's namespace.
 *
 * Fails where the configuration of the cluster cannot be read, or has what is not supported: `exec` plugins, `auth-provider`, passwords,
 * impersonation, `proxy-url`, `insecure-skip-tls-verify`. `resolve` fails with the answer of the API, and where the port cannot be told. An option
 * that cannot be is a defect that names it.
 *
 * **Example**
 *
 * ```ts
 * import { NodeFileSystem } from "@effect/platform-node"
 * import { Layer } from "effect"
 * import { Balancer, Connection, Resolver } from "effect-call"
 *
 * const Cart = Connection.layer().pipe(
 *   Layer.provide([Resolver.layer(Resolver.kubernetes({ service: "cart", port: "calls" })), Balancer.layer(Balancer.roundRobin)]),
 *   Layer.provide(NodeFileSystem.layer)
 * )
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const kubernetes = (
  options: KubernetesOptions
): Effect.Effect<Resolver, ResolverError, FileSystem.FileSystem | Scope.Scope> =>
  Effect.mapBoth(makeKubernetes(options), {
    onFailure: kubernetesError,
    onSuccess: (source): Resolver => ({
      isConstant: false,
      resolve: (seen) =>
        Effect.mapBoth(source.after(seen?.opaque), {
          onFailure: kubernetesError,
          onSuccess: (snapshot) => ({ endpoints: snapshot.endpoints, version: version(snapshot.version) })
        })
    })
  })

/**
 * Provides the {@link Resolver} service: a resolver, or an effect that makes one and may take its time, fail, or
 * acquire what is released with the layer.
 *
 * **Example**
 *
 * ```ts
 * import { Endpoint, Resolver } from "effect-call"
 *
 * const cart = Resolver.layer(Resolver.constant(Endpoint.tcp("cart.internal:7000")))
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = <E = never, R = never>(
  resolver: Resolver | Effect.Effect<Resolver, E, R>
): Layer.Layer<Resolver, E, Exclude<R, Scope.Scope>> =>
  Layer.effect(Resolver, Effect.isEffect(resolver) ? resolver : Effect.succeed(resolver))
