/**
 * How peers reach us.
 *
 * A {@link Listener} gives, one after the other, the connections of clients and the handlers that serve each of them. There are listeners
 * for TCP ({@link tcp}), for Unix sockets ({@link unix}), and for TLS with certificates on both sides over either ({@link mtls}).
 * `Server.serve` and `Server.layer` take one.
 *
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
      // Only a socket file's address is a text, and none is that of a server which does not listen.
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
