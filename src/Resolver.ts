/**
 * Which endpoints there are to call, now and later.
 *
 * A `Resolver` knows a set of endpoints that may change over time: the addresses behind a host name, the pods of a
 * service, the socket files in a directory. A `Connection` asks it for the current set, and then again and again for a
 * newer one. Every snapshot of the set has a {@link Version}, by which a resolver knows what its caller has seen.
 *
 * Ready-made are {@link constant}, {@link file}, {@link directory}, {@link dns}, {@link dnsSrv}, {@link kubernetes},
 * {@link fromSubscriptionRef} and {@link fromStream}; {@link map}, {@link filter} and {@link merge} make others of them, and {@link parse} reads one from a text. Any object
 * with `isConstant` and `resolve` is a resolver.
 *
 * @since 0.1.0
 */
import * as Config from "effect/Config"
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Equal from "effect/Equal"
import * as FileSystem from "effect/FileSystem"
import { dual, identity } from "effect/Function"
import * as Layer from "effect/Layer"
import type * as Dns from "effect/net/Dns"
import type { NetAddressError } from "effect/net/NetAddress"
import type * as Option from "effect/Option"
import * as PubSub from "effect/PubSub"
import * as Result from "effect/Result"
import type * as Scope from "effect/Scope"
import type * as Stream from "effect/Stream"
import * as SubscriptionRef from "effect/SubscriptionRef"
import type { Endpoint } from "./Endpoint.ts"
import { effectOf, isolated } from "./internal/guard.ts"
import { invalid } from "./internal/options.ts"
import { combined } from "./internal/resolver/combined.ts"
import * as internalDirectory from "./internal/resolver/directory.ts"
import * as internalDns from "./internal/resolver/dns.ts"
import { ask, checkedResolver } from "./internal/resolver/given.ts"
import {
  again,
  InvalidResolver,
  joined,
  problemOf,
  resolution,
  ResolverError,
  version,
  versions,
  type VersionTypeId
} from "./internal/resolver/model.ts"
import { nodeDns } from "./internal/resolver/nodeDns.ts"
import { isScheme, parseEndpoints, splitFile, splitScheme } from "./internal/resolver/parse.ts"
import * as internalStream from "./internal/resolver/stream.ts"
import * as internalTimeToLive from "./internal/resolver/timeToLive.ts"
import { isInstance, textOf } from "./internal/userError.ts"

/**
 * The version of a set of endpoints.
 *
 * Versions are opaque: they come from a resolver's `resolve`, are given back to the `resolve` of the same resolver, and
 * mean nothing elsewhere. They have no order; two are equal (`Equal.equals`) where their texts are. A resolver is to be
 * given the very object that it gave last: one of this package answers another at once, as who has that has not heard
 * of the last `problem`.
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
 * What a resolver answers.
 *
 * - `endpoints`: in its order.
 * - `version`: of this set of endpoints. A constant resolver gives none.
 * - `problem`: why there are no endpoints, or fewer than there should be, where it knows that: `"cart.internal" is not
 *   in DNS (ENOTFOUND)`. It is a part of the messages of calls that fail because of that, and may change while the
 *   version stays.
 *
 * @category models
 * @since 0.1.0
 */
export interface Resolution {
  readonly endpoints: ReadonlyArray<Endpoint>
  readonly version?: Version | undefined
  readonly problem?: string | undefined
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
   *
   * The `problem` of an answer counts whatever its version. After a failure whoever was told of it takes the resolver
   * for failing until it answers: so it is to return the same version as soon as it is well again.
   */
  resolve(version?: Version): Effect.Effect<Resolution, ResolverError>
  /**
   * Says that what was resolved may be out of date: an endpoint could not be dialed, or was lost. A resolver that only looks now and then
   * looks again soon; it limits by itself how often. Default: it finds out without being told.
   */
  readonly refresh?: Effect.Effect<void> | undefined
}

export {
  /**
   * A text names no resolver; `message` says what is wrong with which part of `text`, and what was expected.
   *
   * @category errors
   * @since 0.1.0
   */
  InvalidResolver,
  /**
   * A resolver could not find out its endpoints. A `Connection` keeps the ones it has and asks again.
   *
   * @category errors
   * @since 0.1.0
   */
  ResolverError,
  /**
   * A version with the given text, for those who write a resolver.
   *
   * @category constructors
   * @since 0.1.0
   */
  version
}

/**
 * The service from which `Connection.layer` takes its resolver.
 *
 * @category services
 * @since 0.1.0
 */
export const Resolver: Context.Service<Resolver, Resolver> = Context.Service<Resolver>("effect-call/Resolver")

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
    const notYet = (version: Version): Resolution => resolution([], version, `the file "${path}" does not exist yet`)
    let absent = notYet(missing)
    const present: Resolution = { endpoints, version: version(`created: ${path}`) }
    let seen = false
    let failing = false

    const exists = Effect.tapDefect(
      Effect.suspend(() => isolated(effectOf("the exists of FileSystem", () => fs.exists(path)), identity)),
      () =>
        Effect.sync(() => {
          failing = true
        })
    )

    const look: Effect.Effect<Resolution, ResolverError> = Effect.suspend(() => {
      if (seen) return Effect.succeed(present)
      if (path === "") return Effect.fail(new ResolverError({ message: "the path of the file to wait for is empty" }))
      return Effect.matchEffect(exists, {
        onFailure: (cause) => {
          failing = true
          return Effect.fail(
            new ResolverError({
              message: `whether the file "${path}" exists cannot be found out: ${cause.message}`,
              cause
            })
          )
        },
        onSuccess: (exists) => {
          if (exists) seen = true
          // Those who wait hear that it can be found out again.
          if (failing) absent = notYet(again(missing))
          failing = false
          return Effect.succeed(seen ? present : absent)
        }
      })
    })

    const newerThan = (seen: Version): Effect.Effect<Resolution, ResolverError> =>
      Effect.flatMap(
        look,
        (resolution) =>
          resolution.version === seen ? Effect.delay(newerThan(seen), pollInterval) : Effect.succeed(resolution)
      )

    return {
      isConstant: false,
      resolve: (version) => {
        if (version === undefined) return look
        if (Equal.equals(version, present.version)) return Effect.never
        return version === absent.version ? newerThan(version) : look
      }
    }
  })

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
  const nextVersion = versions("ref")
  const snapshot = (endpoints: ReadonlyArray<Endpoint>) => ({ endpoints, version: nextVersion() })
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
 * A resolver whose endpoints are the last element of a stream.
 *
 * The stream runs until the Scope ends. The first `resolve` waits for its first element. When the stream fails, so does every `resolve` that
 * waits for something newer, with a `ResolverError`; the last endpoints stay. They also stay when it ends, and then nothing newer is waited for in vain.
 * Each element is a new version.
 *
 * **Example** (The addresses that another service tells)
 *
 * ```ts
 * import { Stream } from "effect"
 * import { Endpoint, Resolver } from "effect-call"
 *
 * declare const members: Stream.Stream<ReadonlyArray<string>, Error>
 *
 * const resolver = Resolver.layer(
 *   Resolver.fromStream(Stream.map(members, (hosts) => hosts.map((host) => Endpoint.tcp(`${host}:7000`))))
 * )
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const fromStream: <E, R>(
  stream: Stream.Stream<ReadonlyArray<Endpoint>, E, R>
) => Effect.Effect<Resolver, never, R | Scope.Scope> = internalStream.fromStream

/**
 * How DNS is asked.
 *
 * - `interval`: how long after one answer it is asked again: as long as the answer's time to live says (5 seconds where nobody knows that, see
 *   {@link layerDns}), but no less than `min` (1 second by default) and no more than `max` (30 seconds, or `min` where that is more). `min` also
 *   limits how often it is asked because an endpoint was lost.
 * - `onEmpty`: what is made of the answer that there are none. `accept`, the default: there are no endpoints then. `keep`: the last ones stay, as they
 *   always do when DNS fails.
 *
 * Bad options are defects that name the option.
 *
 * @category models
 * @since 0.1.0
 */
export interface DnsOptions {
  readonly interval?: {
    readonly min?: Duration.Input | undefined
    readonly max?: Duration.Input | undefined
  } | undefined
  readonly onEmpty?: "accept" | "keep" | undefined
}

/**
 * The addresses of a name, `host:port`: an endpoint for each of its A and AAAA records.
 *
 * DNS is asked again when the records' time to live is over, and at once when a `Connection` has lost an endpoint or cannot dial it, within the
 * bounds of {@link DnsOptions}. It is asked only while somebody waits for news, and once for all connections that share the resolver.
 *
 * - The endpoints are sorted, each address is there once, and the same set is the same version: `Balancer.sharded` stays stable.
 * - A name that DNS has no addresses for is looked up as the system does it: by its hosts file and search domains. `localhost` always is.
 * - A and AAAA records are asked for side by side. Once there are some of one family, the other is waited for 50 ms;
 *   once one is known to have none, 5 s. What comes later is added then. A family that is not answered keeps its last
 *   addresses; where nothing was ever known of it, the `problem` of the {@link Resolution} says so. One query of each
 *   is under way at a time, for a minute at most.
 * - When DNS fails, the last addresses stay. The first `resolve` fails with a `ResolverError` then. A name without addresses is no failure; it is
 *   logged as a warning, and is the `problem` of the {@link Resolution}.
 * - What DNS answers is taken for all there is. A name server that gives a few of many addresses each time makes endpoints come and go.
 * - An IP address in place of a name is a constant resolver. The port is a number or the name of a service.
 *
 * It fails with an {@link InvalidResolver} where the text is not `host:port`. {@link layerDns} provides `Dns`, as does any other layer for it.
 *
 * **Example** (A headless service)
 *
 * ```ts
 * import { Layer } from "effect"
 * import { Balancer, Connection, Resolver } from "effect-call"
 *
 * const replicas = Resolver.layer(Resolver.dns("cart.internal:7000", { interval: { max: "10 seconds" } })).pipe(
 *   Layer.provide(Resolver.layerDns())
 * )
 * const client = Connection.layer().pipe(Layer.provide([replicas, Balancer.layer(Balancer.roundRobin)]))
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const dns: (
  target: string,
  options?: DnsOptions
) => Effect.Effect<Resolver, InvalidResolver, Dns.Dns> = (target, options) => internalDns.addresses(target, options)

/**
 * The servers that the SRV records of a name point to.
 *
 * There is an endpoint for each address of each record's target. Its `priority` is that of the record, and its `weight` too, shared among the
 * target's addresses. Beside others of its priority a record of weight 0 counts as one of 0.1: it is hardly ever used (RFC 2782). Where all have weight 0, each
 * counts as 1. The target `.` is no server.
 *
 * All else is as with {@link dns}, but that a target is a complete name: hosts file and search domains do not know it,
 * save `localhost`. A target whose addresses cannot be found out, or not within a second, keeps its last ones, and is
 * left out until there are some.
 *
 * **Example**
 *
 * ```ts
 * import { Layer } from "effect"
 * import { Resolver } from "effect-call"
 *
 * const replicas = Resolver.layer(Resolver.dnsSrv("_rpc._tcp.cart.internal")).pipe(Layer.provide(Resolver.layerDns()))
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const dnsSrv: (
  name: string,
  options?: DnsOptions
) => Effect.Effect<Resolver, InvalidResolver, Dns.Dns> = (name, options) => internalDns.services(name, options)

/**
 * How long the last answer to a question is good. Effect's `Dns` does not tell; {@link dns} asks this right after it. Default: nobody knows.
 *
 * {@link layerDns} provides it, for A and AAAA records.
 *
 * @category services
 * @since 0.1.0
 */
export const DnsTimeToLive: Context.Reference<
  (name: string, type: "A" | "AAAA" | "SRV") => Effect.Effect<Option.Option<Duration.Duration>>
> = internalTimeToLive.DnsTimeToLive

/**
 * Which name servers are asked, and how. Bad options are defects that name the option; a bad name server is a `NetAddressError` of the layer.
 *
 * - `nameServers`: IP addresses, with a port where it is not 53: `10.0.0.53`, `[2001:db8::53]:5353`. Default: those
 *   that the system has at the time. When they change, as with another network, the new ones are asked within a second,
 *   also for what others have not answered. What `dns.setServers` says does not count.
 * - `timeout`: how long an answer is waited for at first; longer at each further try. Default: that of the system's
 *   configuration, or 2 seconds.
 * - `tries`: how often each server is asked. Default: 4. One that is silent is waited for 24 seconds in all.
 *
 * @category models
 * @since 0.1.0
 */
export interface DnsServerOptions {
  readonly nameServers?: ReadonlyArray<string> | undefined
  readonly timeout?: Duration.Input | undefined
  readonly tries?: number | undefined
}

/**
 * Provides `Dns` by Node's `node:dns`, and the time to live of its answers.
 *
 * It answers what {@link dns} and {@link dnsSrv} ask: `lookup`, A, AAAA and SRV records. Other queries fail with `Unsupported`: an application that has
 * those too gives this to its resolvers only. With the `NodeDns` of `@effect/platform-node` in its place, DNS is asked every 5 seconds.
 *
 * Node does not tell the time to live of SRV records: theirs counts as 5 seconds.
 *
 * **Example** (A name server of its own)
 *
 * ```ts
 * import { Layer } from "effect"
 * import { Resolver } from "effect-call"
 *
 * const replicas = Resolver.layer(Resolver.dns("cart.service.consul:7000")).pipe(
 *   Layer.provide(Resolver.layerDns({ nameServers: ["127.0.0.1:8600"], timeout: "2 seconds" }))
 * )
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layerDns = (options?: DnsServerOptions): Layer.Layer<Dns.Dns, NetAddressError> =>
  Layer.effectContext(nodeDns(options))

/**
 * How a directory is read.
 *
 * - `interval`: how often it is read besides when it has changed, for the changes that nobody tells of. Default: 2 seconds.
 *
 * @category models
 * @since 0.1.0
 */
export interface DirectoryOptions {
  readonly interval?: Duration.Input | undefined
}

/**
 * The Unix sockets in a directory, one for each server that is there, sorted by name.
 *
 * The directory is watched, so that a socket that appears or goes is noticed at once, and read each `interval` besides. It may be missing, be removed and be
 * made again. Only sockets count, and no names that begin with a dot. That only goes on while a `Connection` waits for news.
 *
 * **Sockets without a server.** A server that was killed leaves its socket behind, and one that starts has one a moment before it listens. So each
 * new socket is tried by connecting to it, and one that refuses is not listed; it is tried again soon, and then less and less often, up to each `interval`.
 * When a `Connection` has lost an endpoint, or cannot dial it, all are tried again, at most once a second. Servers see these
 * connections open and close. A call that picks a socket whose server has just died goes on to another at once, as with any failed dial.
 *
 * A directory that cannot be read fails `resolve` with a `ResolverError`; the last sockets stay.
 *
 * **Example**
 *
 * ```ts
 * import { NodeFileSystem } from "@effect/platform-node"
 * import { Layer } from "effect"
 * import { Resolver } from "effect-call"
 *
 * const replicas = Resolver.layer(Resolver.directory("/run/cart")).pipe(Layer.provide(NodeFileSystem.layer))
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const directory: (
  path: string,
  options?: DirectoryOptions
) => Effect.Effect<Resolver, never, FileSystem.FileSystem> = (path, options) =>
  internalDirectory.directory(path, options)

/**
 * The endpoints of a resolver, each made into another. `f` is to depend on nothing but the endpoint: it runs for each answer of the resolver, also for
 * one that says the same again.
 *
 * **Example** (mTLS to all replicas; the certificates name the service, and not the replicas' addresses)
 *
 * ```ts
 * import { Endpoint, Resolver } from "effect-call"
 * import type { ConnectionOptions } from "node:tls"
 *
 * declare const certificates: ConnectionOptions
 *
 * const tls = { ...certificates, servername: "cart.internal" }
 *
 * const overMtls = Resolver.map((endpoint) => Endpoint.mtls(tls, endpoint))
 * ```
 *
 * @category combinators
 * @since 0.1.0
 */
export const map: {
  (f: (endpoint: Endpoint) => Endpoint): (self: Resolver) => Resolver
  (self: Resolver, f: (endpoint: Endpoint) => Endpoint): Resolver
} = dual(
  2,
  (self: Resolver, f: (endpoint: Endpoint) => Endpoint): Resolver =>
    withResolutions(self, (resolution) => ({
      ...resolution,
      endpoints: resolution.endpoints.map((endpoint) => f(endpoint))
    }))
)

/**
 * Those endpoints of a resolver that meet a condition, which is to depend on nothing but the endpoint.
 *
 * **Example** (Only those of a zone)
 *
 * ```ts
 * import { Resolver } from "effect-call"
 *
 * const near = Resolver.filter((endpoint) => endpoint.zone === "eu-west-1a")
 * ```
 *
 * @category combinators
 * @since 0.1.0
 */
export const filter: {
  (predicate: (endpoint: Endpoint) => boolean): (self: Resolver) => Resolver
  (self: Resolver, predicate: (endpoint: Endpoint) => boolean): Resolver
} = dual(
  2,
  (self: Resolver, predicate: (endpoint: Endpoint) => boolean): Resolver =>
    withResolutions(self, (resolution) => {
      const all = resolution.endpoints
      const endpoints = all.filter((endpoint) => predicate(endpoint))
      if (endpoints.length > 0 || all.length === 0) return { ...resolution, endpoints }
      const problem = `${
        all.length === 1 ? "1 endpoint is" : `${all.length} endpoints are`
      } left out by Resolver.filter`
      return { ...resolution, endpoints, problem: joined([problem, ...problemOf(resolution)]) }
    })
)

const withResolutions = (self: Resolver, f: (resolution: Resolution) => Resolution): Resolver => ({
  isConstant: self.isConstant,
  resolve: (version) => Effect.map(ask(self, version), f),
  refresh: self.refresh
})

/**
 * The endpoints of several resolvers, in the order of the arguments. Of several with one address the first counts.
 *
 * It is constant where all of them are. Where one fails, its last endpoints stay beside those of the others, a warning
 * is logged, and the `problem` of the {@link Resolution} says so. One that has never answered fails `resolve`: half of
 * the endpoints would be taken for all of them.
 *
 * **Example** (Replicas that DNS knows, and one that it does not)
 *
 * ```ts
 * import { Effect } from "effect"
 * import { Endpoint, Resolver } from "effect-call"
 *
 * const replicas = Effect.map(
 *   Resolver.dns("cart.internal:7000"),
 *   (found) => Resolver.merge(Resolver.constant(Endpoint.unix("/run/cart.sock")), found)
 * )
 * ```
 *
 * @category combinators
 * @since 0.1.0
 */
export const merge = (...resolvers: ReadonlyArray<Resolver>): Resolver => combined(resolvers)

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
  /**
   * The zone that this client is in. The pods that are for it by the hints of the cluster (topology aware routing) are the endpoints then, where all
   * pods have hints and any is for it. Default: none, and all pods are.
   */
  readonly zone?: string | undefined
  /** The path of a kubeconfig file. Default: see {@link kubernetes}. */
  readonly kubeconfig?: string | undefined
  /** The name of a context in the kubeconfig. Default: its `current-context`. */
  readonly context?: string | undefined
}

// Only where it is used: it and what it needs, HTTPS and YAML, would take as long to load as a quarter of all else.
const loadKubernetes = Effect.promise(() => import("./internal/kubernetes/resolver.ts"))

/**
 * The pods of a Kubernetes Service: its EndpointSlices, listed and then watched, so that a pod is known as soon as the cluster knows that it is
 * ready, or going. Calls go to the pods themselves; the Service may be headless or not.
 *
 * - The endpoints are the ready pods, and where none is ready those that terminate and still serve, as with kube-proxy. They have the zone of
 *   their node, and are in the order of their addresses, the same for all clients. A pod with an IPv4 and an IPv6 address is used by the former.
 * - The cluster is that of `kubeconfig`, or of `KUBECONFIG`; else the one that this is a pod in; else that of `~/.kube/config`, each where it is
 *   there. Environment variables are read through `Config`. Files of tokens,
 *   certificates and keys are read anew for each request, the kubeconfig once.
 * - A watch lives for 5 to 10 minutes. It is given up where nothing comes for 150 s, or 25 s after its peer has
 *   vanished. Another one begins at once from where it has ended, also where a proxy or load balancer cuts it for being
 *   idle: that is logged at debug, and is no failure.
 * - When the API fails, or ends a watch within a second and without an event, it is asked again after 0.5 s, then twice
 *   as long up to 30 s, up to half of it off at random. Meanwhile the last endpoints stay. Where it fails, `resolve`
 *   does so once for each attempt for those who wait for newer ones.
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
  Effect.flatMap(loadKubernetes, ({ make }) => make(options))

/**
 * What {@link parse} may need to make a resolver.
 *
 * @category models
 * @since 0.1.0
 */
export type SchemeServices = Dns.Dns | FileSystem.FileSystem | Scope.Scope

/**
 * Makes a resolver of what comes after `scheme://`.
 *
 * @category models
 * @since 0.1.0
 */
export type Scheme<R = SchemeServices> = (
  address: string
) => Effect.Effect<Resolver, InvalidResolver | ResolverError, R>

const endpointsOf = (network: string): Scheme => (addresses) =>
  Effect.map(parseEndpoints(network, addresses), (endpoints) => constant(...endpoints))

const fileScheme: Scheme = Effect.fnUntraced(function*(address) {
  const split = splitFile(address)
  if (Result.isFailure(split)) return yield* new InvalidResolver({ message: split.failure, text: address })
  return yield* file(split.success.path, ...(yield* parseEndpoints("tcp", split.success.endpoints)))
})

const directoryScheme: Scheme = (path) =>
  path === ""
    ? Effect.fail(new InvalidResolver({ message: "the path of the directory is empty", text: path }))
    : directory(path)

const kubernetesScheme: Scheme = (address) =>
  Effect.flatMap(loadKubernetes, ({ make, parse }): ReturnType<Scheme> => {
    const text = `k8s://${address}`
    const options = parse(text)
    return Result.isFailure(options)
      ? Effect.fail(new InvalidResolver({ message: options.failure, text }))
      : make(options.success)
  })

/**
 * The schemes that {@link parse} knows. {@link layerSchemes} adds some.
 *
 * @category services
 * @since 0.1.0
 */
export const Schemes: Context.Reference<ReadonlyMap<string, Scheme>> = Context.Reference<ReadonlyMap<string, Scheme>>(
  "effect-call/Resolver/Schemes",
  {
    defaultValue: () =>
      new Map<string, Scheme>([
        ["tcp", endpointsOf("tcp")],
        ["tcp4", endpointsOf("tcp4")],
        ["tcp6", endpointsOf("tcp6")],
        ["unix", endpointsOf("unix")],
        ["dns", (target) => dns(target)],
        ["dns+srv", (name) => dnsSrv(name)],
        ["file", fileScheme],
        ["unixdir", directoryScheme],
        ["k8s", kubernetesScheme]
      ])
  }
)

/** What a scheme, which may be of a user's own, makes of an address. */
const madeBy = <R>(scheme: string, make: Scheme<R>, address: string): ReturnType<Scheme<R>> =>
  Effect.map(effectOf(`the scheme ${scheme}`, () => make(address)), checkedResolver)

/**
 * Adds schemes of one's own to those that {@link parse} knows where the layer is provided; one that is there already is replaced. What they need,
 * beside {@link SchemeServices}, the layer needs. A scheme is in small letters.
 *
 * **Example** (Replicas by the name of a region)
 *
 * ```ts
 * import { Effect, Layer } from "effect"
 * import { Endpoint, Resolver } from "effect-call"
 *
 * const regions = new Map([["eu", ["10.1.0.1:7000", "10.1.0.2:7000"]], ["us", ["10.2.0.1:7000"]]])
 *
 * const region: Resolver.Scheme = (name) => {
 *   const addresses = regions.get(name)
 *   return addresses === undefined
 *     ? Effect.fail(new Resolver.InvalidResolver({ message: `"${name}" is not a region: expected eu or us`, text: name }))
 *     : Effect.succeed(Resolver.constant(...addresses.map(Endpoint.tcp)))
 * }
 *
 * const replicas = Resolver.layer(Resolver.parse("region://eu")).pipe(Layer.provide(Resolver.layerSchemes({ region })))
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layerSchemes = <R = never>(
  schemes: Readonly<Record<string, Scheme<R | SchemeServices>>>
): Layer.Layer<never, never, Exclude<R, SchemeServices>> =>
  Layer.effect(
    Schemes,
    Effect.gen(function*() {
      const context = yield* Effect.context<Exclude<R, SchemeServices>>()
      const known = new Map(yield* Schemes)
      for (const [scheme, make] of Object.entries(schemes)) {
        if (!isScheme(scheme)) invalid("schemes", scheme, "a scheme in small letters, such as consul")
        known.set(scheme, (address) =>
          // What is there where the text is read comes first: its Scope is the one that matters.
          Effect.updateContext(
            madeBy(scheme, make, address),
            (own: Context.Context<SchemeServices>) => Context.merge(context, own) as Context.Context<R | SchemeServices>
          ))
      }
      return known
    })
  )

/**
 * Reads a resolver from one text, for configuration:
 *
 * | Text                                      | Resolver                                                                     |
 * | ----------------------------------------- | ---------------------------------------------------------------------------- |
 * | `tcp://10.0.0.1:7000,10.0.0.2:7000`       | {@link constant}; likewise `tcp4` and `tcp6`                                 |
 * | `unix:///run/a.sock,/run/b.sock`          | {@link constant}. One of another network names it: `unix:///run/a.sock,tcp://b:7000` |
 * | `dns://cart.internal:7000`                | {@link dns}                                                                  |
 * | `dns+srv://_rpc._tcp.cart.internal`       | {@link dnsSrv}                                                               |
 * | `unixdir:///run/cart`                     | {@link directory}                                                            |
 * | `k8s://shop/cart:calls`                   | {@link kubernetes}: the namespace, which may be empty, the Service, and its port, which may be left out |
 * | `file:///run/cart.ready?unix:///run/cart.sock` | {@link file}, with the endpoints after the `?`                          |
 *
 * and what {@link layerSchemes} has added. The resolvers have their default options. Certificates are in no text: {@link map} puts `Endpoint.mtls` around the endpoints.
 *
 * It fails with an {@link InvalidResolver} that says what is wrong with the text, and with a {@link ResolverError}
 * where nothing is, but the resolver cannot be made: where there is no kubeconfig, say.
 *
 * **Example**
 *
 * ```ts
 * import { NodeFileSystem } from "@effect/platform-node"
 * import { Layer } from "effect"
 * import { Resolver } from "effect-call"
 *
 * const replicas = Resolver.layer(Resolver.parse("dns://cart.internal:7000")).pipe(
 *   Layer.provide([Resolver.layerDns(), NodeFileSystem.layer])
 * )
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const parse = Effect.fnUntraced(function*(
  text: string
): Effect.fn.Return<Resolver, InvalidResolver | ResolverError, SchemeServices> {
  const split = splitScheme(text)
  if (Result.isFailure(split)) return yield* new InvalidResolver({ message: split.failure, text })
  const { address, scheme } = split.success
  const schemes = yield* Schemes
  const make = schemes.get(scheme)
  if (make === undefined) {
    const message = `"${scheme}" in "${text}" is not the scheme of a resolver: expected one of ${
      [...schemes.keys()].join(", ")
    }`
    return yield* new InvalidResolver({ message, text })
  }
  return yield* Effect.mapError(
    madeBy(scheme, make, address),
    (error) => isInstance(error, ResolverError) ? error : new InvalidResolver({ message: textOf(error), text })
  )
})

/**
 * A resolver that the configuration names, as {@link parse} reads it.
 *
 * **Example** (`CART=dns://cart.internal:7000` in the environment)
 *
 * ```ts
 * import { NodeFileSystem } from "@effect/platform-node"
 * import { Layer } from "effect"
 * import { Resolver } from "effect-call"
 *
 * const replicas = Resolver.layer(Resolver.config("CART")).pipe(
 *   Layer.provide([Resolver.layerDns(), NodeFileSystem.layer])
 * )
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const config = (
  name: string
): Effect.Effect<Resolver, Config.ConfigError | InvalidResolver | ResolverError, SchemeServices> =>
  Effect.flatMap(Config.String(name), parse)

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
