/**
 * Which endpoints there are to call, now and later.
 *
 * A `Resolver` knows a set of endpoints that may change over time: the addresses behind a host name, the pods of a
 * service, the socket files in a directory. A `Connection` asks it for the current set, and then again and again for a
 * newer one. Each set has a {@link Version}, by which a resolver knows what its caller has seen.
 *
 * The package has these resolvers: {@link constant}, {@link file}, {@link directory}, {@link dns}, {@link dnsSrv},
 * {@link kubernetes}, {@link fromSubscriptionRef} and {@link fromStream}. {@link map}, {@link filter} and {@link merge}
 * make others of them, and {@link parse} reads one from a text. Any object with `isConstant` and `resolve` is a resolver.
 *
 * This module has the names and the documentation. The resolvers themselves are internal modules.
 *
 * @since 0.1.0
 */
import * as Config from "effect/Config"
import * as Effect from "effect/Effect"
import type * as FileSystem from "effect/FileSystem"
import { dual } from "effect/Function"
import * as Layer from "effect/Layer"
import type * as Dns from "effect/net/Dns"
import type { NetAddressError } from "effect/net/NetAddress"
import type * as Scope from "effect/Scope"
import type * as Stream from "effect/Stream"
import type * as SubscriptionRef from "effect/SubscriptionRef"
import type { Endpoint } from "./Endpoint.ts"
import { loadKubernetes } from "./internal/kubernetes/load.ts"
import type { KubernetesOptions } from "./internal/kubernetes/resolver.ts"
import { combined } from "./internal/resolver/combined.ts"
import * as internalDirectory from "./internal/resolver/directory.ts"
import * as internalDns from "./internal/resolver/dns.ts"
import * as internalDnsSrv from "./internal/resolver/dnsSrv.ts"
import * as internalFile from "./internal/resolver/file.ts"
import { ask } from "./internal/resolver/given.ts"
import {
  constant as constantOf,
  type InvalidResolver,
  joined,
  problemOf,
  type Resolution,
  Resolver,
  type ResolverError
} from "./internal/resolver/model.ts"
import { nodeDns } from "./internal/resolver/nodeDns.ts"
import type { DnsServerOptions } from "./internal/resolver/nodeDns.ts"
import * as internalSchemes from "./internal/resolver/schemes.ts"
import type { Scheme, SchemeServices } from "./internal/resolver/schemes.ts"
import * as internalStream from "./internal/resolver/stream.ts"
import * as internalRef from "./internal/resolver/subscriptionRef.ts"

export type { KubernetesOptions } from "./internal/kubernetes/resolver.ts"
export type { DirectoryOptions } from "./internal/resolver/directory.ts"
export type { DnsOptions } from "./internal/resolver/dns.ts"
export { InvalidResolver, type Resolution, Resolver, ResolverError } from "./internal/resolver/model.ts"
export type { DnsServerOptions } from "./internal/resolver/nodeDns.ts"
export { type Scheme, Schemes, type SchemeServices } from "./internal/resolver/schemes.ts"
export { DnsTimeToLive } from "./internal/resolver/ttl.ts"
export { missing, type Version, version } from "./internal/resolver/version.ts"

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
export const constant = (...endpoints: ReadonlyArray<Endpoint>): Resolver => constantOf(endpoints)

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
): Effect.Effect<Resolver, never, FileSystem.FileSystem> => internalFile.file(path, endpoints)

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
export const fromSubscriptionRef = (ref: SubscriptionRef.SubscriptionRef<ReadonlyArray<Endpoint>>): Resolver =>
  internalRef.fromSubscriptionRef(ref)

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
  options?: internalDns.DnsOptions
) => Effect.Effect<Resolver, InvalidResolver, Dns.Dns> = (target, options) => internalDns.dns(target, options)

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
  options?: internalDns.DnsOptions
) => Effect.Effect<Resolver, InvalidResolver, Dns.Dns> = (name, options) => internalDnsSrv.dnsSrv(name, options)

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
  options?: internalDirectory.DirectoryOptions
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
export const layerSchemes: <R = never>(
  schemes: Readonly<Record<string, Scheme<R | SchemeServices>>>
) => Layer.Layer<never, never, Exclude<R, SchemeServices>> = internalSchemes.layerSchemes

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
export const parse: (
  text: string
) => Effect.Effect<Resolver, InvalidResolver | ResolverError, SchemeServices> = internalSchemes.parse

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
