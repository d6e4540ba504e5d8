/**
 * Serves calls on the connections of a {@link Listener.Listener}.
 *
 * Each call's handler runs in a fiber and a Scope of its own. A cancel from the caller, the call's deadline or the loss of the connection
 * interrupts it. What a peer does wrong costs that peer its connection and nobody else anything.
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
 * @since 0.1.0
 */
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import type { Duplex } from "node:stream"
import type { HandlerMap } from "./HandlerMap.ts"
import { withoutCaller } from "./internal/ambient/background.ts"
import { effectOf, isolated, unexpected } from "./internal/guard.ts"
import { logged } from "./internal/log.ts"
import { acceptFrom } from "./internal/net/accept.ts"
import { ignoreError } from "./internal/net/connect.ts"
import { Admission } from "./internal/server/admission.ts"
import { type ServerSettings, serverSettings } from "./internal/server/options.ts"
import { ServerSession, type SessionSettings } from "./internal/server/session.ts"
import { tableOf } from "./internal/server/table.ts"
import { serverMetrics, type ServerSource, type ServerStats } from "./internal/telemetry/metrics.ts"
import { isDuplex, isTaken } from "./internal/transport/given.ts"
import { attempt } from "./internal/userError.ts"
import { Warnings } from "./internal/warnings.ts"
import type { Listener, ListenerError } from "./Listener.ts"

/**
 * Options of a server.
 *
 * Source: `type ServerOptions` of the Go package, `inlineHandlerDuration` and `writeFlattenLimit` (its Logger and Tracer are Effect's own);
 * the others are ours.
 *
 * @category models
 * @since 0.1.0
 */
export interface ServerOptions {
  /**
   * For how long, each time bytes have been read, handlers are started right in the read loop. The calls that are left are started in later
   * turns of the event loop, connection by connection, so that one's large batch does not hold up the others. Default: 0.5 ms.
   */
  readonly inlineHandlerDuration?: Duration.Input | undefined
  /**
   * From how many bytes on results are sent from where they are. Smaller ones are copied; larger ones belong to the server from the
   * handler's return on, and must not be changed again. In bytes. Default: 16384.
   */
  readonly writeFlattenLimit?: number | undefined
  /**
   * The largest message to take or to send, its headers not counted but for a request's 49 bytes. A call whose
   * arguments, result or error are larger fails for its caller with CommunicationError `TooLarge`; others on its
   * connection go on. The bytes of arguments that are too large are dropped as they arrive, and no handler sees them. A
   * request of more than 1 GiB ends the connection. In bytes. Default: 104857600 (100 MiB).
   */
  readonly maxMessageSize?: number | undefined
  /**
   * How many bytes of answers may wait for a client that is slow to read them. Past that nothing more is read from it,
   * and none of its calls is started, until it has taken some. In bytes. Default: 1048576 (1 MiB).
   *
   * The answers of handlers that run already come on top of that. Where more than 16 times as much waits, the largest
   * answer not counted, the client has to take them: its connection is closed, and its handlers are interrupted, when
   * it takes nothing for 2 seconds, takes nothing while as much again comes, or has not come below that within
   * `unsentTimeout`. Where many calls with large answers end in one turn of the event loop, let this be a 32nd of all
   * of them or more.
   */
  readonly maxUnsentBytes?: number | undefined
  /**
   * How long a client may take nothing of the answers that wait for it. Then its connection is closed, and its handlers
   * are interrupted. A client that is slow, and goes on, is not cut off. What the operating system accepts counts as
   * taken; it does so in steps of up to a megabyte, so that a limit far below this suits fast networks only. Default:
   * 30 seconds. `Infinity`: for ever.
   */
  readonly unsentTimeout?: Duration.Input | undefined
  /**
   * How many calls run at once, over all connections. Those whose handlers ask to run beside the others (`Rpc.fork`) are not counted, nor is
   * one question for its health (`Health.handlers`) of each connection. Default: 10000.
   */
  readonly maxConcurrentCalls?: number | undefined
  /**
   * How many further calls wait for their turn. Those past them are refused at once with a RemoteError that `isOverloaded`, and never
   * executed; where another connection has more calls waiting than theirs, one of those is refused in their place. Default: 10000.
   */
  readonly maxQueuedCalls?: number | undefined
  /**
   * How many of one connection's calls run at once; its further ones wait. Below `maxConcurrentCalls` it keeps one client from taking the whole
   * server. Default: 5000.
   */
  readonly maxConcurrentCallsPerConnection?: number | undefined
  /** How many further calls of one connection wait. Those past them are refused as overloaded. Default: 5000. */
  readonly maxQueuedCallsPerConnection?: number | undefined
  /** How long a client may take to send its first message before its connection is closed. Default: 10 seconds. */
  readonly firstMessageTimeout?: Duration.Input | undefined
  /**
   * How long a message that has begun to arrive may take to be whole. A client that takes longer has its connection closed. Default: 1 minute.
   */
  readonly messageTimeout?: Duration.Input | undefined
  /**
   * How long a connection may have no calls before it is closed. A client of this package is told so first, loses no call, and dials again when
   * it needs to. One that asks for the server's health (`ClientOptions.health`) always has a call. Default: none, it may be idle for ever.
   */
  readonly idleTimeout?: Duration.Input | undefined
  /**
   * How clients are found that have vanished without a word: a client that has said nothing for `interval` is asked
   * whether it is there, and its connection is closed when it has said nothing for `timeout` after that: its handlers
   * are interrupted, and its places in the limits are free again. Any byte counts, also one that it takes of a large
   * answer, which it may do for `messageTimeout`; and it does not count against it when this process stands still.
   * Default: 10 seconds, 10 seconds; `false` turns it off. It is off for the in-memory network of
   * `effect-call/testing`, unless it is given.
   *
   * A client that cannot be asked, such as one of the Go package, sees none of that. Over TCP, with TLS or without, the
   * system asks its system instead: after `interval`, in whole seconds, and ten times within `timeout`, where Node is
   * 24.19 or newer, or else within 10 seconds. That finds hosts that are gone. It does not find a client that hangs
   * while its system answers, or one behind a proxy that is there. Where answers are on their way to a client that has
   * vanished, the system sends them again and again first, for a quarter of an hour by default.
   */
  readonly keepAlive?:
    | {
      readonly interval?: Duration.Input | undefined
      readonly timeout?: Duration.Input | undefined
    }
    | false
    | undefined
  /** Whether calls, connections and bytes are counted in Effect's `Metric`. Default: true. */
  readonly metrics?: boolean | undefined
  /**
   * How long a server that is being stopped waits for calls in flight before it interrupts them. Default: 2 seconds.
   *
   * It tells its clients first that it is going away, and serves what they had sent before they heard of it, so that no
   * call is lost. A client that does not understand that, such as one of the Go package, has its connection ended when
   * it has asked for nothing for 100 ms.
   *
   * One that is never quiet for so long is served until a second before the end of the grace, or for half of a grace
   * that is shorter than two seconds. From then on its answers are kept back, so that its callers, who wait for them,
   * send no more. What has come 100 ms later is the last that is served; when it has ended, all answers are sent, and
   * the end of the connection after them. What is sent after that is never executed.
   *
   * Calls that are interrupted get no answer: for their callers the connection is lost. A client that does not close
   * its end, or has yet to take answers, has half a second more for it, in which what it sends is dropped: the stop
   * takes so much longer.
   */
  readonly shutdownGrace?: Duration.Input | undefined
}

/**
 * A running server.
 *
 * @category models
 * @since 0.1.0
 */
export interface Server {
  /** Where it listens: `Endpoint.parse` takes it. */
  readonly address: string
}

/**
 * The ambient server.
 *
 * @category services
 * @since 0.1.0
 */
export const Server: Context.Service<Server, Server> = Context.Service<Server>("effect-call/Server")

const sessionSettings = (
  settings: ServerSettings,
  clock: Clock.Clock,
  context: Context.Context<never>,
  stats: ServerStats | undefined
): SessionSettings => ({
  ...settings,
  clock,
  context: withoutCaller(context),
  admission: new Admission(settings, settings.inlineHandlerMillis),
  warnings: new Warnings(clock),
  stats
})

/** Counts sessions and their calls, for as long as there are any. */
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
      for (const session of sessions) if (session.isOpen) open++
      return open
    },
    get callsInFlight() {
      let calls = 0
      for (const session of sessions) calls += session.callsInFlight
      return calls
    }
  }
  const stats = metrics.acquire(address, source)
  return { stats, stop: () => metrics.release(stats, source) }
}

/**
 * Begins to serve a connection. It throws where that is no Duplex or is served already, and where its handlers are
 * none.
 */
const begin = <R>(
  connection: Duplex,
  handlers: HandlerMap<R>,
  shared: SessionSettings,
  sessions: Set<ServerSession>,
  onEnded: () => void
): ServerSession => {
  if (!isDuplex(connection)) throw unexpected("the connection to serve", "a Duplex", connection)
  const session: ServerSession = new ServerSession(connection, tableOf(handlers), shared, () => {
    sessions.delete(session)
    onEnded()
  })
  sessions.add(session)
  session.start()
  return session
}

/** Closes a connection that is not served after all, unless another session serves it. */
const drop = (connection: Duplex): void => {
  if (!isTaken(connection)) attempt(() => void connection.on("error", ignoreError).destroy(), undefined)
}

/** The address of a listener, which may be a user's own. It throws where there is none. */
const addressOf = (listener: Listener<unknown>): string => {
  const { address }: { readonly address: unknown } = listener
  if (typeof address === "string") return address
  throw unexpected("the address of a listener", "a text", address)
}

/** How long the server waits for its listener to be closed, when all its connections have ended. */
const closeTimeout = "10 seconds"

/**
 * Closes a listener, and does `meanwhile` until it is closed. One that is a user's own may die of that, or never be
 * closed.
 */
const closing = (listener: Listener<unknown>, meanwhile: Effect.Effect<void>): Effect.Effect<void> =>
  Effect.gen(function*() {
    const close = yield* Effect.forkDetach(effectOf("the close of a listener", () => listener.close), {
      startImmediately: true
    })
    yield* meanwhile
    // In a fiber of its own, too: this one is interrupted, and would not wait for anything.
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

/** Lets the calls in flight end, as long as the grace lasts, and ends the connection; done when all its handlers have ended. */
const shutdown = (session: ServerSession): Effect.Effect<void> =>
  Effect.andThen(Effect.sync(() => session.leave()), session.whenEnded)

/**
 * Serves the connections of a listener. It never succeeds: it fails with the ListenerError that broke the listener, and always closes it.
 * Interrupting it stops accepting, waits for calls in flight for `shutdownGrace`, interrupts what is left, and closes every connection. It
 * has ended when all handlers have, also those that cannot be interrupted.
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
    return Effect.contextWith((context: Context.Context<Exclude<R, Scope.Scope>>) => {
      let stopCounting = () => {}
      const accepting = Effect.suspend(() => {
        const address = addressOf(listener)
        const { stats, stop } = counting(settings, context, address, sessions)
        stopCounting = stop
        const shared = sessionSettings(settings, Context.get(context, Clock.Clock), context, stats)
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
      return Effect.onExit(
        Effect.uninterruptibleMask((restore) => isolated(accepting, restore)),
        () => Effect.ensuring(closing(listener, ending), Effect.sync(() => stopCounting()))
      )
    })
  })

/**
 * Serves one connection that is there already, and ends when the connection does and its handlers have ended. Interrupting it waits for
 * calls in flight for `shutdownGrace`, interrupts what is left, and closes the connection.
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
        const { stats, stop } = counting(settings, context, undefined, sessions)
        const shared = sessionSettings(settings, Context.get(context, Clock.Clock), context, stats)
        const ended = () => {
          stop()
          resume(Effect.void)
        }
        try {
          return shutdown(begin(connection, handlers, shared, sessions, ended))
        } catch (defect) {
          stop()
          drop(connection)
          return resume(Effect.die(defect))
        }
      })
    })
  })

/**
 * A server for as long as the layer lives. `listener` is made when the layer is built, so that its errors are the layer's.
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
      // Options that make no sense are a defect of the layer, not of the fiber that serves.
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
