/**
 * How peers reach us.
 *
 * A {@link Listener} gives, one after the other, the connections of clients and the handlers that serve each of them. There are listeners
 * for TCP ({@link tcp}), for Unix sockets ({@link unix}), and for TLS with certificates on both sides over either ({@link mtls}).
 * `Server.serve` and `Server.layer` take one.
 *
 * @since 0.1.0
 */
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import * as Scope from "effect/Scope"
import * as net from "node:net"
import type { Duplex } from "node:stream"
import type { PeerCertificate, TlsOptions } from "node:tls"
import { isDeepStrictEqual } from "node:util"
import type { HandlerMap } from "./HandlerMap.ts"
import { background } from "./internal/ambient/background.ts"
import { discard, effectOf, isolated } from "./internal/guard.ts"
import { logged, logIn } from "./internal/log.ts"
import { formatTcp, parseTcp, parseUnix, unmapped } from "./internal/net/address.ts"
import { type Arrival, ArrivalQueue, arrivalsOf, checkHandlers, fromArrivals } from "./internal/net/arrivals.ts"
import { describe, ignoreError } from "./internal/net/connect.ts"
import { Gate } from "./internal/net/gate.ts"
import { listenOnTcp, listenOnUnix } from "./internal/net/listen.ts"
import { HandshakeFailed, makeHandshake } from "./internal/net/tlsServer.ts"
import { positiveDuration } from "./internal/options.ts"
import { Warnings } from "./internal/warnings.ts"

/**
 * Who is at the other end of a connection.
 *
 * - `address`: `tcp://` and the client's address and port; for a Unix socket, whose clients have no address, `unix://` and the path.
 * - `certificate`: what the client has proved with {@link mtls}, as `node:tls` gives it: its name is at `subject.CN`, its further names
 *   at `subjectaltname`. Absent without TLS.
 *
 * @category models
 * @since 0.1.0
 */
export interface Peer {
  readonly address: string
  readonly certificate?: PeerCertificate
}

/**
 * What a listener's clients are served with: the same for all of them, or picked for each connection by who the client is.
 *
 * The function is called once for each connection, with {@link mtls} after the handshake. Where it throws, or finds
 * none, that connection is closed and an error is logged. What is neither a `HandlerMap` nor a function is a defect of
 * making the listener, a TypeError.
 *
 * @category models
 * @since 0.1.0
 */
export type Handlers<R = never> = HandlerMap<R> | ((peer: Peer) => HandlerMap<R>)

/**
 * A connection that was accepted, and what serves it. The connection belongs to whoever took it.
 *
 * @category models
 * @since 0.1.0
 */
export interface Accepted<out R = never> {
  readonly connection: Duplex
  readonly handlers: HandlerMap<R>
}

/**
 * Where clients come in.
 *
 * - `address`: where it listens, `network://address`, with the port that it was given. `Endpoint.parse` reads it.
 * - `accept`: waits for the next connection. It fails only when the listener is closed or broken, and then always. Interrupting it loses no
 *   connection.
 * - `close`: stops listening, ends `accept`, and destroys the connections that nobody has taken yet; those that were taken go on. It can
 *   be repeated. The end of the listener's Scope does the same.
 *
 * A server checks what a listener of one's own gives. An `accept` that dies, or is no Effect, ends the server with that
 * defect. What it gives that is no connection, has no handlers or is served already is logged as an error, and the next
 * one is accepted. A `close` that dies or takes longer than 10 seconds is logged, and the server ends without it.
 *
 * Source: `type Listener` of the Go package.
 *
 * @category models
 * @since 0.1.0
 */
export interface Listener<out R = never> {
  readonly address: string
  readonly accept: Effect.Effect<Accepted<R>, ListenerError>
  readonly close: Effect.Effect<void>
}

/**
 * A listener could not be opened, or it is closed.
 *
 * - `message`: what went wrong, with the address.
 * - `address`: the address of the listener.
 * - `cause`: the error of the socket, where there is one.
 *
 * @category errors
 * @since 0.1.0
 */
export class ListenerError
  extends Schema.TaggedError<ListenerError>("effect-call/Listener/ListenerError")("ListenerError", {
    message: Schema.String,
    address: Schema.optionalKey(Schema.String),
    cause: Schema.optionalKey(Schema.Defect())
  })
{}

const invalid = (address: string, reason: string): ListenerError =>
  new ListenerError({ message: `cannot listen on ${address}: ${reason}`, address })

const failed = (what: string, address: string, cause: unknown): ListenerError =>
  new ListenerError({ message: `${what}: ${describe(cause)}`, address, cause })

const closed = (address: string): ListenerError =>
  new ListenerError({ message: `the listener on ${address} is closed`, address })

type Restore = <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>

interface Opened {
  readonly address: string
  /** Undoes what closing the server does not. */
  readonly cleanUp: Effect.Effect<void>
}

const fromServer = Effect.fnUntraced(function*<R>(options: {
  /** The address that was asked for, until the real one is known. */
  readonly address: string
  readonly handlers: Handlers<R>
  readonly limits: Pick<TcpOptions, "maxConnections" | "maxConnectionsPerPeer">
  /** Runs uninterruptibly, but for what it restores: what it has opened must be known to what closes it. */
  readonly open: (server: net.Server, restore: Restore) => Effect.Effect<Opened, ListenerError>
  /** The address of a client, and the name that its connections are counted by; one that has already gone has none. */
  readonly peerOf: (socket: net.Socket) => { readonly address: string; readonly name?: string } | undefined
}): Effect.fn.Return<Listener<R>, ListenerError, Scope.Scope> {
  const { handlers, limits, open, peerOf } = options
  checkHandlers(handlers)
  const queue = new ArrivalQueue<R>()
  const context = yield* Effect.context<never>()
  const state: { opened?: Opened; isClosed: boolean } = { isClosed: false }
  const warn = (message: string) =>
    logIn(
      context,
      Effect.annotateLogs(Effect.logWarning(message), { listener: state.opened?.address ?? options.address })
    )
  const gate = new Gate(limits, yield* Clock.Clock, warn)

  // A socket reads ahead until its buffer is full, and keeps that for whoever listens to its "data": nothing is lost while it waits.
  const server = net.createServer({ noDelay: true }, (socket) => {
    socket.on("error", ignoreError)
    const peer = peerOf(socket)
    if (peer === undefined || !gate.admits(socket, peer.name)) return void socket.destroy()
    queue.offer({ connection: socket, peer: { address: peer.address }, handlers })
  })
  server.on("error", (error) => {
    if (state.opened === undefined) return
    const { address } = state.opened
    if (!server.listening) return queue.close(failed(`the listener on ${address} broke`, address, error))
    // One connection could not be accepted, for want of file descriptors perhaps. The next one may be.
    warn(`A connection could not be accepted: ${describe(error)}`)
  })

  const close = Effect.suspend(() => {
    if (state.isClosed) return Effect.void
    state.isClosed = true
    return Effect.andThen(
      state.opened?.cleanUp ?? Effect.void,
      Effect.sync(() => {
        server.close()
        queue.close(closed(state.opened?.address ?? options.address))
      })
    )
  }).pipe(Effect.uninterruptible)
  yield* Effect.addFinalizer(() => close)
  const { address } = yield* Effect.uninterruptibleMask((restore) =>
    Effect.tap(open(server, restore), (opened) => Effect.sync(() => void (state.opened = opened)))
  )
  return fromArrivals({ address, arrivals: queue, close })
})

/**
 * What {@link tcp} can be told.
 *
 * - `reusePort`: several processes or worker threads listen on the same port, and the system spreads new connections over them. Default
 *   `false`. Not on every system: where it cannot be done, listening fails. A client uses several of them with several connections: see
 *   `connectionsPerEndpoint` of `Connection.ClientOptions`.
 * - `maxConnections`: how many connections are open at the same time, those included that nobody has accepted yet and those whose TLS
 *   handshake is under way. A whole number from 1 on, or `Infinity`. Default 10 000.
 * - `maxConnectionsPerPeer`: how many of them are from one IP address, whatever their ports. To be raised where many clients come through one
 *   proxy or one NAT. A whole number from 1 on, or `Infinity`. Default 1000.
 *
 * A connection past a limit is closed at once, before anything is read from it. That is logged as a warning, for each limit at most once a second.
 *
 * @category models
 * @since 0.1.0
 */
export interface TcpOptions {
  readonly reusePort?: boolean | undefined
  readonly maxConnections?: number | undefined
  readonly maxConnectionsPerPeer?: number | undefined
}

/**
 * Listens on `host:port`.
 *
 * - The host is a name, an IPv4 address or an IPv6 address in brackets; without one, it listens on all of this host's addresses.
 * - Of a name with several addresses, such as `localhost`, it listens on one: on the first, in the system's order, that
 *   is this machine's. The listener's `address` shows which. A client that dials the name tries all of them; one that
 *   dials an address has to know this one.
 * - The port is a number or the name of a service; with port 0 the system picks a free one, which the listener's `address` shows.
 *
 * The sockets send small writes at once (`noDelay`). A bad address, and one that is in use or not this process's to use, is a
 * `ListenerError`. An option that makes no sense is a defect, a `RangeError` that names it. What listens is closed with the Scope.
 *
 * **Example**
 *
 * ```ts
 * import { Effect } from "effect"
 * import { HandlerMap, Listener, Server } from "effect-call"
 *
 * const handlers = HandlerMap.empty.pipe(
 *   HandlerMap.set("example/Echo", "echo", (args) => Effect.succeed(args))
 * )
 *
 * const program = Effect.scoped(Effect.gen(function*() {
 *   const listener = yield* Listener.tcp("127.0.0.1:0", handlers)
 *   yield* Effect.log(`listening on ${listener.address}`) // tcp://127.0.0.1:43211
 *   yield* Server.serve(listener)
 * }))
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const tcp = <R>(
  address: string,
  handlers: Handlers<R>,
  options?: TcpOptions
): Effect.Effect<Listener<R>, ListenerError, Scope.Scope> => {
  const asked = `tcp://${address}`
  return fromServer({
    address: asked,
    handlers,
    limits: options ?? {},
    peerOf: ({ remoteAddress, remotePort }) =>
      remoteAddress === undefined || remotePort === undefined
        ? undefined
        : { address: `tcp://${formatTcp(remoteAddress, remotePort)}`, name: unmapped(remoteAddress) },
    open: Effect.fnUntraced(function*(server, restore) {
      const target = parseTcp("tcp", address)
      if (Result.isFailure(target)) return yield* invalid(asked, target.failure)
      const { host, port } = target.success
      const where = {
        port,
        ...(options?.reusePort === true ? { reusePort: true } : {})
      }
      yield* restore(listenOnTcp(server, host, where)).pipe(
        Effect.mapError((error) => failed(`cannot listen on ${asked}`, asked, error))
      )
      const bound = server.address()
      // Only a socket file's address is a text, and none is that of a server which does not listen.
      if (bound === null || typeof bound === "string") {
        return yield* invalid(asked, "the system did not say which port it is")
      }
      // The system leaves out the zone, without which the address cannot be dialed.
      return {
        address: `tcp://${formatTcp(host.includes("%") ? host : bound.address, bound.port)}`,
        cleanUp: Effect.void
      }
    })
  })
}

/**
 * What {@link unix} can be told.
 *
 * - `mode`: the permissions of the socket file, such as `0o660`; who may write to it may connect. They hold from the moment the file is there.
 *   Default: what the process's umask leaves of `0o777`.
 * - `maxConnections`: how many connections are open at the same time, as in {@link TcpOptions}. Clients of a Unix socket have no address, so
 *   they have no limit each. A whole number from 1 on, or `Infinity`. Default 10 000.
 *
 * @category models
 * @since 0.1.0
 */
export interface UnixOptions {
  readonly mode?: number | undefined
  readonly maxConnections?: number | undefined
}

/**
 * Listens on a Unix socket: the path of its file, or `@name` in Linux's abstract namespace.
 *
 * The socket file that a dead server has left is replaced. Where a server still accepts connections there, and where there is a file that is
 * no socket, that stays as it is, and listening fails with a `ListenerError`. The file is removed when the listener closes, unless
 * another one has taken its place by then. The directory must be writable: the socket is made in it under another name, and then moved.
 * A path has 107 bytes at most on Linux, and 103 elsewhere; a name in the abstract namespace, with its `@`, 108.
 *
 * @category constructors
 * @since 0.1.0
 */
export const unix = <R>(
  path: string,
  handlers: Handlers<R>,
  options?: UnixOptions
): Effect.Effect<Listener<R>, ListenerError, Scope.Scope> => {
  const address = `unix://${path}`
  return fromServer({
    address,
    handlers,
    limits: { maxConnections: options?.maxConnections },
    peerOf: () => ({ address }),
    open: Effect.fnUntraced(function*(server) {
      const target = parseUnix(path)
      if (Result.isFailure(target)) return yield* invalid(address, target.failure)
      const cleanUp = yield* listenOnUnix(server, target.success, options?.mode).pipe(
        Effect.mapError((error) => failed(`cannot listen on ${address}`, address, error))
      )
      return { address, cleanUp }
    })
  })
}

/**
 * What {@link mtls} can be told.
 *
 * - `reload`: how long after it has ended the Effect of the TLS options runs again. A duration of more than zero; with `Infinity` it runs
 *   once. Default 1 minute.
 * - `handshakeTimeout`: how long a client may take for its handshake. A duration of more than zero. Default 10 seconds.
 *
 * @category models
 * @since 0.1.0
 */
export interface MtlsOptions {
  readonly reload?: Duration.Input | undefined
  readonly handshakeTimeout?: Duration.Input | undefined
}

/** What an Effect gives next may be the same object, or have the same lists, with something else in it. */
const copyOf = (options: TlsOptions): TlsOptions =>
  Object.fromEntries(
    Object.entries({ ...options }).map(([name, value]) => [name, Array.isArray(value) ? [...value] : value])
  )

/**
 * TLS with certificates on both sides, over another listener. Its address is `mtls://` and the address below.
 *
 * `tls` are the options of `tls.createServer`, or an Effect of them:
 *
 * - `cert` and `key`, or `pfx`: the server's certificate. Required.
 * - `ca`: who has to have signed the clients' certificates. Required, since by default every publicly trusted authority would do.
 * - `crl`: the lists of those that were revoked, one of each authority in `ca`, where there are any.
 * - `minVersion`: by default `TLSv1.3`, or `TLSv1.2` where that is the `maxVersion`. Nothing below TLS 1.2 is spoken.
 * - `SNICallback`: the contexts that it gives have a `ca` and a `crl` of their own, or else trust every public authority.
 * - `requestCert` and `rejectUnauthorized` are always true, and sessions are not taken up again: each connection is checked in full.
 *
 * A missing or unreadable certificate, and a version below TLS 1.2, is a `ListenerError`. Handshakes run side by side, so that a client that
 * takes its time holds up nobody; each has `handshakeTimeout`. One that fails costs its own connection and is logged, as a warning with the
 * reason, or at debug level where the client just went away. The handlers of the listener below are picked when the client has proved
 * who it is.
 *
 * An Effect runs once before this is made, and then again and again (`reload`). Handshakes that begin after that use what it gave last:
 * certificates that were replaced, revocation lists that have grown. Connections that are there go on. Where it fails, or gives what cannot
 * be used, perhaps since only one of two files has been replaced so far, the last good ones stay in use. That is logged as a warning, once
 * until it goes well again. One that may hang needs a timeout of its own.
 *
 * Closing this listener closes the one below. An option that makes no sense is a defect, a `RangeError` that names it.
 *
 * **Example**
 *
 * ```ts
 * import { Effect } from "effect"
 * import { HandlerMap, Listener, Server } from "effect-call"
 * import { readFile } from "node:fs/promises"
 *
 * const read = (path: string) =>
 *   Effect.tryPromise({
 *     try: () => readFile(path),
 *     catch: (cause) => new Listener.ListenerError({ message: `cannot read ${path}`, cause })
 *   })
 *
 * const certificates = Effect.all({ ca: read("ca.pem"), cert: read("server.pem"), key: read("server-key.pem") })
 *
 * const forAdmins = HandlerMap.empty.pipe(
 *   HandlerMap.set("example/Admin", "stop", () => Effect.succeed(new Uint8Array()))
 * )
 *
 * const program = Effect.scoped(Effect.gen(function*() {
 *   const listener = yield* Listener.mtls(
 *     certificates, // renewed ones are in use after a minute
 *     yield* Listener.tcp(":4443", ({ certificate }) => certificate?.subject.CN === "admin" ? forAdmins : HandlerMap.empty)
 *   )
 *   yield* Server.serve(listener)
 * }))
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const mtls = Effect.fnUntraced(function*<R>(
  tls: TlsOptions | Effect.Effect<TlsOptions, ListenerError>,
  listener: Listener<R>,
  options?: MtlsOptions
): Effect.fn.Return<Listener<R>, ListenerError, Scope.Scope> {
  const reload = positiveDuration("reload", options?.reload, Duration.minutes(1))
  const handshakeTimeout = positiveDuration("handshakeTimeout", options?.handshakeTimeout, Duration.seconds(10))
  const below = listener.address
  const address = `mtls://${below}`
  // What an async function gives is no Effect, and has no certificate.
  discard(tls)
  const ask = (tls: Effect.Effect<TlsOptions, ListenerError>) =>
    Effect.uninterruptibleMask((restore) => isolated(tls, restore))
  let given = copyOf(Effect.isEffect(tls) ? yield* ask(tls) : tls)
  const first = makeHandshake(given)
  if (Result.isFailure(first)) {
    const reason = first.failure
    return yield* typeof reason === "string"
      ? invalid(address, reason)
      : failed(`cannot listen on ${address}`, address, reason)
  }
  let handshake = first.success
  const queue = new ArrivalQueue<R>()
  const warnings = new Warnings(yield* Clock.Clock)
  const scope = yield* Scope.fork(yield* Effect.scope)
  const close = Effect.uninterruptible(Effect.suspend(() => {
    queue.close(closed(address))
    // Side by side: a listener that is a user's own may end its accept only here, and may never end this.
    const closing = effectOf(`the close of the listener ${below}`, () => listener.close)
    return Effect.all([closing, Scope.close(scope, Exit.void)], { concurrency: "unbounded", discard: true })
  }))

  // Interruptible only in the handshake: nothing comes between the connection and what destroys it, or offers it.
  const secure = ({ connection, handlers, peer }: Arrival<R>) =>
    handshake(connection).pipe(
      Effect.timeoutOrElse({
        duration: handshakeTimeout,
        orElse: () =>
          Effect.fail(new HandshakeFailed(`it was not done after ${Duration.format(handshakeTimeout)}`, false))
      }),
      Effect.interruptible,
      Effect.map((secured) =>
        queue.offer({ connection: secured, peer: { ...peer, certificate: secured.getPeerCertificate() }, handlers })
      ),
      Effect.onError(() => Effect.sync(() => connection.destroy())),
      Effect.catch((error) => {
        const others = error.hungUp ? "" : warnings.next()
        if (others === undefined) return Effect.void
        const log = error.hungUp ? Effect.logDebug : Effect.logWarning
        return logged(log(`TLS handshake failed: ${error.message}${others}`))
      }),
      // The connection may be a user's own.
      Effect.catchDefect((defect) => logged(Effect.logError("TLS handshake died", Cause.die(defect)))),
      Effect.annotateLogs({ listener: address, peer: peer.address })
    )

  yield* Effect.addFinalizer(() => close)
  const fork = Effect.runForkWith(yield* Effect.context<never>())
  yield* Effect.uninterruptibleMask((restore) =>
    Effect.map(
      arrivalsOf(listener, below, restore),
      // Not `forkIn`, which would not even begin with it where the Scope has closed by now.
      (arrival) => Fiber.runIn(fork(secure(arrival), { uninterruptible: true }), scope)
    )
  ).pipe(
    Effect.forever,
    (loop) => Effect.uninterruptibleMask((restore) => isolated(loop, restore)),
    Effect.catchCause((cause) =>
      Effect.sync(() =>
        queue.close(
          Option.getOrElse(
            Cause.findErrorOption(cause),
            () => failed(`the listener on ${address} broke`, address, Cause.squash(cause))
          )
        )
      )
    ),
    Effect.forkIn(scope)
  )

  if (Effect.isEffect(tls) && Duration.isFinite(reload)) {
    let isFailing = false
    const renew = Effect.gen(function*() {
      const next = copyOf(yield* ask(tls))
      if (isDeepStrictEqual(next, given)) return
      handshake = yield* Effect.fromResult(makeHandshake(next))
      given = next
      yield* logged(Effect.logDebug("New TLS options are in use"))
    }).pipe(
      Effect.andThen(Effect.sync(() => void (isFailing = false))),
      Effect.catchCause((cause) => {
        if (isFailing) return Effect.void
        isFailing = true
        return logged(Effect.logWarning(
          `The TLS options could not be renewed, and the last good ones stay in use: ${describe(Cause.squash(cause))}`
        ))
      }),
      Effect.annotateLogs({ listener: address })
    )
    yield* Effect.sleep(reload).pipe(
      Effect.andThen(renew),
      Effect.forever,
      // It may call other services, and is nobody's call itself.
      Effect.provideContext(yield* background),
      Effect.forkIn(scope)
    )
  }
  return fromArrivals({ address, arrivals: queue, close })
})
