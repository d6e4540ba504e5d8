/**
 * How to reach a peer.
 *
 * An {@link Endpoint} is an address and an Effect that dials it. There are endpoints for TCP ({@link tcp}), for Unix sockets
 * ({@link unix}) and for TLS with certificates on both sides over either ({@link mtls}). Whatever gives a `Duplex` of `node:stream` can be
 * one too: an endpoint is a plain object.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Equal from "effect/Equal"
import * as Exit from "effect/Exit"
import { dual } from "effect/Function"
import * as Hash from "effect/Hash"
import * as Predicate from "effect/Predicate"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import * as Scope from "effect/Scope"
import type { OnReadOpts, Socket } from "node:net"
import type { Duplex } from "node:stream"
import type { ConnectionOptions } from "node:tls"
import { effectOf } from "./internal/guard.ts"
import { isUnspecified, parseAddress, parseTarget } from "./internal/net/address.ts"
import { describe } from "./internal/net/connect.ts"
import { dial as dialTarget } from "./internal/net/dial.ts"
import { clientOptions, connectTls } from "./internal/net/tlsClient.ts"
import { take } from "./internal/transport/given.ts"
import { dialOnread } from "./internal/transport/onread.ts"

const TypeId = "~effect-call/Endpoint/NetEndpoint"

/**
 * What a balancer may know of an endpoint before it has been called. A resolver that knows it says so.
 *
 * @category models
 * @since 0.1.0
 */
export interface Attributes {
  /** Which share of the calls it is to get, beside the others: a number above 0. Default: 1. */
  readonly weight?: number | undefined
  /** Where it is: the name of a zone, rack or data center. Default: none is known. */
  readonly zone?: string | undefined
  /**
   * Those with the lowest number are used, and the others only where none of those can be, as with the SRV records of DNS. A whole number
   * from 0 on. Default: 0.
   */
  readonly priority?: number | undefined
}

/**
 * Something that can be dialed.
 *
 * - `address`: names the endpoint. Two endpoints with the same address are the same endpoint.
 * - `dial`: opens a connection, which is destroyed with the Scope, and at once where dialing fails or is interrupted.
 *   It can be run any number of times, and gives another Duplex each time. A `Connection` limits the time it may take,
 *   by interrupting it; what it cleans up is waited for when the `Connection` closes. Whatever else goes wrong with it
 *   (it throws, is no Effect, dies, gives no Duplex) is a dial that has failed.
 *
 * **Example** (an endpoint of your own: the standard streams of a child process)
 *
 * ```ts
 * import { Effect } from "effect"
 * import { Endpoint } from "effect-call"
 * import { spawn } from "node:child_process"
 * import { Duplex } from "node:stream"
 *
 * const start = Effect.callback<ReturnType<typeof spawn>, Endpoint.DialError>((resume) => {
 *   const child = spawn("worker", { stdio: ["pipe", "pipe", "inherit"] })
 *   child.once("spawn", () => resume(Effect.succeed(child)))
 *   // It stays: an error that nobody listens to would end the process.
 *   child.on("error", (cause) => {
 *     const message = `cannot start the worker: ${cause.message}`
 *     resume(Effect.fail(new Endpoint.DialError({ message, endpoint: "process://worker", cause })))
 *   })
 * })
 *
 * const worker: Endpoint.Endpoint = {
 *   address: "process://worker",
 *   dial: Effect.map(
 *     Effect.acquireRelease(start, (child) => Effect.sync(() => child.kill())),
 *     ({ stdin, stdout }) => Duplex.from({ readable: stdout, writable: stdin })
 *   )
 * }
 * ```
 *
 * Source: `type Endpoint` of the Go package.
 *
 * @category models
 * @since 0.1.0
 */
export interface Endpoint extends Attributes {
  readonly address: string
  readonly dial: Effect.Effect<Duplex, DialError, Scope.Scope>
}

/**
 * An endpoint of the machine's network.
 *
 * - `network`: `tcp`, `tcp4`, `tcp6` or `unix`.
 * - `addr`: the address in it: `host:port`, or the path of a Unix socket.
 * - `address`, and its text: `network://addr`.
 *
 * Two of them are equal where their addresses are.
 *
 * Source: `type NetEndpoint` of the Go package.
 *
 * @category models
 * @since 0.1.0
 */
export interface NetEndpoint extends Endpoint, Equal.Equal {
  readonly [TypeId]: typeof TypeId
  readonly network: string
  readonly addr: string
  toString(): string
}

/**
 * An endpoint could not be dialed: its address is wrong, nobody listens there, or the peer did not prove who it is.
 *
 * - `message`: what went wrong, with the address.
 * - `endpoint`: the address of the endpoint.
 * - `cause`: the error of the socket, where there is one.
 *
 * @category errors
 * @since 0.1.0
 */
export class DialError extends Schema.TaggedError<DialError>("effect-call/Endpoint/DialError")("DialError", {
  message: Schema.String,
  endpoint: Schema.optionalKey(Schema.String),
  cause: Schema.optionalKey(Schema.Defect())
}) {}

/**
 * A text is not the address of an endpoint; `message` says what is wrong with which part of `text`.
 *
 * @category errors
 * @since 0.1.0
 */
export class InvalidEndpoint
  extends Schema.TaggedError<InvalidEndpoint>("effect-call/Endpoint/InvalidEndpoint")("InvalidEndpoint", {
    message: Schema.String,
    text: Schema.String
  })
{}

const dialFailed = (address: string, error: unknown): DialError =>
  new DialError({ message: `cannot dial ${address}: ${describe(error)}`, endpoint: address, cause: error })

const invalidDial = (address: string, message: string): DialError =>
  new DialError({ message: `cannot dial ${address}: ${message}`, endpoint: address })

const dialNet = (
  self: { readonly network: string; readonly addr: string; readonly address: string },
  options: { readonly onread?: OnReadOpts }
): Effect.Effect<Socket, DialError, Scope.Scope> =>
  Effect.suspend(() => {
    const target = parseTarget(self.network, self.addr)
    return Result.isFailure(target)
      ? Effect.fail(invalidDial(self.address, target.failure))
      : Effect.mapError(
        dialTarget(target.success, options),
        (error) => dialFailed(self.address, error)
      )
  })

const isNetEndpoint = (value: unknown): value is NetEndpoint => Predicate.hasProperty(value, TypeId)

const Proto = {
  [TypeId]: TypeId,
  // In the prototype: a copy of an endpoint with a `dial` of its own must not be dialed past it.
  [dialOnread](this: NetEndpoint, onread: OnReadOpts) {
    return dialNet(this, { onread })
  },
  toString(this: NetEndpoint) {
    return this.address
  },
  [Hash.symbol](this: NetEndpoint) {
    return Hash.string(this.address)
  },
  [Equal.symbol](this: NetEndpoint, that: unknown) {
    return isNetEndpoint(that) && that.address === this.address
  }
}

/**
 * An endpoint of any of the networks `tcp`, `tcp4` (IPv4 only), `tcp6` (IPv6 only) and `unix`; see {@link tcp} and {@link unix} for their
 * addresses.
 *
 * Never throws: what is wrong with the network or the address is said by the `DialError` of `dial`. {@link parse} says it earlier.
 *
 * Source: the fields of `NetEndpoint` of the Go package.
 *
 * @category constructors
 * @since 0.1.0
 */
export const net = (network: string, addr: string): NetEndpoint => {
  const self: NetEndpoint = Object.assign(Object.create(Proto), {
    network,
    addr,
    address: `${network}://${addr}`,
    dial: Effect.suspend(() => dialNet(self, {}))
  })
  return self
}

/**
 * A TCP endpoint, `host:port`.
 *
 * - The host is a name, an IPv4 address, or an IPv6 address in brackets, with its zone where it has one. A name is
 *   looked up at each dial; dials that need the same name at the same time share one lookup. No host, `0.0.0.0` and
 *   `[::]` are this host.
 * - The port is a number or the name of a service, such as `http` or `domain`.
 *
 * The sockets send small writes at once (`noDelay`). Never throws: a bad address fails `dial`.
 *
 * **Details**
 *
 * The addresses of a name are tried side by side, IPv6 and IPv4 in turn, as RFC 8305 has it: the next one begins 250 ms
 * after the one before, or when one fails. The first that connects is taken. `dial` fails when each has failed, and
 * says why each did. It sets no limit of time: a `Connection` does, with `dialTimeout`.
 *
 * An error that says "not now" does not fail `dial`: it tries again, after 10 ms at first and 500 ms at most. That is
 * one of the machine (no free port, file descriptor or memory: EADDRNOTAVAIL, EADDRINUSE, EMFILE, ENFILE, ENOBUFS,
 * ENOMEM), of name servers that could not be asked (EAI_AGAIN), and of a Unix socket whose queue is full (EAGAIN).
 * Where the time is up, the `Connection` says what the last such error was.
 *
 * A socket that the system has connected to itself, of a port where nobody listens, counts as refused.
 *
 * **Example**
 *
 * ```ts
 * import { Endpoint } from "effect-call"
 *
 * const endpoints = [
 *   Endpoint.tcp("golang.org:http"),
 *   Endpoint.tcp("192.0.2.1:8080"),
 *   Endpoint.tcp("[2001:db8::1]:domain"),
 *   Endpoint.tcp("[fe80::1%lo0]:53"),
 *   Endpoint.tcp(":80") // this host
 * ]
 * ```
 *
 * Source: `TCP` of the Go package.
 *
 * @category constructors
 * @since 0.1.0
 */
export const tcp = (address: string): NetEndpoint => net("tcp", address)

/**
 * The endpoint of a Unix socket: the path of its file, or `@name` in Linux's abstract namespace.
 *
 * A path has 107 bytes at most on Linux, and 103 elsewhere; a name in the abstract namespace, with its `@`, 108. Where
 * the server's queue of connections is full, `dial` waits for room in it: see {@link tcp}.
 *
 * Never throws: a bad path fails `dial`.
 *
 * Source: `Unix` of the Go package.
 *
 * @category constructors
 * @since 0.1.0
 */
export const unix = (path: string): NetEndpoint => net("unix", path)

/**
 * Reads an endpoint from the text `network://address`, and checks it: the network, the port, the brackets of an IPv6 address, the path.
 *
 * The address of an mTLS endpoint or listener names the endpoint below it: `mtls://tcp://127.0.0.1:4443` is read as
 * `tcp://127.0.0.1:4443`, for {@link mtls} to be put around it with the certificates that no text holds.
 *
 * **Example**
 *
 * ```ts
 * import { Effect } from "effect"
 * import { Endpoint } from "effect-call"
 *
 * const program = Effect.gen(function*() {
 *   const endpoint = yield* Endpoint.parse("tcp://localhost:80")
 *   console.log(endpoint.network, endpoint.addr) // tcp localhost:80
 *
 *   const error = yield* Effect.flip(Endpoint.parse("tcp://localhost"))
 *   console.log(error.message) // "localhost" has no port: expected "host:port"
 * })
 * ```
 *
 * Source: `ParseNetEndpoint` of the Go package, which checks less.
 *
 * @category constructors
 * @since 0.1.0
 */
export const parse = (text: string): Effect.Effect<NetEndpoint, InvalidEndpoint> =>
  Effect.suspend(() =>
    Result.match(parseAddress(text), {
      onSuccess: ({ addr, network }) => Effect.succeed(net(network, addr)),
      onFailure: (message) => Effect.fail(new InvalidEndpoint({ message, text }))
    })
  )

/**
 * An endpoint with other attributes; those that are not given stay as they are.
 *
 * Never throws. What makes no sense, such as a weight of 0, is a defect of the `Connection` that is given the endpoint.
 *
 * **Example** (A server that can take three times as much as others)
 *
 * ```ts
 * import { Endpoint } from "effect-call"
 *
 * const large = Endpoint.withAttributes(Endpoint.tcp("10.0.0.3:7000"), { weight: 3, zone: "eu-west-1a" })
 * ```
 *
 * @category combinators
 * @since 0.1.0
 */
export const withAttributes: {
  (attributes: Attributes): <E extends Endpoint>(self: E) => E
  <E extends Endpoint>(self: E, attributes: Attributes): E
} = dual(
  2,
  // With its prototype, by which an endpoint of this package is dialed.
  <E extends Endpoint>(self: E, attributes: Attributes): E =>
    Object.assign(Object.create(Object.getPrototypeOf(self)), self, attributes)
)

/** The host whose name a server at this endpoint has to prove, where it has one. */
const hostOf = (endpoint: Endpoint): string | undefined => {
  if (!isNetEndpoint(endpoint)) return undefined
  const target = Result.getOrUndefined(parseTarget(endpoint.network, endpoint.addr))
  if (target?._tag !== "Tcp") return undefined
  return isUnspecified(target.host) ? "localhost" : target.host
}

/**
 * TLS with certificates on both sides, over another endpoint. Its address is `mtls://` and the address below.
 *
 * `tls` are the options of `tls.connect`, or an Effect of them, which runs at each dial, so that renewed certificates are used:
 *
 * - `cert` and `key` (or `pfx`, or a `secureContext` made with them): the client's certificate. Required.
 * - `ca`: who has to have signed the server's certificate; by default the authorities that Node trusts.
 * - `crl`: the lists of those that were revoked, one of each authority in `ca`, where there are any.
 * - `servername`: the name that the server's certificate has to be for; by default `host`, and without that the host of the endpoint below, a
 *   name or an IP address. Required where that has none, as with a Unix socket or an endpoint of your own.
 * - `minVersion`: by default `TLSv1.3`, or `TLSv1.2` where that is the `maxVersion`. Nothing below TLS 1.2 is spoken, also where a
 *   `secureContext` would.
 * - `rejectUnauthorized` cannot be false, `pskCallback` cannot be given, and `socket`, `host` and `port` do not change
 *   what is dialed. A `session` is not taken up again: each server is checked in full.
 * - `checkServerIdentity` refuses a server with whatever it gives but undefined or null, and with what it throws.
 *
 * A missing or unreadable certificate, a version below TLS 1.2, a server that does not prove its name and a handshake that fails are a
 * `DialError`; the connection below is destroyed then, as it is when dialing is interrupted. With TLS 1.3 a server refuses a client only after the client's side
 * of the handshake is done: what `dial` gives is then closed by the server.
 *
 * **Example**
 *
 * ```ts
 * import { Effect } from "effect"
 * import { Endpoint } from "effect-call"
 * import { readFile } from "node:fs/promises"
 *
 * const read = (path: string) =>
 *   Effect.tryPromise({
 *     try: () => readFile(path),
 *     catch: (cause) => new Endpoint.DialError({ message: `cannot read ${path}`, cause })
 *   })
 *
 * const certificates = Effect.all({ ca: read("ca.pem"), cert: read("client.pem"), key: read("client-key.pem") })
 *
 * const overTcp = Endpoint.mtls(certificates, Endpoint.tcp("orders.internal:4443"))
 * const overUnix = Endpoint.mtls(
 *   Effect.map(certificates, (tls) => ({ ...tls, servername: "orders.internal" })),
 *   Endpoint.unix("/run/orders.sock")
 * )
 * ```
 *
 * Source: `MTLS` of the Go package.
 *
 * @category constructors
 * @since 0.1.0
 */
export const mtls = (
  tls: ConnectionOptions | Effect.Effect<ConnectionOptions, DialError>,
  endpoint: Endpoint
): Endpoint => {
  const address = `mtls://${endpoint.address}`
  const secure = Effect.gen(function*() {
    const options = clientOptions(Effect.isEffect(tls) ? yield* tls : tls, hostOf(endpoint))
    if (Result.isFailure(options)) return yield* invalidDial(address, options.failure)
    const connection = yield* effectOf(`the dial of ${endpoint.address}`, () => endpoint.dial)
    const wrong = take(connection)
    if (wrong !== undefined) return yield* invalidDial(address, `the dial of ${endpoint.address}: ${wrong}`)
    return yield* Effect.mapError(connectTls(connection, options.success), (error) => dialFailed(address, error))
  })
  const { priority, weight, zone } = endpoint
  return {
    address,
    priority,
    weight,
    zone,
    // The connection below must go with a failed handshake, and not only with the caller's Scope: it gets one of its own.
    dial: Effect.uninterruptibleMask((restore) =>
      Effect.gen(function*() {
        const scope = yield* Scope.fork(yield* Effect.scope)
        return yield* restore(Scope.provide(secure, scope)).pipe(
          Effect.onError((cause) => Scope.close(scope, Exit.failCause(cause)))
        )
      })
    )
  }
}
