/**
 * What users can rely on: the types of the package. The compiler checks them (`npm run typecheck`); what is run here
 * shows that the values are there.
 */
import { describe, expectTypeOf, it } from "@effect/vitest"
import {
  type Config,
  Context,
  type Duration,
  Effect,
  type FileSystem,
  Layer,
  type Option,
  type Schedule,
  type Scope,
  Stream,
  SubscriptionRef
} from "effect"
import {
  Balancer,
  CallError,
  Component,
  Connection,
  Deadline,
  Endpoint,
  HandlerMap,
  Listener,
  MethodKey,
  Resolver,
  Server
} from "effect-call"
import { CallTest, TestNetwork } from "effect-call/testing"
import type { Dns, NetAddress } from "effect/net"
import { Rpc, type RpcClient, RpcGroup } from "effect/rpc"
import * as assert from "node:assert/strict"
import { type Duplex, PassThrough } from "node:stream"
import type { ConnectionOptions, PeerCertificate, TlsOptions } from "node:tls"

// What the types below are made of: an effect and handlers that need and fail with something to tell them by, and
// things of users' own.
const effect: Effect.Effect<number, "E", "R"> = Effect.succeed(1)

const handler: HandlerMap.Handler<"S"> = (args) => Effect.succeed(args)
const handlers: HandlerMap.HandlerMap<"S"> = HandlerMap.empty.pipe(
  HandlerMap.set("component", "method", handler)
)
const others: HandlerMap.HandlerMap<"T"> = HandlerMap.empty
const nothing = new Uint8Array()
const key = MethodKey.make("component", "method")
const duplex: Duplex = new PassThrough()
const endpoint: Endpoint.Endpoint = { address: "own://endpoint", dial: Effect.succeed(duplex) }

const resolver: Resolver.Resolver = {
  isConstant: false,
  resolve: (version) =>
    Effect.succeed({ endpoints: [endpoint], ...(version === undefined ? {} : { version: Resolver.version("1") }) })
}

const balancer: Balancer.Balancer = { update: () => {}, pick: () => Effect.succeed(endpoint) }

const listener: Listener.Listener<"S"> = {
  address: "own://listener",
  accept: Effect.succeed({ connection: duplex, handlers }),
  close: Effect.void
}

const connection: Connection.Connection = {
  call: (_key, args) => Effect.succeed(args),
  stream: () => Stream.empty,
  close: Effect.void,
  state: Effect.succeed({ closed: false, endpoints: [] }),
  changes: Stream.empty
}

describe("the types of", () => {
  it("CallError", () => {
    expectTypeOf<CallError.CallError>().toEqualTypeOf<
      CallError.CommunicationError | CallError.Unreachable | CallError.DeadlineExceeded | CallError.RemoteError
    >()
    expectTypeOf<CallError.CallError["_tag"]>().toEqualTypeOf<
      "CommunicationError" | "Unreachable" | "DeadlineExceeded" | "RemoteError"
    >()
    const lost = new CallError.CommunicationError({ reason: { _tag: "Lost" }, message: "lost", maybeExecuted: true })
    expectTypeOf(lost.reason._tag).toEqualTypeOf<"Closed" | "Lost" | "Protocol" | "TooLarge">()
    expectTypeOf(lost.maybeExecuted).toEqualTypeOf<boolean>()
    expectTypeOf(lost.endpoint).toEqualTypeOf<string | undefined>()
    expectTypeOf(lost.cause).toEqualTypeOf<unknown>()

    const { attempts } = new CallError.Unreachable({ message: "down", attempts: [] })
    expectTypeOf(attempts).toEqualTypeOf<ReadonlyArray<{ readonly endpoint: string; readonly message: string }>>()

    const remote = new CallError.RemoteError({ message: "no", chain: [{ message: "no", identity: "" }] })
    expectTypeOf(remote.chain).toEqualTypeOf<ReadonlyArray<{ readonly message: string; readonly identity: string }>>()
    expectTypeOf(remote.is("identity")).toEqualTypeOf<boolean>()
    expectTypeOf(remote.isUnknownMethod).toEqualTypeOf<boolean>()
    expectTypeOf(remote.isOverloaded).toEqualTypeOf<boolean>()

    expectTypeOf(new CallError.DeadlineExceeded({ message: "late" }).message).toEqualTypeOf<string>()
    expectTypeOf(CallError.isCallError).toEqualTypeOf<(u: unknown) => u is CallError.CallError>()
  })

  it("MethodKey", () => {
    expectTypeOf(key).toEqualTypeOf<MethodKey.MethodKey>()
    expectTypeOf(key).toExtend<
      { readonly component: string; readonly method: string; readonly bytes: Uint8Array; readonly hex: string }
    >()
    expectTypeOf(MethodKey.isMethodKey).toEqualTypeOf<(u: unknown) => u is MethodKey.MethodKey>()
  })

  it("Deadline", () => {
    type Within = Effect.Effect<number, "E" | CallError.DeadlineExceeded, "R">
    expectTypeOf(effect.pipe(Deadline.within("1 second"))).toEqualTypeOf<Within>()
    expectTypeOf(Deadline.within(effect, 100)).toEqualTypeOf<Within>()
    expectTypeOf(effect.pipe(Deadline.none)).toEqualTypeOf<typeof effect>()
    expectTypeOf(Deadline.remaining).toEqualTypeOf<Effect.Effect<Option.Option<Duration.Duration>>>()
  })

  it("Endpoint", () => {
    expectTypeOf<Endpoint.Endpoint>().toEqualTypeOf<{
      readonly address: string
      readonly dial: Effect.Effect<Duplex, Endpoint.DialError, Scope.Scope>
      readonly weight?: number | undefined
      readonly zone?: string | undefined
      readonly priority?: number | undefined
    }>()
    expectTypeOf(Endpoint.tcp("cart:7000")).toEqualTypeOf<Endpoint.NetEndpoint>()
    expectTypeOf(Endpoint.unix("/run/cart")).toEqualTypeOf<Endpoint.NetEndpoint>()
    expectTypeOf(Endpoint.net("tcp6", "cart:7000")).toEqualTypeOf<Endpoint.NetEndpoint>()
    expectTypeOf<Endpoint.NetEndpoint>().toExtend<
      Endpoint.Endpoint & { readonly network: string; readonly addr: string }
    >()
    expectTypeOf(Endpoint.parse("tcp://cart:7000")).toEqualTypeOf<
      Effect.Effect<Endpoint.NetEndpoint, Endpoint.InvalidEndpoint>
    >()
    const options: ConnectionOptions = {}
    const read: Effect.Effect<ConnectionOptions, Endpoint.DialError> = Effect.succeed(options)
    expectTypeOf(Endpoint.mtls(options, endpoint)).toEqualTypeOf<Endpoint.Endpoint>()
    expectTypeOf(Endpoint.mtls(read, Endpoint.tcp("cart:7000"))).toEqualTypeOf<Endpoint.Endpoint>()
  })

  it("Resolver", () => {
    expectTypeOf(Resolver.constant()).toEqualTypeOf<Resolver.Resolver>()
    expectTypeOf(Resolver.constant(endpoint, Endpoint.tcp("cart:7000"))).toEqualTypeOf<Resolver.Resolver>()
    expectTypeOf(Resolver.file("cart.txt", endpoint)).toEqualTypeOf<
      Effect.Effect<Resolver.Resolver, never, FileSystem.FileSystem>
    >()
    const ref = Effect.runSync(SubscriptionRef.make<ReadonlyArray<Endpoint.Endpoint>>([]))
    expectTypeOf(Resolver.fromSubscriptionRef(ref)).toEqualTypeOf<Resolver.Resolver>()
    expectTypeOf(Resolver.kubernetes({ service: "cart", namespace: "shop", port: 7000 })).toEqualTypeOf<
      Effect.Effect<Resolver.Resolver, Resolver.ResolverError, FileSystem.FileSystem | Scope.Scope>
    >()

    expectTypeOf<Parameters<Resolver.Resolver["resolve"]>>().toEqualTypeOf<[version?: Resolver.Version | undefined]>()
    expectTypeOf(resolver.resolve(Resolver.missing)).toEqualTypeOf<
      Effect.Effect<Resolver.Resolution, Resolver.ResolverError>
    >()
    expectTypeOf<Resolver.Resolution>().toEqualTypeOf<
      {
        readonly endpoints: ReadonlyArray<Endpoint.Endpoint>
        readonly version?: Resolver.Version | undefined
        readonly problem?: string | undefined
      }
    >()
    expectTypeOf(Resolver.version("1")).toEqualTypeOf<Resolver.Version>()
    expectTypeOf(Resolver.missing).toEqualTypeOf<Resolver.Version>()
    expectTypeOf(new Resolver.ResolverError({ message: "no", cause: "why" }).message).toEqualTypeOf<string>()

    expectTypeOf(Resolver.layer(resolver)).toEqualTypeOf<Layer.Layer<Resolver.Resolver>>()
    const made: Effect.Effect<Resolver.Resolver, "E", "R" | Scope.Scope> = Effect.succeed(resolver)
    expectTypeOf(Resolver.layer(made)).toEqualTypeOf<Layer.Layer<Resolver.Resolver, "E", "R">>()

    type Found<R, E = never> = Effect.Effect<Resolver.Resolver, E, R>
    expectTypeOf(Resolver.dns("cart:7000")).toEqualTypeOf<Found<Dns.Dns, Resolver.InvalidResolver>>()
    expectTypeOf(Resolver.dnsSrv("_rpc._tcp.cart")).toEqualTypeOf<Found<Dns.Dns, Resolver.InvalidResolver>>()
    expectTypeOf(Resolver.layerDns()).toEqualTypeOf<Layer.Layer<Dns.Dns, NetAddress.NetAddressError>>()
    expectTypeOf(Resolver.directory("/run/cart")).toEqualTypeOf<Found<FileSystem.FileSystem>>()
    const stream: Stream.Stream<ReadonlyArray<Endpoint.Endpoint>, "E", "R"> = Stream.empty
    expectTypeOf(Resolver.fromStream(stream)).toEqualTypeOf<Found<"R" | Scope.Scope>>()
    expectTypeOf(Resolver.map(resolver, (endpoint) => endpoint)).toEqualTypeOf<Resolver.Resolver>()
    expectTypeOf(Resolver.filter(() => true)(resolver)).toEqualTypeOf<Resolver.Resolver>()
    expectTypeOf(Resolver.merge(resolver, resolver)).toEqualTypeOf<Resolver.Resolver>()
    type Services = Dns.Dns | FileSystem.FileSystem | Scope.Scope
    type Invalid = Resolver.InvalidResolver | Resolver.ResolverError
    expectTypeOf(Resolver.parse("tcp://cart:7000")).toEqualTypeOf<Found<Services, Invalid>>()
    expectTypeOf(Resolver.config("CART")).toEqualTypeOf<
      Found<Services, Invalid | Config.ConfigError>
    >()
    expectTypeOf(Resolver.layer(Resolver.parse("tcp://cart:7000"))).toEqualTypeOf<
      Layer.Layer<Resolver.Resolver, Invalid, Dns.Dns | FileSystem.FileSystem>
    >()
  })

  it("Balancer", () => {
    expectTypeOf(Balancer.roundRobin).toEqualTypeOf<Effect.Effect<Balancer.Balancer>>()
    expectTypeOf(Balancer.sharded).toEqualTypeOf<Effect.Effect<Balancer.Balancer>>()
    const made = Balancer.make((endpoints, options) => {
      expectTypeOf(endpoints).toEqualTypeOf<ReadonlyArray<Endpoint.Endpoint>>()
      expectTypeOf(options).toEqualTypeOf<Balancer.PickOptions>()
      return Effect.succeed(endpoint)
    })
    expectTypeOf(made).toEqualTypeOf<Effect.Effect<Balancer.Balancer>>()
    expectTypeOf<Balancer.PickOptions>().toEqualTypeOf<
      { readonly shardKey?: bigint | undefined; readonly avoid: ReadonlySet<string> }
    >()
    expectTypeOf(balancer.pick({ avoid: new Set() })).toEqualTypeOf<
      Effect.Effect<Endpoint.Endpoint, CallError.Unreachable>
    >()
    expectTypeOf(Balancer.layer(Balancer.sharded)).toEqualTypeOf<Layer.Layer<Balancer.Factory>>()
  })

  it("Connection", () => {
    type Fails = CallError.Unreachable | Resolver.ResolverError
    expectTypeOf(Connection.make(resolver)).toEqualTypeOf<
      Effect.Effect<Connection.Connection, Fails, Scope.Scope>
    >()
    expectTypeOf(Connection.layer()).toEqualTypeOf<
      Layer.Layer<Connection.Connection, Fails, Resolver.Resolver | Balancer.Factory>
    >()
    expectTypeOf(Connection.make).parameter(1).toEqualTypeOf<Connection.ClientOptions | undefined>()
    expectTypeOf(Connection.layer).parameter(0).toEqualTypeOf<Connection.ClientOptions | undefined>()
    expectTypeOf<Connection.ClientOptions>().toEqualTypeOf<{
      readonly balancer?: Effect.Effect<Balancer.Balancer> | undefined
      readonly optimisticSpinDuration?: Duration.Input | undefined
      readonly writeFlattenLimit?: number | undefined
      readonly maxMessageSize?: number | undefined
      readonly maxUnsentBytes?: number | undefined
      readonly messageTimeout?: Duration.Input | undefined
      readonly keepAlive?:
        | {
          readonly interval?: Duration.Input | undefined
          readonly timeout?: Duration.Input | undefined
        }
        | false
        | undefined
      readonly streamWindow?: number | undefined
      readonly streamBudget?: number | undefined
      readonly retryBudget?: {
        readonly ratio?: number | undefined
        readonly burst?: number | undefined
      } | undefined
      readonly outlierEjection?:
        | {
          readonly failures?: number | undefined
          readonly duration?: Duration.Input | undefined
          readonly maxDuration?: Duration.Input | undefined
        }
        | false
        | undefined
      readonly metrics?: boolean | undefined
      readonly connectionsPerEndpoint?: number | undefined
      readonly eager?: boolean | undefined
      readonly slowStart?: Duration.Input | undefined
      readonly health?: string | undefined
      readonly dialTimeout?: Duration.Input | undefined
      readonly backoff?: {
        readonly initial?: Duration.Input | undefined
        readonly factor?: number | undefined
        readonly max?: Duration.Input | undefined
        readonly jitter?: number | undefined
      } | undefined
    }>()

    expectTypeOf(connection.call(key, nothing)).toEqualTypeOf<Effect.Effect<Uint8Array, CallError.CallError>>()
    expectTypeOf<Parameters<Connection.Connection["call"]>>().toEqualTypeOf<
      [key: MethodKey.MethodKey, args: Uint8Array, options?: Connection.CallOptions | undefined]
    >()
    expectTypeOf<Connection.CallOptions>().toEqualTypeOf<{
      readonly shardKey?: bigint | undefined
      readonly balancer?: Balancer.Balancer | undefined
      readonly timeout?: Duration.Input | undefined
      readonly waitForReady?: boolean | undefined
      readonly retry?: Schedule.Schedule<unknown, CallError.CallError> | undefined
    }>()
    expectTypeOf(connection.stream(key, nothing)).toEqualTypeOf<Stream.Stream<Uint8Array, CallError.CallError>>()
    const uploads = connection.stream(key, nothing, { items: Stream.fromEffect(Effect.as(effect, nothing)) })
    expectTypeOf(uploads).toEqualTypeOf<Stream.Stream<Uint8Array, CallError.CallError | "E", "R">>()
    expectTypeOf(connection.close).toEqualTypeOf<Effect.Effect<void>>()
    expectTypeOf(connection.state).toEqualTypeOf<Effect.Effect<Connection.ConnectionState>>()
    expectTypeOf(connection.changes).toEqualTypeOf<Stream.Stream<Connection.ConnectionState>>()
    expectTypeOf<Connection.ConnectionState>().toEqualTypeOf<
      { readonly closed: boolean; readonly endpoints: ReadonlyArray<Connection.EndpointState> }
    >()
    expectTypeOf<Connection.EndpointState>().toEqualTypeOf<{
      readonly address: string
      readonly state: "Idle" | "Dialing" | "Active" | "Draining" | "Gone"
      readonly callsInFlight: number
      readonly streams: number
      readonly inBackoff: boolean
      readonly isEjected: boolean
      readonly isServing: boolean
      readonly latency: number | undefined
      readonly lastFailure: string | undefined
    }>()

    expectTypeOf(effect.pipe(Connection.withOptions({ shardKey: 1n }))).toEqualTypeOf<typeof effect>()
    expectTypeOf(Connection.withOptions(effect, { timeout: 5 })).toEqualTypeOf<typeof effect>()
  })

  it("HandlerMap", () => {
    expectTypeOf<HandlerMap.Handler<"S">>().toEqualTypeOf<
      (args: Uint8Array) => Effect.Effect<Uint8Array, unknown, "S">
    >()
    expectTypeOf(HandlerMap.empty).toEqualTypeOf<HandlerMap.HandlerMap<never>>()
    expectTypeOf(HandlerMap.empty.pipe(HandlerMap.set("c", "m", handler))).toEqualTypeOf<typeof handlers>()
    expectTypeOf(HandlerMap.set(others, "c", "m", handler)).toEqualTypeOf<HandlerMap.HandlerMap<"S" | "T">>()
    // Arguments are typed without saying so, and an error may be anything.
    expectTypeOf(HandlerMap.empty.pipe(
      HandlerMap.set("c", "echo", (args) => Effect.succeed(args)),
      HandlerMap.set("c", "fail", () => Effect.fail("anything"))
    )).toEqualTypeOf<HandlerMap.HandlerMap<never>>()
    expectTypeOf(HandlerMap.merge(handlers, others, HandlerMap.empty)).toEqualTypeOf<
      HandlerMap.HandlerMap<"S" | "T">
    >()
    expectTypeOf(HandlerMap.merge()).toEqualTypeOf<HandlerMap.HandlerMap<never>>()
  })

  it("Component", () => {
    // More of it, and what it forbids: Component/types.test.ts.
    const ping = Rpc.make("Ping")
    const component = Component.make("component", RpcGroup.make(ping))
    expectTypeOf(component).toEqualTypeOf<Component.Component<typeof ping>>()
    expectTypeOf(component.name).toEqualTypeOf<string>()
    expectTypeOf(component.group).toEqualTypeOf<RpcGroup.RpcGroup<typeof ping>>()
    expectTypeOf(component.keys).toEqualTypeOf<ReadonlyMap<string, MethodKey.MethodKey>>()
    type Client = RpcClient.RpcClient<typeof ping, CallError.CallError>
    expectTypeOf<Component.Client<typeof component>>().toEqualTypeOf<Client>()
    expectTypeOf(Component.client(component, { format: "json" })).toEqualTypeOf<
      Effect.Effect<Client, never, Connection.Connection>
    >()
    expectTypeOf<Parameters<typeof Component.client>[1]>().toEqualTypeOf<Component.ClientOptions | undefined>()
    const layer: Layer.Layer<Rpc.Handler<"Ping">, "E", "R"> = component.group.toLayer({ Ping: () => Effect.void })
    expectTypeOf(Component.handlers(component, layer, { disableTracing: true })).toEqualTypeOf<
      Effect.Effect<HandlerMap.HandlerMap<never>, "E", "R" | Scope.Scope>
    >()
    expectTypeOf<Parameters<typeof Component.handlers>[2]>().toEqualTypeOf<Component.HandlersOptions | undefined>()
    expectTypeOf<Component.ClientOptions>().toEqualTypeOf<{
      readonly format?: "binary" | "json" | undefined
      readonly disableTracing?: boolean | undefined
    }>()
    expectTypeOf<Component.HandlersOptions>().toEqualTypeOf<{ readonly disableTracing?: boolean | undefined }>()
    expectTypeOf(ping.pipe(Component.idempotent)).toEqualTypeOf<typeof ping>()
    expectTypeOf(ping.pipe(Component.shardBy(() => 1n))).toEqualTypeOf<typeof ping>()
    expectTypeOf(Component.shardBy(ping, () => "text")).toEqualTypeOf<typeof ping>()
  })

  it("Listener", () => {
    type Listening<R> = Effect.Effect<Listener.Listener<R>, Listener.ListenerError, Scope.Scope>
    expectTypeOf(Listener.tcp("127.0.0.1:0", handlers, { reusePort: true })).toEqualTypeOf<Listening<"S">>()
    expectTypeOf(Listener.unix("/run/cart", handlers, { mode: 0o600 })).toEqualTypeOf<Listening<"S">>()
    expectTypeOf<Listener.Peer>().toEqualTypeOf<
      { readonly address: string; readonly certificate?: PeerCertificate }
    >()
    expectTypeOf(Listener.tcp("127.0.0.1:0", (peer) => {
      expectTypeOf(peer).toEqualTypeOf<Listener.Peer>()
      return handlers
    })).toEqualTypeOf<Listening<"S">>()
    const options: TlsOptions = {}
    const read: Effect.Effect<TlsOptions, Listener.ListenerError> = Effect.succeed(options)
    expectTypeOf(Listener.mtls(options, listener)).toEqualTypeOf<Listening<"S">>()
    expectTypeOf(Listener.mtls(read, listener)).toEqualTypeOf<Listening<"S">>()
    expectTypeOf(Listener.mtls(read, listener, { reload: "1 minute", handshakeTimeout: 1000 })).toEqualTypeOf<
      Listening<"S">
    >()
    expectTypeOf<Listener.TcpOptions>().toEqualTypeOf<{
      readonly reusePort?: boolean | undefined
      readonly maxConnections?: number | undefined
      readonly maxConnectionsPerPeer?: number | undefined
    }>()
    expectTypeOf<Listener.UnixOptions>().toEqualTypeOf<{
      readonly mode?: number | undefined
      readonly maxConnections?: number | undefined
    }>()
    expectTypeOf<Listener.MtlsOptions>().toEqualTypeOf<{
      readonly reload?: Duration.Input | undefined
      readonly handshakeTimeout?: Duration.Input | undefined
    }>()
    expectTypeOf<Listener.Listener<"S">>().toEqualTypeOf<{
      readonly address: string
      readonly accept: Effect.Effect<Listener.Accepted<"S">, Listener.ListenerError>
      readonly close: Effect.Effect<void>
    }>()
    expectTypeOf<Listener.Accepted<"S">>().toEqualTypeOf<
      { readonly connection: Duplex; readonly handlers: HandlerMap.HandlerMap<"S"> }
    >()
  })

  it("Server", () => {
    expectTypeOf(Server.serve(listener)).toEqualTypeOf<Effect.Effect<never, Listener.ListenerError, "S">>()
    expectTypeOf(Server.serveOn(duplex, handlers)).toEqualTypeOf<Effect.Effect<void, never, "S">>()
    expectTypeOf(Server.layer(Listener.tcp("127.0.0.1:0", handlers))).toEqualTypeOf<
      Layer.Layer<Server.Server, Listener.ListenerError, "S">
    >()
    expectTypeOf(Server.serve).parameter(1).toEqualTypeOf<Server.ServerOptions | undefined>()
    expectTypeOf(Server.serveOn).parameter(2).toEqualTypeOf<Server.ServerOptions | undefined>()
    expectTypeOf(Server.layer).parameter(1).toEqualTypeOf<Server.ServerOptions | undefined>()
    expectTypeOf<Server.ServerOptions>().toEqualTypeOf<{
      readonly inlineHandlerDuration?: Duration.Input | undefined
      readonly writeFlattenLimit?: number | undefined
      readonly maxMessageSize?: number | undefined
      readonly maxConcurrentCalls?: number | undefined
      readonly maxQueuedCalls?: number | undefined
      readonly maxConcurrentCallsPerConnection?: number | undefined
      readonly maxQueuedCallsPerConnection?: number | undefined
      readonly maxStreams?: number | undefined
      readonly maxStreamsPerConnection?: number | undefined
      readonly streamWindow?: number | undefined
      readonly streamBudget?: number | undefined
      readonly maxUnsentBytes?: number | undefined
      readonly unsentTimeout?: Duration.Input | undefined
      readonly firstMessageTimeout?: Duration.Input | undefined
      readonly messageTimeout?: Duration.Input | undefined
      readonly idleTimeout?: Duration.Input | undefined
      readonly keepAlive?:
        | {
          readonly interval?: Duration.Input | undefined
          readonly timeout?: Duration.Input | undefined
        }
        | false
        | undefined
      readonly metrics?: boolean | undefined
      readonly shutdownGrace?: Duration.Input | undefined
    }>()
    expectTypeOf<Server.Server>().toEqualTypeOf<{ readonly address: string }>()
    // What handlers need may be left open, and each call has a Scope of its own.
    const serve = <R>(listener: Listener.Listener<R | Scope.Scope>) => Server.serve(listener)
    expectTypeOf(serve<"S">).returns.toEqualTypeOf<Effect.Effect<never, Listener.ListenerError, "S">>()
  })

  it("CallTest and TestNetwork", () => {
    expectTypeOf(CallTest.layer(HandlerMap.empty)).toEqualTypeOf<Layer.Layer<Connection.Connection>>()
    expectTypeOf(CallTest.layer(handlers)).toEqualTypeOf<Layer.Layer<Connection.Connection, never, "S">>()
    expectTypeOf(TestNetwork.layer).toEqualTypeOf<Layer.Layer<TestNetwork.TestNetwork>>()
    expectTypeOf(TestNetwork.make).toEqualTypeOf<Effect.Effect<TestNetwork.TestNetwork, never, Scope.Scope>>()
    expectTypeOf(TestNetwork.listen("cart", handlers)).toEqualTypeOf<
      Effect.Effect<void, Listener.ListenerError, "S" | TestNetwork.TestNetwork | Scope.Scope>
    >()
    expectTypeOf(TestNetwork.endpoint("cart")).toEqualTypeOf<
      Effect.Effect<Endpoint.Endpoint, never, TestNetwork.TestNetwork>
    >()
    expectTypeOf(TestNetwork.fault("cart", { dial: "refuse" })).toEqualTypeOf<
      Effect.Effect<void, TestNetwork.InvalidFaults, TestNetwork.TestNetwork>
    >()
    expectTypeOf(TestNetwork.heal("cart")).toEqualTypeOf<Effect.Effect<void, never, TestNetwork.TestNetwork>>()
    expectTypeOf<TestNetwork.Faults>().toEqualTypeOf<{
      readonly dial?: "refuse" | "hang"
      readonly cutAfter?: { readonly toServer?: number; readonly toClient?: number }
      readonly delay?: Duration.Input
      readonly blackHole?: boolean | "toServer" | "toClient"
    }>()
  })
})

describe("services", () => {
  it.effect("may be a user's own objects, and are found by their names", () =>
    Effect.gen(function*() {
      const context = yield* Layer.build(Layer.mergeAll(
        Layer.succeed(Connection.Connection, connection),
        Layer.succeed(Resolver.Resolver, resolver),
        Layer.succeed(Balancer.Factory, { make: Balancer.roundRobin }),
        Layer.succeed(Server.Server, { address: "own://server" })
      ))
      expectTypeOf(context).toEqualTypeOf<
        Context.Context<Connection.Connection | Resolver.Resolver | Balancer.Factory | Server.Server>
      >()
      const args = new TextEncoder().encode("args")
      assert.equal(yield* Context.get(context, Connection.Connection).call(key, args), args)
      assert.equal(Context.get(context, Resolver.Resolver), resolver)
      assert.equal(Context.get(context, Server.Server).address, "own://server")
    }))
})
