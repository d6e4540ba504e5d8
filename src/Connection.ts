/**
 * A client's connection to a service, however many replicas it has and however they come and go.
 *
 * A `Connection` asks a {@link Resolver.Resolver} which endpoints there are, keeps a socket to each endpoint that is
 * used, and sends each call to the endpoint that a {@link Balancer.Balancer} picks. A socket is opened when a call
 * first needs it, shared by all calls, and opened again after it was lost. A Connection belongs to a Scope: when that
 * closes, everything ends. This module does not know how a call is sent, nor how an endpoint is picked.
 *
 * **Traces.** The current span of the caller goes with each call, also with one of bytes. Only typed calls have a
 * client span of their own, see `Component.ClientOptions.disableTracing`. For a span with `Tracer.DisablePropagation`,
 * its parent is sent instead.
 *
 * **Logs.** They go to the loggers of the context in which the Connection is made, without the log annotations and log
 * spans of a call. Lines about an endpoint have the annotation `endpoint` and, if there is one, `reason`.
 *
 * | Level | Message |
 * |---|---|
 * | Debug | `an endpoint is dialed`, `an endpoint is connected`, `a dial was cut short, and is repeated` |
 * | Debug | `a connection drains`, `a draining connection is used again`, `an endpoint is gone` |
 * | Debug | `an endpoint serves`, `an endpoint does not serve`: what a health probe says, if it changes |
 * | Debug | `an endpoint is used again`: it was ejected, and a call was answered |
 * | Debug | `a dial died`: the code of a custom endpoint threw; the line has its defect |
 * | Warn | `a connection was lost`: connections that are lost together are one warning, the others are Debug |
 * | Warn | `an endpoint could not be dialed`: the first time in an outage that nothing else has shown, then Debug |
 * | Warn | `an endpoint is ejected`: the first time, then Debug |
 * | Warn | `client and server have different contracts of …`: once for each connection and method |
 * | Error | `what a dial had opened could not be closed` |
 * | Debug | `the resolver has changed the endpoints`; `endpoints` has their addresses |
 * | Warn | `the resolver failed; its last endpoints stay in use`: the first of several failures in a row |
 * | Warn | `the resolver could not be refreshed` |
 * | Error | `the new endpoints could not be used`: the first of several in a row |
 * | Error | `the metric … cannot be registered`: a custom metric registry threw |
 *
 * An outage begins with a lost connection or a failed dial, and ends when a connection is open again. A replica that is
 * down is a warning once, not with every dial. For 10 seconds after a server has said that it goes away, a failed dial
 * is not a warning. Of the warnings that servers can cause, a Connection logs 100 at once and then one for each 100 ms
 * that pass. The others are logged at debug level, and the next warning says how many they were. A logger that throws
 * does not break a Connection: its line goes to stderr, with the error `a logger threw`.
 *
 * **Example** (Calling a method)
 *
 * ```ts
 * import { Effect } from "effect"
 * import { Connection, Endpoint, MethodKey, Resolver } from "effect-call"
 *
 * const echo = MethodKey.make("example/Echo", "echo")
 *
 * const program = Effect.gen(function*() {
 *   const replicas = Resolver.constant(Endpoint.tcp("localhost:9000"), Endpoint.unix("/run/echo.sock"))
 *   const connection = yield* Connection.make(replicas)
 *   return yield* connection.call(echo, new TextEncoder().encode("hello"), { timeout: "1 second" })
 * })
 * ```
 *
 * @module
 * @since 0.1.0
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import { constVoid, dual } from "effect/Function"
import * as Layer from "effect/Layer"
import * as Scope from "effect/Scope"
import type * as Stream from "effect/Stream"
import * as Balancer from "./Balancer.ts"
import { type CallError, Unreachable } from "./CallError.ts"
import { background } from "./internal/ambient/background.ts"
import { type CallOptions, CurrentOptions, mergeOptions } from "./internal/ambient/callOptions.ts"
import { balancerOf } from "./internal/balancer/checks.ts"
import { Client } from "./internal/client/client.ts"
import type { ClientOptions, ConnectionState } from "./internal/client/model.ts"
import { clientSettings } from "./internal/client/options.ts"
import {
  openTyped,
  type Resume,
  startTyped,
  type TypedConnection,
  type TypedRequest,
  type TypedStreamRequest,
  type TypedStreams
} from "./internal/client/typed.ts"
import { unexpected } from "./internal/guard.ts"
import { ask, refresher } from "./internal/resolver/given.ts"
import { watch } from "./internal/resolver/watch.ts"
import { textOf } from "./internal/userError.ts"
import type { MethodKey } from "./MethodKey.ts"
import * as Resolver from "./Resolver.ts"

export type { CallOptions } from "./internal/ambient/callOptions.ts"
export type { ClientOptions, ConnectionState, EndpointState } from "./internal/client/model.ts"

/**
 * What a client calls: it sends each call to one of a service's replicas.
 *
 * **When to use**
 *
 * For the methods of a component, give it to `Component.client`. For methods of bytes, use `call`. A plain object of
 * this shape can be provided as the service {@link Connection}.
 *
 * **Details**
 *
 * A Connection dials an endpoint when a call first needs it (or before, if it is `eager`), and shares one connection to
 * it, or `connectionsPerEndpoint`, among all calls. After a failed dial an endpoint is in backoff. The calls in flight
 * to an endpoint that is no longer listed finish there.
 *
 * Source: `type Connection` of the Go package.
 *
 * @category models
 * @since 0.1.0
 */
export interface Connection {
  /**
   * Calls a method: sends it bytes, and succeeds with the bytes of its result, which belong to the caller.
   *
   * **Details**
   *
   * Interrupting it ends the call at once and interrupts its handler. It fails with one of four errors, which
   * `CallError` explains:
   *
   * - `Unreachable`: no endpoint could be dialed, or there are no endpoints; nothing was sent.
   * - `CommunicationError`: the connection was lost or closed, the arguments or the answer are too large, or the answer
   *   cannot be decoded; `maybeExecuted` says whether a handler may have seen the call.
   * - `DeadlineExceeded`: its deadline has passed.
   * - `RemoteError`: the server answered that the handler failed, or that it has no such method.
   *
   * **Gotchas**
   *
   * It has no time limit, unless it is given a `timeout` or runs within a `Deadline`. It dies with a defect if the
   * balancer picks an endpoint that it was not given. Large arguments must not be changed after the call was made; see
   * `ClientOptions.writeFlattenLimit`.
   */
  call(key: MethodKey, args: Uint8Array, options?: CallOptions): Effect.Effect<Uint8Array, CallError>
  /**
   * Opens a stream of a method: sends it bytes and, if it is given `items`, a stream of items, and gives the items that
   * the server sends.
   *
   * **When to use**
   *
   * Use it for results that come one after the other, for uploads, and for conversations. A handler that is set with
   * `HandlerMap.setStream` answers it. For the stream methods of components, use `Component.client`.
   *
   * **Details**
   *
   * Nothing happens until the stream is run. Each run opens a new stream, with the call options and the deadline of the
   * fiber that runs it; `timeout` is for the whole stream. A chunk has the items that came together.
   *
   * The server sends only as much as the stream's window allows (`ClientOptions.streamWindow`) before its items are
   * taken. So a slow consumer slows its producer down, and nobody else.
   *
   * `items` are pulled first when the stream was handed to a connection, in the context of the fiber that runs the
   * stream, and only as fast as the server takes them. They are interrupted when the stream ends, whether or not they
   * have ended. If they fail, the stream is canceled and fails with their error. Each run of the stream runs them anew.
   *
   * A consumer that has enough, or is interrupted, ends the stream at once and interrupts its handler. The stream fails
   * with the errors of {@link call}, after all items that have come. If a server is going away and cannot wait for the
   * end of the stream, that is a `RemoteError` with `isLeaving`.
   *
   * Which replica it goes to is decided as for calls. A stream that its connection has not taken goes elsewhere, and a
   * `retry` makes it again as it does calls, until the first item has come or an item was taken from `items`. Replicas
   * whose version of this package does not know streams are left out; where there are no others, it fails with
   * `Unreachable`.
   *
   * **Gotchas**
   *
   * A call to the key of a stream, or a stream to the key of a call, is answered as an unknown method. An item may be
   * as large as a message (`maxMessageSize`). Items of 16 KiB or more, and large arguments, are sent without a copy:
   * they must not be changed after they were given. A stream without a `timeout` may last for ever, as those of live
   * data should.
   *
   * **Example** (An upload with its progress)
   *
   * ```ts
   * import { Effect, Stream } from "effect"
   * import { type Connection, MethodKey } from "effect-call"
   *
   * const store = MethodKey.make("example/Files", "store")
   *
   * // The server answers with what it has stored so far.
   * const upload = <E>(connection: Connection.Connection, file: Stream.Stream<Uint8Array, E>) =>
   *   connection.stream(store, new TextEncoder().encode("picture.png"), { items: file, timeout: "1 minute" }).pipe(
   *     Stream.runForEach((progress) => Effect.log(new TextDecoder().decode(progress)))
   *   )
   * ```
   */
  stream<E = never, R = never>(
    key: MethodKey,
    args: Uint8Array,
    options?: CallOptions & { readonly items?: Stream.Stream<Uint8Array, E, R> | undefined }
  ): Stream.Stream<Uint8Array, CallError | E, R>
  /**
   * Closes the Connection: calls in flight end with a `CommunicationError` `Closed`, and later calls fail at once. It
   * can be closed more than once. The end of its Scope closes it, too, so most programs do not need this.
   */
  readonly close: Effect.Effect<void>
  /** The state of the Connection now: its endpoints, and what each of them is doing. */
  readonly state: Effect.Effect<ConnectionState>
  /**
   * The state of the Connection now, and then a new state whenever an endpoint comes, goes, or changes its state. It
   * ends when the Connection is closed, which is the last state.
   *
   * **Gotchas**
   *
   * Changes that happen together give one state. A call that begins or ends gives no new state, though each state says
   * how many calls are in flight.
   */
  readonly changes: Stream.Stream<ConnectionState>
}

/**
 * The ambient Connection, as a service.
 *
 * **When to use**
 *
 * {@link layer} provides it, and `Component.client` uses it.
 *
 * **Example** (Calling over the ambient Connection)
 *
 * ```ts
 * import { Effect } from "effect"
 * import { Connection, MethodKey } from "effect-call"
 *
 * const echo = MethodKey.make("example/Echo", "echo")
 *
 * const program = Effect.gen(function*() {
 *   const connection = yield* Connection.Connection
 *   return yield* connection.call(echo, new TextEncoder().encode("hello"), { timeout: "1 second" })
 * })
 * ```
 *
 * @category services
 * @since 0.1.0
 */
export const Connection: Context.Service<Connection, Connection> = Context.Service<Connection>("effect-call/Connection")

/**
 * Makes a Connection to the endpoints of a resolver. It is closed with the Scope.
 *
 * **When to use**
 *
 * Use it where a program makes its Connections itself, for instance several of them. Otherwise use {@link layer}.
 *
 * **Details**
 *
 * It asks the resolver once, and fails with the resolver's `ResolverError`. If the resolver is constant and has no
 * endpoints, it fails with `Unreachable`. It dials nothing yet, unless it is `eager`.
 *
 * While the Connection is open, it asks a resolver that is not constant for newer endpoints. If the resolver fails
 * then, this is only logged, and the last endpoints stay in use. After a failure or an unchanged answer, the resolver
 * is asked again after 10 ms, then after 1.3 times as long each time, less up to 40 % at random, and 1 second at most.
 *
 * A Connection that is made inside a call does not inherit the call's deadline, span, call options and headers.
 *
 * **Gotchas**
 *
 * An invalid option is a defect, a `RangeError` that names the option.
 *
 * **Example** (A Connection to one server)
 *
 * ```ts
 * import { Effect } from "effect"
 * import { Connection, Endpoint, MethodKey, Resolver } from "effect-call"
 *
 * const program = Effect.gen(function*() {
 *   const connection = yield* Connection.make(Resolver.constant(Endpoint.tcp("localhost:9000")), {
 *     dialTimeout: "1 second"
 *   })
 *   yield* connection.call(MethodKey.make("example/Echo", "echo"), new Uint8Array(), { timeout: "1 second" })
 * }).pipe(Effect.scoped)
 * ```
 *
 * Source: `func Connect` of the Go package.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = Effect.fnUntraced(function*(
  resolver: Resolver.Resolver,
  options?: ClientOptions
): Effect.fn.Return<Connection, Unreachable | Resolver.ResolverError, Scope.Scope> {
  const settings = clientSettings(options)
  const first = yield* ask(resolver)
  if (resolver.isConstant && first.endpoints.length === 0) {
    const why = first.problem === undefined ? "" : `: ${textOf(first.problem)}`
    return yield* new Unreachable({ message: `the resolver is constant and has no endpoints${why}`, attempts: [] })
  }
  const context = yield* background
  const balancer = yield* balancerOf(() => options?.balancer ?? Balancer.roundRobin)
  const clock = yield* Clock.Clock
  return yield* Effect.uninterruptible(Effect.gen(function*() {
    const outer = yield* Scope.fork(yield* Effect.scope)
    const scope = yield* Scope.make()
    const { refresh } = resolver
    const onTrouble = refresh === undefined
      ? constVoid
      : refresher(refresh, (effect) => void Fiber.runIn(Effect.runForkWith(context)(effect), scope))
    const client = new Client(settings, clock, context, balancer, scope, onTrouble)
    // The outer Scope closes first, and it closes the Connection: so calls in flight end with `Closed` before their
    // sockets are closed.
    yield* Scope.addFinalizer(outer, client.close)
    client.endpoints.begin(first)
    if (!resolver.isConstant) {
      const watching = watch(resolver, first, client.endpoints)
      // It replaces the fiber's context. To provide a context would keep the caller's deadline and span in it.
      const apart = Effect.updateContext<never, never, never, never>(Effect.interruptible(watching), () => context)
      yield* Effect.forkIn(apart, scope)
    }
    const call = Object.assign(
      (key: MethodKey, args: Uint8Array, options?: CallOptions) => client.call(key, args, options),
      {
        [startTyped]: <A, E>(request: TypedRequest<A, E>, resume: Resume<A, E | CallError>) =>
          client.startTyped(request, resume)
      }
    )
    const stream = Object.assign(
      // The cast: beside the errors of calls, a stream of bytes fails with those of its `items`, and needs what they
      // need.
      ((key, args, options) => client.streams.bytes(key, args, options)) as Connection["stream"],
      { [openTyped]: (request: TypedStreamRequest) => client.streams.typed(request) }
    )
    const connection: Connection & TypedConnection & { readonly stream: TypedStreams } = {
      call,
      stream,
      close: Scope.close(outer, Exit.void),
      state: client.state,
      changes: client.states
    }
    return connection
  }))
})

/**
 * A Connection to the endpoints of the ambient resolver. Its balancer is made by the ambient factory, and not shared.
 *
 * **Details**
 *
 * All who are provided with the layer share the Connection. `Layer.fresh` makes another one. If its first resolve
 * fails, building it fails with `ResolverError`; see {@link make}.
 *
 * **Example** (Composing layers)
 *
 * ```ts
 * import { Layer } from "effect"
 * import { Balancer, Connection, Endpoint, Resolver } from "effect-call"
 *
 * const Client = Connection.layer().pipe(
 *   Layer.provide([
 *     Resolver.layer(Resolver.constant(Endpoint.tcp("localhost:9000"))),
 *     Balancer.layer(Balancer.sharded)
 *   ])
 * )
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = (
  options?: ClientOptions
): Layer.Layer<Connection, Unreachable | Resolver.ResolverError, Resolver.Resolver | Balancer.Factory> =>
  Layer.effect(
    Connection,
    Effect.gen(function*() {
      const resolver = yield* Resolver.Resolver
      const factory = yield* Balancer.Factory
      return yield* make(resolver, { ...options, balancer: options?.balancer ?? factory.make })
    })
  )

/**
 * Sets call options, such as a `timeout` or a `retry`, for every call inside `effect`, also for calls of typed clients.
 *
 * **Details**
 *
 * For each option, the value that the call itself gives takes precedence. Then comes the value of the inner
 * `withOptions`, and then the value of the outer one.
 *
 * **Example** (Routing by a key)
 *
 * ```ts
 * import { Effect } from "effect"
 * import { Connection, MethodKey } from "effect-call"
 *
 * const get = MethodKey.make("example/Cart", "get")
 *
 * const cartOf = (customer: bigint) =>
 *   Connection.Connection.use((connection) => connection.call(get, new Uint8Array())).pipe(
 *     Connection.withOptions({ shardKey: customer, timeout: "2 seconds" })
 *   )
 * ```
 *
 * @category combinators
 * @since 0.1.0
 */
export const withOptions: {
  (options: CallOptions): <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>
  <A, E, R>(effect: Effect.Effect<A, E, R>, options: CallOptions): Effect.Effect<A, E, R>
} = dual(
  2,
  <A, E, R>(effect: Effect.Effect<A, E, R>, options: CallOptions): Effect.Effect<A, E, R> =>
    Effect.withFiber((fiber) => {
      if (typeof options !== "object" || options === null) {
        return Effect.die(unexpected("the options of calls", "an object of CallOptions", options))
      }
      return Effect.provideService(effect, CurrentOptions, mergeOptions(fiber.getRef(CurrentOptions) ?? {}, options))
    })
)
