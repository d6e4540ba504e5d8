/**
 * Serves calls on the connections of a {@link Listener.Listener}.
 *
 * The handler of each call runs in its own fiber and Scope. A cancel of the caller, the call's deadline or the loss of
 * the connection interrupts it. A peer that breaks the protocol loses its connection. Other peers are not affected.
 * This module does not know how connections are made, nor how a call is read and answered.
 *
 * **Logs.** They go to the loggers of the context in which the server is started. Logs of a handler have the context of
 * its call.
 *
 * | Level | Message | Annotations |
 * |---|---|---|
 * | Debug | `a connection was accepted`, `a connection has ended` | `peer`, `reason` |
 * | Warn | `a connection was closed: …`: its peer broke the protocol, or did not answer or read | `peer`, `reason` |
 * | Error | `a connection was lost: it is broken`: a custom connection threw | `peer` |
 * | Error | `a handler died`, with the defect: its caller gets a `RemoteError` without details | `component`, `method` |
 * | Error | `the handler of a discarded call failed`: its caller had the answer before | `component`, `method` |
 * | Error | `a finalizer of a call died`, `the span of a call died` | `component`, `method` |
 * | Error | `an accepted connection cannot be served`: a custom listener or connection threw | `listener` |
 * | Error | `the server has stopped: its listener broke` | |
 * | Error | `the listener could not be closed`, `the listener was not closed within …` | |
 *
 * Of the warnings that clients can cause, a server logs 100 at once and then one for each 100 ms that pass. The next
 * warning says how many were left out. Errors of handlers have no such limit. Arguments, results, keys and certificates
 * are never logged. Defects of handlers, and failures of discarded calls, are.
 *
 * **Example** (A server as a layer)
 *
 * ```ts
 * import { Effect } from "effect"
 * import { HandlerMap, Listener, Server } from "effect-call"
 *
 * const handlers = HandlerMap.empty.pipe(
 *   HandlerMap.set("example/Echo", "echo", (args) => Effect.succeed(args))
 * )
 *
 * const EchoServer = Server.layer(Listener.tcp("localhost:9000", handlers))
 * ```
 *
 * @module
 * @since 0.1.0
 */
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import type { Duplex } from "node:stream"
import type { HandlerMap } from "./HandlerMap.ts"
import { withoutCaller } from "./internal/ambient/background.ts"
import { Leaving, Left } from "./internal/ambient/leaving.ts"
import { effectOf, isolated, unexpected } from "./internal/guard.ts"
import { logged } from "./internal/log.ts"
import { acceptFrom } from "./internal/net/accept.ts"
import { ignoreError } from "./internal/net/connect.ts"
import { Admission } from "./internal/server/admission.ts"
import type { SessionSettings } from "./internal/server/model.ts"
import { type ServerOptions, type ServerSettings, serverSettings } from "./internal/server/options.ts"
import { StreamPlaces } from "./internal/server/places.ts"
import { ServerSession } from "./internal/server/session.ts"
import { routesOf } from "./internal/server/table.ts"
import { serverMetrics, type ServerSource, type ServerStats } from "./internal/telemetry/metrics.ts"
import { isDuplex, isTaken } from "./internal/transport/given.ts"
import { attempt } from "./internal/userError.ts"
import { Warnings } from "./internal/warnings.ts"
import type { Listener, ListenerError } from "./Listener.ts"

export type { ServerOptions } from "./internal/server/options.ts"

/**
 * A running server, as {@link layer} provides it.
 *
 * **When to use**
 *
 * Use it to find out where a server listens, for example when the system picked the port.
 *
 * **Example** (The address of a server)
 *
 * ```ts
 * import { Console, Effect } from "effect"
 * import { HandlerMap, Listener, Server } from "effect-call"
 *
 * const program = Effect.gen(function*() {
 *   const { address } = yield* Server.Server
 *   yield* Console.log(`listening on ${address}`)
 * }).pipe(Effect.provide(Server.layer(Listener.tcp("127.0.0.1:0", HandlerMap.empty))))
 * ```
 *
 * @category models
 * @since 0.1.0
 */
export interface Server {
  /**
   * The address that it listens on, such as `tcp://127.0.0.1:9000`. If the system picked the port, it is that port.
   * `Endpoint.parse` reads addresses of TCP and of Unix sockets.
   */
  readonly address: string
}

/**
 * The service that {@link layer} provides: the server in the context.
 *
 * @category services
 * @since 0.1.0
 */
export const Server: Context.Service<Server, Server> = Context.Service<Server>("effect-call/Server")

/**
 * Ends when the server begins to stop that runs this handler. It never ends outside of a server's handlers.
 *
 * **When to use**
 *
 * Use it in handlers that wait for long, or for ever, so that they end within the server's grace
 * (`ServerOptions.shutdownGrace`): a stream that reports changes, a long poll. Race it, or give it to
 * `Stream.interruptWhen`. {@link untilLeaving} is for streams whose client is to know that more would have come.
 *
 * **Details**
 *
 * It ends as soon as the server is interrupted, or its layer's scope closes, and before the clients are told.
 *
 * **Example** (A long poll that answers with nothing new when the server leaves)
 *
 * ```ts
 * import { Effect } from "effect"
 * import { HandlerMap, Server } from "effect-call"
 *
 * declare const change: Effect.Effect<Uint8Array>
 *
 * const handlers = HandlerMap.set(HandlerMap.empty, "example/Prices", "poll", () =>
 *   Effect.raceFirst(change, Effect.as(Server.leaving, new Uint8Array())))
 * ```
 *
 * @category leaving
 * @since 0.1.0
 */
export const leaving: Effect.Effect<void> = Effect.flatMap(Leaving, (ends) => ends)

/**
 * Ends a handler's stream when its server begins to stop. The client's stream then fails with a `RemoteError` that
 * `isLeaving`, behind the items that were sent before.
 *
 * **When to use**
 *
 * Use it for streams that have no end, or a far one, and that a client can begin again elsewhere: feeds, watches. The
 * client knows by the error that it has not got all, and that another replica may go on. Where the stream has its end
 * when the server leaves, use `Stream.interruptWhen(Server.leaving)`: it ends without an error.
 *
 * **Details**
 *
 * What the stream is waiting for is interrupted. Chunks stay as they are. Outside of a server's handlers it changes
 * nothing.
 *
 * **Gotchas**
 *
 * It ends the stream with a defect, which typed errors do not show. `Stream.catch` behind it does not catch it.
 *
 * **Example** (A feed that moves to another replica)
 *
 * ```ts
 * import { Stream } from "effect"
 * import { HandlerMap, Server } from "effect-call"
 *
 * declare const prices: Stream.Stream<Uint8Array>
 *
 * const handlers = HandlerMap.setStream(HandlerMap.empty, "example/Prices", "watch", () => Server.untilLeaving(prices))
 * ```
 *
 * @category leaving
 * @since 0.1.0
 */
export const untilLeaving = <A, E, R>(self: Stream.Stream<A, E, R>): Stream.Stream<A, E, R> =>
  Stream.transformPull(self, (pull) => Effect.succeed(Effect.raceFirst(left, pull)))

const left: Effect.Effect<never> = Effect.flatMap(leaving, () => Effect.die(new Left()))

const sessionSettings = (
  settings: ServerSettings,
  clock: Clock.Clock,
  context: Context.Context<never>,
  leaves: Deferred.Deferred<void>,
  stats: ServerStats | undefined
): SessionSettings => ({
  ...settings,
  clock,
  context: Context.add(withoutCaller(context), Leaving, Deferred.await(leaves)),
  admission: new Admission(settings, settings.inlineHandlerMillis),
  places: new StreamPlaces(settings),
  warnings: new Warnings(clock),
  stats
})

/** Counts sessions and their calls until `stop` is called. */
const counting = (
  settings: ServerSettings,
  context: Context.Context<never>,
  address: string | undefined,
  sessions: ReadonlySet<ServerSession>
): { readonly stats: ServerStats | undefined; readonly stop: () => void } => {
  if (!settings.metrics) return { stats: undefined, stop: () => {} }
  const metrics = serverMetrics(context)
  const source: ServerSource = {
    get connections() {
      let open = 0
      for (const session of sessions) if (!session.isOver) open++
      return open
    },
    get callsInFlight() {
      let calls = 0
      for (const session of sessions) calls += session.callsInFlight - session.openStreams
      return calls
    },
    get streams() {
      let streams = 0
      for (const session of sessions) streams += session.openStreams
      return streams
    }
  }
  const stats = metrics.acquire(address, source)
  return { stats, stop: () => metrics.release(stats, source) }
}

/**
 * Begins to serve a connection. It throws if the connection is no Duplex or is in use already, or if `handlers` is no
 * `HandlerMap`. `onDone` is called once, when the connection is gone and no handler runs any more.
 */
const begin = <R>(
  connection: Duplex,
  handlers: HandlerMap<R>,
  shared: SessionSettings,
  sessions: Set<ServerSession>,
  onDone: () => void
): ServerSession => {
  if (!isDuplex(connection)) throw unexpected("the connection to serve", "a Duplex", connection)
  const session = new ServerSession(connection, routesOf(handlers), shared)
  session.onceDone(() => {
    sessions.delete(session)
    onDone()
  })
  sessions.add(session)
  session.start()
  return session
}

/** Closes a connection that cannot be served, unless it is in use elsewhere. */
const drop = (connection: Duplex): void => {
  if (!isTaken(connection)) attempt(() => void connection.on("error", ignoreError).destroy(), undefined)
}

/** The address of a listener, which may be a custom one. It throws if the address is no text. */
const addressOf = (listener: Listener<unknown>): string => {
  const { address }: { readonly address: unknown } = listener
  if (typeof address === "string") return address
  throw unexpected("the address of a listener", "a text", address)
}

/** How long the server waits for its listener to close after all its connections have ended. */
const closeTimeout = "10 seconds"

/**
 * Closes a listener, and runs `meanwhile` while it closes. A custom listener may die when it is closed, or never close.
 */
const closing = (listener: Listener<unknown>, meanwhile: Effect.Effect<void>): Effect.Effect<void> =>
  Effect.gen(function*() {
    const close = yield* Effect.forkDetach(effectOf("the close of a listener", () => listener.close), {
      startImmediately: true
    })
    yield* meanwhile
    // In its own fiber, too: this fiber is interrupted, and would not wait.
    const timed = yield* Effect.forkDetach(Effect.timeoutOption(Fiber.await(close), closeTimeout), {
      startImmediately: true
    })
    const closed = Option.getOrUndefined(yield* Fiber.join(timed))
    if (closed === undefined) {
      close.interruptUnsafe()
      yield* logged(Effect.logError(`the listener was not closed within ${closeTimeout}: the server ends without that`))
    } else if (Exit.isFailure(closed)) {
      yield* logged(Effect.logError("the listener could not be closed", closed.cause))
    }
  })

/**
 * Lets the calls of a connection end within the grace, and closes the connection. It is done when all handlers have
 * ended.
 */
const shutdown = (session: ServerSession): Effect.Effect<void> =>
  Effect.callback<void>((resume) => {
    session.leave()
    session.onceDone(() => resume(Effect.void))
  })

/**
 * Serves the connections of a listener. It never succeeds: it fails with the ListenerError that broke the listener.
 *
 * **When to use**
 *
 * Use it to manage the server's fiber yourself, for example to restart it. Otherwise use {@link layer}.
 *
 * **Details**
 *
 * When it is interrupted, it stops in these steps:
 *
 * 1. It stops accepting connections, and closes the listener.
 * 2. It tells its clients that it is going away. They make their next calls elsewhere.
 * 3. It answers the calls in flight, and closes each connection when its calls have ended.
 * 4. After `shutdownGrace` it interrupts the calls that are left, and closes every connection.
 *
 * It closes the listener in any case. Invalid options are a defect: a `RangeError` that names the option.
 *
 * **Gotchas**
 *
 * It ends only when all handlers have ended, including handlers that cannot be interrupted.
 *
 * **Example** (A server that listens again when its listener has broken)
 *
 * ```ts
 * import { Effect, Schedule } from "effect"
 * import { HandlerMap, Listener, Server } from "effect-call"
 *
 * const serveOnce = Effect.scoped(Effect.gen(function*() {
 *   yield* Server.serve(yield* Listener.tcp(":9000", HandlerMap.empty))
 * }))
 *
 * const program = Effect.retry(serveOnce, Schedule.exponential("100 millis"))
 * ```
 *
 * Source: `func Serve` of the Go package.
 *
 * @category running
 * @since 0.1.0
 */
export const serve = <R>(
  listener: Listener<R>,
  options?: ServerOptions
): Effect.Effect<never, ListenerError, Exclude<R, Scope.Scope>> =>
  Effect.suspend(() => {
    const settings = serverSettings(options)
    const sessions = new Set<ServerSession>()
    const leaves = Deferred.makeUnsafe<void>()
    return Effect.contextWith((context: Context.Context<Exclude<R, Scope.Scope>>) => {
      let stopCounting = () => {}
      const accepting = Effect.suspend(() => {
        const address = addressOf(listener)
        const { stats, stop } = counting(settings, context, address, sessions)
        stopCounting = stop
        const shared = sessionSettings(settings, Context.get(context, Clock.Clock), context, leaves, stats)
        const accept = Effect.uninterruptibleMask((restore) =>
          Effect.flatMap(acceptFrom(listener, address, restore), ({ connection, handlers }) =>
            Effect.try({
              try: () => void begin(connection, handlers, shared, sessions, () => {}),
              catch: (defect) => defect
            }).pipe(Effect.catch((defect) => {
              drop(connection)
              const line = Effect.logError("an accepted connection cannot be served", Cause.die(defect))
              return logged(Effect.annotateLogs(line, { listener: address }))
            })))
        )
        return Effect.forever(accept)
      })
      const ending = Effect.suspend(() =>
        Effect.forEach([...sessions], shutdown, { concurrency: "unbounded", discard: true })
      )
      const leave = Effect.sync(() => Deferred.doneUnsafe(leaves, Exit.void))
      return Effect.onExit(
        Effect.uninterruptibleMask((restore) => isolated(accepting, restore)),
        () => Effect.ensuring(Effect.andThen(leave, closing(listener, ending)), Effect.sync(() => stopCounting()))
      )
    })
  })

/**
 * Serves one existing connection, and succeeds when the connection is over and its handlers have ended.
 *
 * **When to use**
 *
 * Use it for a Duplex that does not come from a listener, such as a pipe to a child process or a stream inside another
 * protocol.
 *
 * **Details**
 *
 * When it is interrupted it waits for calls in flight for `shutdownGrace`, interrupts the calls that are left, and
 * closes the connection. It dies if the connection is no Duplex, or is in use already.
 *
 * **Example** (A client and a server over a pair of streams)
 *
 * ```ts
 * import { Effect } from "effect"
 * import { HandlerMap, Server } from "effect-call"
 * import { duplexPair } from "node:stream"
 *
 * const handlers = HandlerMap.empty.pipe(
 *   HandlerMap.set("example/Echo", "echo", (args) => Effect.succeed(args))
 * )
 *
 * const [, serverSide] = duplexPair()
 * const serving = Server.serveOn(serverSide, handlers)
 * ```
 *
 * Source: `func ServeOn` of the Go package.
 *
 * @category running
 * @since 0.1.0
 */
export const serveOn = <R>(
  connection: Duplex,
  handlers: HandlerMap<R>,
  options?: ServerOptions
): Effect.Effect<void, never, Exclude<R, Scope.Scope>> =>
  Effect.suspend(() => {
    const settings = serverSettings(options)
    return Effect.contextWith((context: Context.Context<Exclude<R, Scope.Scope>>) => {
      return Effect.callback<void>((resume) => {
        const sessions = new Set<ServerSession>()
        const leaves = Deferred.makeUnsafe<void>()
        const { stats, stop } = counting(settings, context, undefined, sessions)
        const shared = sessionSettings(settings, Context.get(context, Clock.Clock), context, leaves, stats)
        const ended = () => {
          stop()
          resume(Effect.void)
        }
        try {
          const session = begin(connection, handlers, shared, sessions, ended)
          return Effect.suspend(() => {
            Deferred.doneUnsafe(leaves, Exit.void)
            return shutdown(session)
          })
        } catch (defect) {
          stop()
          drop(connection)
          return resume(Effect.die(defect))
        }
      })
    })
  })

/**
 * A server for as long as the layer lives. It is the usual way to run a server.
 *
 * **Details**
 *
 * `listener` is made when the layer is built, so that its errors are the layer's. Handlers get what they require from
 * the layer's context. When the layer's scope closes, the server stops as {@link serve} does when it is interrupted.
 * So a program of `Layer.launch` and `NodeRuntime.runMain` answers its calls in flight when it gets SIGTERM.
 *
 * **Gotchas**
 *
 * If the listener breaks later, the server ends, but the layer does not, and the process goes on. An error is logged.
 * Use {@link serve} if that must end the program, or start the server again.
 *
 * **Example** (Handlers with requirements)
 *
 * ```ts
 * import { Context, Effect, Layer } from "effect"
 * import { HandlerMap, Listener, Server } from "effect-call"
 *
 * class Greeting extends Context.Service<Greeting, { readonly text: string }>()("Greeting") {}
 *
 * const handlers = HandlerMap.empty.pipe(
 *   HandlerMap.set("example/Greeter", "greet", () =>
 *     Greeting.useSync((greeting) => new TextEncoder().encode(greeting.text)))
 * )
 *
 * const GreeterServer = Server.layer(Listener.tcp("localhost:9000", handlers), { shutdownGrace: "10 seconds" }).pipe(
 *   Layer.provide(Layer.succeed(Greeting, { text: "hello" }))
 * )
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = <R, E, R2>(
  listener: Effect.Effect<Listener<R>, E, R2>,
  options?: ServerOptions
): Layer.Layer<Server, E, Exclude<R | R2, Scope.Scope>> =>
  Layer.effect(
    Server,
    Effect.gen(function*() {
      // Invalid options are a defect of the layer, not of the fiber that serves.
      yield* Effect.sync(() => serverSettings(options))
      const listening = yield* listener
      const address = addressOf(listening)
      const serving = serve(listening, options).pipe(
        Effect.catchCause((cause) =>
          Cause.hasInterruptsOnly(cause)
            ? Effect.void
            : logged(Effect.logError("the server has stopped: its listener broke", cause))
        )
      )
      yield* Effect.forkScoped(serving)
      return { address }
    })
  )
