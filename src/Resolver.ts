/**
 * Which endpoints can be called, now and later.
 *
 * A `Resolver` knows a set of endpoints that may change over time: the addresses behind a host name, the pods of a
 * service, the socket files in a directory. A `Connection` asks it for the current set, and then repeatedly for a newer
 * one. Each set has a {@link Version}. It tells a resolver which set its caller has seen.
 *
 * The package has these resolvers: {@link constant}, {@link file}, {@link directory}, {@link dns}, {@link dnsSrv},
 * {@link kubernetes}, {@link fromSubscriptionRef} and {@link fromStream}. {@link map}, {@link filter} and {@link merge}
 * make new resolvers from them, and {@link parse} reads a resolver from a text. Any object with `isConstant` and
 * `resolve` is a resolver.
 *
 * This module has the names and the documentation. It does not know how endpoints are found: that is the task of
 * internal modules.
 *
 * **Logs.** A Connection logs that its resolver has changed the endpoints, and that it has failed: see the module
 * `Connection`. Two resolvers log more, in the context in which they are made. For {@link kubernetes}, `service` and
 * `namespace` are annotated.
 *
 * | Level | Message | Resolver |
 * |---|---|---|
 * | Warn | `DNS knows no …: there are no endpoints`: once until there are some | {@link dns}, {@link dnsSrv} |
 * | Warn | `the Service has no EndpointSlices: it may not exist yet, or have another name` | {@link kubernetes} |
 * | Warn | `endpoints are left out: …`: when the problem changes | {@link kubernetes} |
 * | Debug | `a watch has ended after … ms: another one begins` | {@link kubernetes} |
 * | Debug | `changes of the endpoints are not received for now`: it tries again | {@link kubernetes} |
 * | Debug | `the watch has sent an event of an unknown type, …` | {@link kubernetes} |
 * | Error | `the resolver of the Service … has stopped: this is a bug` | {@link kubernetes} |
 *
 * @module
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
import type { DirectoryOptions } from "./internal/resolver/directory.ts"
import type { DnsOptions } from "./internal/resolver/dns.ts"
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
import { type DnsServerOptions, nodeDns } from "./internal/resolver/nodeDns.ts"
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
 * A resolver that has no endpoints until a file exists, and then has the given ones.
 *
 * **When to use**
 *
 * Use it for servers that create a file when they are ready.
 *
 * **Details**
 *
 * The file is noticed within a second after its creation. The resolver checks for it only while a caller waits for the
 * endpoints. The content of the file is not read. If the check fails, for example because of missing permissions,
 * `resolve` fails with a `ResolverError` that names the path.
 *
 * **Gotchas**
 *
 * To remove the file later changes nothing. The file says that the servers have started, not that they still run.
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
 * A resolver whose endpoints are the value of a `SubscriptionRef`. To change the endpoints, set the ref.
 *
 * **Details**
 *
 * Each value of the ref is a new version. With the current version, `resolve` waits for the next value. With another
 * version, or without one, it returns the current endpoints at once. A caller may see several changes in a row as one
 * change. It never misses the last change.
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
 * **Details**
 *
 * - The stream runs until the Scope ends. Each element is a new version.
 * - The first `resolve` waits for the first element.
 * - When the stream fails, each `resolve` that waits for newer endpoints fails with a `ResolverError`. The last
 *   endpoints stay.
 * - When the stream ends, the last endpoints stay, too. A `resolve` that waits for newer endpoints then waits forever.
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
 * **Details**
 *
 * - DNS is asked again when the time to live of the records is over. It is asked at once when a `Connection` has lost
 *   an endpoint or cannot dial it. {@link DnsOptions} set the limits. DNS is asked only while a caller waits for newer
 *   endpoints, and once for all connections that share the resolver.
 * - The endpoints are sorted and without duplicates. The same set has the same version, so `Balancer.sharded` is
 *   stable.
 * - If DNS has no addresses for a name, the system looks it up, in its hosts file and with its search domains. The
 *   system always looks up `localhost`.
 * - A and AAAA records are asked for at the same time. Once one family has addresses, the resolver waits 50 ms for the
 *   other family. Once one family is known to have no addresses, it waits 5 s for the other. Later answers are added
 *   when they come. A family without an answer keeps its last addresses. If it never had an answer, the `problem` of
 *   the {@link Resolution} says so. At most one query of each type runs at a time, for at most a minute.
 * - When DNS fails, the last addresses stay. If there are none yet, `resolve` fails with a `ResolverError`.
 * - A name without addresses is not a failure. A warning is logged, and the `problem` of the {@link Resolution} says
 *   so.
 * - An IP address in place of a name makes a constant resolver. The port is a number or the name of a service.
 * - It fails with an {@link InvalidResolver} if the text is not `host:port`. {@link layerDns} provides `Dns`. Any other
 *   layer of `Dns` works, too.
 *
 * **Gotchas**
 *
 * Each answer of DNS counts as the complete set. If a name server gives only a few of many addresses each time,
 * endpoints come and go with each answer.
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
) => Effect.Effect<Resolver, InvalidResolver, Dns.Dns> = (target, options) => internalDns.dns(target, options)

/**
 * The servers that the SRV records of a name point to.
 *
 * **Details**
 *
 * There is an endpoint for each address of each record's target. It has the `priority` of the record. The addresses of
 * a target share the record's `weight`. A record of weight 0 counts as weight 0.1 if other records of its priority have
 * a weight, so it is rarely used (RFC 2782). If all records have weight 0, each counts as 1. The target `.` means that
 * there is no server.
 *
 * Everything else is as with {@link dns}, with two differences:
 *
 * - A target is a complete name: hosts file and search domains are not used for it, except for `localhost`.
 * - A target whose addresses are not found within a second keeps its last addresses. A target has no endpoints until
 *   its addresses were found once.
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
) => Effect.Effect<Resolver, InvalidResolver, Dns.Dns> = (name, options) => internalDnsSrv.dnsSrv(name, options)

/**
 * Provides `Dns` by Node's `node:dns`, and the time to live of its answers.
 *
 * **When to use**
 *
 * Use it for {@link dns} and {@link dnsSrv}. `NodeDns` of `@effect/platform-node` works, too, but does not tell the
 * time to live: DNS is then asked every 5 seconds.
 *
 * **Details**
 *
 * It answers the questions of the resolvers: `lookup`, A, AAAA and SRV records. Node does not tell the time to live of
 * SRV records: it counts as 5 seconds.
 *
 * **Gotchas**
 *
 * Other queries fail with `Unsupported`. If an application makes such queries, provide this layer to its resolvers
 * only.
 *
 * **Example** (A given name server)
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
 * The Unix sockets in a directory, sorted by name: one for each server that listens there.
 *
 * **Details**
 *
 * - The directory is watched, so changes are noticed at once. It is also read once each `interval`. Both happen only
 *   while a caller waits for newer endpoints. The directory may be missing, and may be removed and made again.
 * - Files that are not sockets are ignored. So are names that begin with a dot.
 * - If the directory cannot be read, `resolve` fails with a `ResolverError`. The last sockets stay.
 * - A server that was killed leaves its socket behind, and a server that starts has its socket a moment before it
 *   listens. So the resolver connects to each new socket to check it. A socket that refuses the connection is not
 *   listed. It is checked again soon, and then less and less often, at last once each `interval`.
 * - When a `Connection` has lost an endpoint or cannot dial it, all sockets are checked again, at most once a second.
 *
 * **Gotchas**
 *
 * Servers see the checks as connections that open and close. If the server of a socket has just died, a call to it goes
 * to another endpoint at once, as after any failed dial.
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
 * The endpoints of a resolver, each changed by a function.
 *
 * **Gotchas**
 *
 * `f` must depend only on the endpoint. It runs for each answer of the resolver, even if the endpoints are the same.
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
 * The endpoints of a resolver that meet a condition. The condition must depend only on the endpoint.
 *
 * **Example** (Only the endpoints of a zone)
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
 * The endpoints of several resolvers, in the order of the arguments. If several endpoints have the same address, the
 * first one counts.
 *
 * **Details**
 *
 * - The result is constant if all resolvers are.
 * - When a resolver fails, its last endpoints stay. A warning is logged, and the `problem` of the {@link Resolution}
 *   says so.
 * - If a resolver that has never answered fails, `resolve` fails, too. Otherwise a part of the endpoints would be taken
 *   for all of them.
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
 * The pods of a Kubernetes Service. Its EndpointSlices are listed and then watched, so a change is known as soon as the
 * cluster knows it. Calls go to the pods themselves. The Service may be headless or not.
 *
 * **Details**
 *
 * - The endpoints are the ready pods. If no pod is ready, they are the pods that terminate and still serve, as with
 *   kube-proxy. Each has the zone of its node. The endpoints are sorted by address, so all clients have the same order.
 *   If a pod has an IPv4 and an IPv6 address, the IPv4 address is used.
 * - The cluster is the first one that exists of these: the cluster of the option `kubeconfig`; of the `KUBECONFIG`
 *   variable; the cluster in which this process is a pod; the cluster of `~/.kube/config`. Environment variables are
 *   read through `Config`. Tokens, certificates and keys are read again for each request, the kubeconfig once. All
 *   addresses of the API's name are tried side by side.
 * - A watch lives for 5 to 10 minutes. It is given up if nothing comes for 150 s, or 25 s after its peer has vanished.
 *   The next watch begins at once at the same position, even if a proxy or load balancer has cut the idle connection.
 *   That is not a failure, and is logged at debug level.
 * - When the API fails, or ends a watch within a second and without an event, it is asked again after 0.5 s. Each
 *   further wait is twice as long, up to 30 s, and is shortened by up to half at random. The last endpoints stay. With
 *   each failed attempt, every `resolve` that waits for newer endpoints fails.
 * - It fails if the configuration of the cluster cannot be read, or uses an unsupported feature: `exec` plugins,
 *   `auth-provider`, passwords, impersonation, `proxy-url`, `insecure-skip-tls-verify`.
 * - `resolve` fails if the API refuses a request, with its answer, and if the slices do not say clearly which port is
 *   meant. An invalid option is a defect that names the option.
 *
 * **Gotchas**
 *
 * The service account needs the verbs `list` and `watch` on `endpointslices` of `discovery.k8s.io`, in the namespace of
 * the Service. An error says which verb is missing.
 *
 * **Example**
 *
 * ```ts
 * import { NodeFileSystem } from "@effect/platform-node"
 * import { Layer } from "effect"
 * import { Balancer, Connection, Resolver } from "effect-call"
 *
 * const Cart = Connection.layer().pipe(
 *   Layer.provide([
 *     Resolver.layer(Resolver.kubernetes({ service: "cart", port: "calls" })),
 *     Balancer.layer(Balancer.roundRobin)
 *   ]),
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
 * Adds schemes to the ones that {@link parse} knows in the code that the layer is provided to.
 *
 * **Details**
 *
 * A scheme that exists already is replaced. If the schemes need other services than {@link SchemeServices}, the layer
 * requires them. The name of a scheme is in lower-case letters.
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
 *     ? Effect.fail(
 *       new Resolver.InvalidResolver({ message: `"${name}" is not a region: expected eu or us`, text: name })
 *     )
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
 * Reads a resolver from one text, for configuration.
 *
 * **Details**
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
 * {@link layerSchemes} adds more schemes. The resolvers have their default options.
 *
 * It fails with an {@link InvalidResolver} that says what is wrong with the text. It fails with a {@link ResolverError}
 * if the text is valid but the resolver cannot be made, for example because there is no kubeconfig.
 *
 * **Gotchas**
 *
 * A text cannot name certificates. Use {@link map} with `Endpoint.mtls`.
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
 * A resolver that the configuration names, by a text as {@link parse} reads it.
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
 * Provides the {@link Resolver} service.
 *
 * **Details**
 *
 * It takes a resolver, or an effect that makes one. The effect may wait, fail, or acquire resources, which are released
 * with the layer.
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
