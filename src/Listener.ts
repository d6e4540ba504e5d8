/**
 * How clients reach a server.
 *
 * A {@link Listener} gives the connections of clients, one after the other, and the handlers for each of them. There
 * are listeners for TCP ({@link tcp}), for Unix sockets ({@link unix}), and for TLS with certificates on both sides
 * over either of them ({@link mtls}). `Server.serve` and `Server.layer` take a listener. This module does not know how
 * calls are served.
 *
 * **Logs.** They go to the loggers of the context in which the listener is made. `listener` is annotated, and `peer`
 * for a single connection.
 *
 * | Level | Message |
 * |---|---|
 * | Debug | `New TLS options are in use` |
 * | Debug | `TLS handshake failed: …`, if the client has hung up |
 * | Warn | `TLS handshake failed: …`, otherwise: 100 at once and then one each 100 ms, with the number left out |
 * | Warn | `The TLS options could not be renewed, and the last good ones stay in use: …`: once until they can be used |
 * | Warn | `A connection was refused: …`: a limit of {@link TcpOptions}, at most once a second for each limit |
 * | Error | `TLS handshake died`, `a listener has accepted something that is not a connection` (custom connections) |
 * | Error | `No handlers for a connection: the function that picks them threw, or gave no HandlerMap` |
 *
 * @module
 * @since 0.1.0
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import type * as Scope from "effect/Scope"
import type { TlsOptions } from "node:tls"
import { formatTcp, parseTcp, parseUnix, unmapped } from "./internal/net/address.ts"
import { listenOnTcp, listenOnUnix } from "./internal/net/listen.ts"
import {
  cannotListen,
  type Handlers,
  type Listener,
  type ListenerError,
  listeningFailed
} from "./internal/net/model.ts"
import { listenSecurely } from "./internal/net/secureListener.ts"
import { listenOnServer } from "./internal/net/serverListener.ts"
import { positiveDuration } from "./internal/options.ts"

export { type Accepted, type Handlers, type Listener, ListenerError, type Peer } from "./internal/net/model.ts"

/**
 * The options of {@link tcp}: how many connections it takes, and whether other processes may listen on the same port.
 *
 * **Details**
 *
 * A connection over a limit is closed at once, before TLS and before anything is read from it. A warning is logged, at
 * most once a second for each limit.
 *
 * @category models
 * @since 0.1.0
 */
export interface TcpOptions {
  /**
   * Whether several processes or worker threads may listen on the same port. The system spreads new connections over
   * them. Default: `false`.
   *
   * Some systems cannot do that: on them, listening fails. A client reaches several of these processes only with
   * several connections: see `connectionsPerEndpoint` of `Connection.ClientOptions`.
   */
  readonly reusePort?: boolean | undefined
  /**
   * How many connections may be open at the same time, including connections that are not accepted yet or are in a TLS
   * handshake. A whole number, 1 or more, or `Infinity`. Default: 10 000.
   */
  readonly maxConnections?: number | undefined
  /**
   * How many connections from one IP address may be open at the same time. Raise it if many clients come through one
   * proxy or one NAT. A whole number, 1 or more, or `Infinity`. Default: 1000.
   */
  readonly maxConnectionsPerPeer?: number | undefined
}

/**
 * Listens on a TCP port, given as `host:port`, such as `127.0.0.1:0` or `:9000`.
 *
 * **Details**
 *
 * - The host is a name, an IPv4 address or an IPv6 address in brackets. Without a host, it listens on all addresses of
 *   this host.
 * - The port is a number or the name of a service. With port 0 the system picks a free port, which the listener's
 *   `address` shows.
 *
 * The sockets send small writes at once (`noDelay`). An address that is invalid, in use or not permitted is a
 * `ListenerError`. The listener is closed with the Scope.
 *
 * **Gotchas**
 *
 * If a name has several addresses, such as `localhost`, it listens on only one of them: the first one, in the system's
 * order, that belongs to this machine. The listener's `address` shows which one. Clients that dial the name try all
 * addresses. Clients that dial an IP address must know this one.
 *
 * An invalid option is a defect: a `RangeError` that names the option.
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
  return listenOnServer({
    address: asked,
    handlers,
    limits: options ?? {},
    peerOf: ({ remoteAddress, remotePort }) =>
      remoteAddress === undefined || remotePort === undefined
        ? undefined
        : { address: `tcp://${formatTcp(remoteAddress, remotePort)}`, name: unmapped(remoteAddress) },
    open: Effect.fnUntraced(function*(server, restore) {
      const target = parseTcp("tcp", address)
      if (Result.isFailure(target)) return yield* cannotListen(asked, target.failure)
      const { host, port } = target.success
      const where = {
        port,
        ...(options?.reusePort === true ? { reusePort: true } : {})
      }
      yield* restore(listenOnTcp(server, host, where)).pipe(
        Effect.mapError((error) => listeningFailed(asked, error))
      )
      const bound = server.address()
      // A text is the address of a socket file, and null is that of a server that does not listen.
      if (bound === null || typeof bound === "string") {
        return yield* cannotListen(asked, "the system did not say which port it is")
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
 * The options of {@link unix}: who may connect, and how many connections it takes.
 *
 * @category models
 * @since 0.1.0
 */
export interface UnixOptions {
  /**
   * The permissions of the socket file, such as `0o660`. Users that may write to the file may connect. The file has
   * these permissions from the start. Default: `0o777` without the bits of the process's umask.
   */
  readonly mode?: number | undefined
  /**
   * How many connections may be open at the same time, as in {@link TcpOptions}. Clients of a Unix socket have no
   * address, so there is no limit for each of them. A whole number, 1 or more, or `Infinity`. Default: 10 000.
   */
  readonly maxConnections?: number | undefined
}

/**
 * Listens on a Unix socket: the path of its file, or `@name` in Linux's abstract namespace.
 *
 * **Details**
 *
 * The socket file of a dead server is replaced. If a server still accepts connections there, or the file is no socket,
 * the file stays as it is, and listening fails with a `ListenerError`. The file is removed when the listener closes,
 * unless another file has taken its place.
 *
 * **Gotchas**
 *
 * The directory must be writable: the socket is made in it under another name, and then moved. A path has at most 107
 * bytes on Linux, and 103 on other systems. A name in the abstract namespace has at most 108 bytes, including its `@`.
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
  return listenOnServer({
    address,
    handlers,
    limits: { maxConnections: options?.maxConnections },
    peerOf: () => ({ address }),
    open: Effect.fnUntraced(function*(server) {
      const target = parseUnix(path)
      if (Result.isFailure(target)) return yield* cannotListen(address, target.failure)
      const cleanUp = yield* listenOnUnix(server, target.success, options?.mode).pipe(
        Effect.mapError((error) => listeningFailed(address, error))
      )
      return { address, cleanUp }
    })
  })
}

/**
 * The options of {@link mtls} beside those of TLS.
 *
 * @category models
 * @since 0.1.0
 */
export interface MtlsOptions {
  /**
   * The pause before the Effect of the TLS options runs again. A duration above 0. With `Infinity`, the Effect runs
   * once. Default: 1 minute.
   */
  readonly reload?: Duration.Input | undefined
  /** How long a client may take for its handshake. A duration above 0. Default: 10 seconds. */
  readonly handshakeTimeout?: Duration.Input | undefined
}

/**
 * Speaks TLS over another listener, with certificates on both sides. Its address is `mtls://` and the address below.
 *
 * **When to use**
 *
 * Use it if both sides must prove their identity. If certificates are renewed while the server runs, pass the TLS
 * options as an Effect.
 *
 * **Details**
 *
 * `tls` are the options of `tls.createServer`, or an Effect of them:
 *
 * - `cert` and `key`, or `pfx`: the server's certificate. Required.
 * - `ca`: the authorities that sign the clients' certificates. Required: Node's default is every public authority.
 * - `crl`: the revocation lists, one of each authority in `ca`. Default: none.
 * - `minVersion`: the lowest version. Default: `TLSv1.3`, or `TLSv1.2` if that is the `maxVersion`. Versions below TLS
 *   1.2 are refused.
 * - `requestCert` and `rejectUnauthorized` are always true. Sessions are not resumed: each connection is checked in
 *   full.
 *
 * Handshakes run at the same time, so a slow client does not delay others. Each may take `handshakeTimeout`. A failed
 * handshake ends only its own connection. It is logged as a warning with the reason, or at debug level if the client
 * only closed the connection. The handlers of the listener below are picked when the client has proved its identity.
 *
 * An Effect runs once before the listener is made, and then again after each `reload`. New handshakes use its last
 * result, such as renewed certificates and longer revocation lists. Open connections go on. If the Effect fails, or
 * gives options that cannot be used, the last good ones stay in use. This can happen when only one of two files has
 * been replaced so far. One warning is logged, and no other until the options can be used again.
 *
 * It fails with a `ListenerError` if a certificate is missing or cannot be read, and if a version below TLS 1.2 is
 * asked for. When this listener is closed, the one below is closed, too.
 *
 * **Gotchas**
 *
 * - The contexts of an `SNICallback` have their own `ca` and `crl`. Without a `ca`, they trust every public authority.
 * - An Effect that may hang needs its own timeout.
 * - An invalid option is a defect: a `RangeError` that names the option.
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
 *     yield* Listener.tcp(
 *       ":4443",
 *       ({ certificate }) => certificate?.subject.CN === "admin" ? forAdmins : HandlerMap.empty
 *     )
 *   )
 *   yield* Server.serve(listener)
 * }))
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const mtls = <R>(
  tls: TlsOptions | Effect.Effect<TlsOptions, ListenerError>,
  listener: Listener<R>,
  options?: MtlsOptions
): Effect.Effect<Listener<R>, ListenerError, Scope.Scope> =>
  Effect.suspend(() =>
    listenSecurely(tls, listener, {
      reload: positiveDuration("reload", options?.reload, Duration.minutes(1)),
      handshakeTimeout: positiveDuration("handshakeTimeout", options?.handshakeTimeout, Duration.seconds(10))
    })
  )
