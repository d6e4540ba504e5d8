/**
 * How to reach a server.
 *
 * An {@link Endpoint} is an address and an Effect that dials it. There are endpoints for TCP ({@link tcp}), for Unix
 * sockets ({@link unix}), and for TLS with certificates on both sides over either of them ({@link mtls}). An endpoint
 * is a plain object: anything that gives a `Duplex` of `node:stream` can be an endpoint, too. This module does not know
 * who dials, nor what is sent.
 *
 * @module
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
 * What a balancer can know about an endpoint before the first call: its weight, its zone and its priority. A resolver
 * sets these attributes, or {@link withAttributes} does.
 *
 * @category models
 * @since 0.1.0
 */
export interface Attributes {
  /** Its share of the calls, relative to the other endpoints: a number above 0. Default: 1. */
  readonly weight?: number | undefined
  /** Its place: the name of a zone, rack or data center. Default: unknown. */
  readonly zone?: string | undefined
  /**
   * Endpoints with the lowest number are used. Others are used only if none of these can be used, as with the SRV
   * records of DNS. A whole number, 0 or more. Default: 0.
   */
  readonly priority?: number | undefined
}

/**
 * A server that a client can dial: an address, and an Effect that opens a connection to it.
 *
 * **When to use**
 *
 * {@link tcp}, {@link unix} and {@link mtls} make endpoints. Make a custom endpoint for any other `Duplex`.
 *
 * **Gotchas**
 *
 * A `Connection` interrupts a `dial` that takes too long, and waits for its finalizers when it closes. A `dial` that
 * throws, is no Effect, dies, or gives no Duplex counts as a failed dial.
 *
 * **Example** (A custom endpoint: the standard streams of a child process)
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
 *   // It stays: an error without a listener would end the process.
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
  /** Names the endpoint, such as `tcp://10.0.0.3:7000`. Two endpoints with the same address are the same endpoint. */
  readonly address: string
  /**
   * Opens a connection. It can be run any number of times, and gives a new Duplex each time. The connection is
   * destroyed with the Scope, and at once if dialing fails or is interrupted.
   */
  readonly dial: Effect.Effect<Duplex, DialError, Scope.Scope>
}

/**
 * An endpoint for TCP or a Unix socket, as {@link tcp}, {@link unix}, {@link net} and {@link parse} make it.
 *
 * **Details**
 *
 * Its `address` is `network://addr`. Two of them are equal (`Equal.equals`) if their addresses are equal.
 *
 * Source: `type NetEndpoint` of the Go package.
 *
 * @category models
 * @since 0.1.0
 */
export interface NetEndpoint extends Endpoint, Equal.Equal {
  /** Tells endpoints of this package from other objects. */
  readonly [TypeId]: typeof TypeId
  /** The network: `tcp`, `tcp4`, `tcp6` or `unix`. */
  readonly network: string
  /** The address in the network: `host:port`, or the path of a Unix socket. */
  readonly addr: string
  /** The `address`. */
  toString(): string
}

/**
 * An endpoint could not be dialed: its address is invalid, there is no listener, or the server did not prove its
 * identity.
 *
 * **Details**
 *
 * Callers do not get this error. A `Connection` tries other endpoints, and a call fails with `CallError.Unreachable`,
 * which has the reason of each attempt.
 *
 * @category errors
 * @since 0.1.0
 */
export class DialError extends Schema.TaggedError<DialError>("effect-call/Endpoint/DialError")("DialError", {
  /** What went wrong, with the address. */
  message: Schema.String,
  /** The address of the endpoint. Absent if the code that made the error does not know it. */
  endpoint: Schema.optionalKey(Schema.String),
  /** The error of the socket or of TLS, if there is one. */
  cause: Schema.optionalKey(Schema.Defect())
}) {}

/**
 * A text is not the address of an endpoint. {@link parse} fails with it.
 *
 * @category errors
 * @since 0.1.0
 */
export class InvalidEndpoint
  extends Schema.TaggedError<InvalidEndpoint>("effect-call/Endpoint/InvalidEndpoint")("InvalidEndpoint", {
    /** Which part of the text is wrong, and why. */
    message: Schema.String,
    /** The text that was given. */
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
  // It is in the prototype: a copy of an endpoint with another `dial` does not have it, so the other `dial` is used.
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
 * Makes an endpoint from the name of a network and an address in it. The networks are `tcp`, `tcp4` (only IPv4), `tcp6`
 * (only IPv6) and `unix`. For their addresses see {@link tcp} and {@link unix}.
 *
 * It never throws: with a bad network or address, `dial` fails with a `DialError`. {@link parse} fails earlier.
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
 * Makes an endpoint for TCP from `host:port`.
 *
 * - The host is a name, an IPv4 address, or an IPv6 address in brackets, with a zone if it has one. No host, `0.0.0.0`
 *   and `[::]` mean this host.
 * - The port is a number or the name of a service, such as `http` or `domain`.
 *
 * It never throws: a bad address fails `dial`.
 *
 * **Details**
 *
 * The sockets send small writes at once (`noDelay`). A name is looked up at each dial. Dials that need the same name at
 * the same time share one lookup.
 *
 * The addresses of a name are tried at the same time, IPv6 and IPv4 in turn, as in RFC 8305: the next attempt begins
 * 250 ms after the previous one, or when an attempt fails. The first attempt that connects is used. `dial` fails when
 * all attempts have failed, and says why each of them did.
 *
 * A temporary error does not fail `dial`: it tries again, after 10 ms at first, and after 500 ms at most. Such errors
 * are: no free port, file descriptor or memory (EADDRNOTAVAIL, EADDRINUSE, EMFILE, ENFILE, ENOBUFS, ENOMEM), name
 * servers that could not be asked (EAI_AGAIN), and a Unix socket whose queue is full (EAGAIN). If `dialTimeout` passes
 * first, the `Connection` reports the last such error.
 *
 * **Gotchas**
 *
 * `dial` sets no time limit. A `Connection` does, with `dialTimeout`.
 *
 * If a port has no listener, the system may connect a socket to itself. That counts as refused.
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
 * Makes an endpoint for a Unix socket from the path of its file, or from `@name` in Linux's abstract namespace.
 *
 * It never throws: a bad path fails `dial`.
 *
 * **Gotchas**
 *
 * A path has at most 107 bytes on Linux, and 103 on other systems. A name in the abstract namespace has at most 108
 * bytes, including its `@`. If the server's queue of connections is full, `dial` waits for room in it: see {@link tcp}.
 *
 * Source: `Unix` of the Go package.
 *
 * @category constructors
 * @since 0.1.0
 */
export const unix = (path: string): NetEndpoint => net("unix", path)

/**
 * Reads an endpoint from a text such as `tcp://localhost:80` or `unix:///run/orders.sock`, and checks it: the network,
 * the port, the brackets of an IPv6 address, the path.
 *
 * **Gotchas**
 *
 * From the address of an mTLS endpoint or listener, it reads the endpoint below: `mtls://tcp://127.0.0.1:4443` gives
 * `tcp://127.0.0.1:4443`. Wrap the result in {@link mtls}: a text cannot hold certificates.
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
 *
 * await Effect.runPromise(program)
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
 * Copies an endpoint, and gives the copy other attributes. Attributes that are not given stay as they are.
 *
 * **Gotchas**
 *
 * It never throws. A bad attribute, such as a weight of 0, is a defect of the `Connection` that gets the endpoint.
 *
 * **Example** (A server that can take three times as many calls as others)
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
  // The prototype is kept: it has the faster way to dial an endpoint of this package.
  <E extends Endpoint>(self: E, attributes: Attributes): E =>
    Object.assign(Object.create(Object.getPrototypeOf(self)), self, attributes)
)

/** The host whose name a server at this endpoint must prove, if it has one. */
const hostOf = (endpoint: Endpoint): string | undefined => {
  if (!isNetEndpoint(endpoint)) return undefined
  const target = Result.getOrUndefined(parseTarget(endpoint.network, endpoint.addr))
  if (target?._tag !== "Tcp") return undefined
  return isUnspecified(target.host) ? "localhost" : target.host
}

/**
 * Makes an endpoint that speaks TLS over another endpoint, with certificates on both sides. Its address is `mtls://`
 * and the address below.
 *
 * **When to use**
 *
 * Use it if both sides must prove their identity. If certificates are renewed, pass the TLS options as an Effect: it
 * runs at each dial.
 *
 * **Details**
 *
 * `tls` are the options of `tls.connect`, or an Effect of them:
 *
 * - `cert` and `key` (or `pfx`, or a `secureContext` made with them): the client's certificate. Required.
 * - `ca`: the authorities that sign the servers' certificates. Default: the public authorities that Node trusts.
 * - `crl`: the revocation lists, one of each authority in `ca`. Default: none.
 * - `servername`: the name that the server's certificate must have. Default: `host`, or else the host of the endpoint
 *   below, which is a name or an IP address. It is required if the endpoint below has no host, like a Unix socket or a
 *   custom endpoint.
 * - `minVersion`: the lowest version. Default: `TLSv1.3`, or `TLSv1.2` if that is the `maxVersion`. Versions below TLS
 *   1.2 are refused, even if a `secureContext` allows them.
 * - `checkServerIdentity` refuses a server when it throws, or gives anything but undefined or null.
 * - `rejectUnauthorized` cannot be false, `pskCallback` cannot be given, and `socket`, `host` and `port` do not change
 *   what is dialed. A `session` is not resumed: each server is checked in full.
 *
 * `dial` fails with a `DialError` if a certificate is missing or cannot be read, if the version is below TLS 1.2, if
 * the server does not prove its name, and if the handshake fails. The connection below is then destroyed. It is also
 * destroyed when dialing is interrupted.
 *
 * **Gotchas**
 *
 * With TLS 1.3 a server refuses a client only after the client's side of the handshake is done: `dial` succeeds, and
 * then the server closes the connection. The call then fails with `CallError.Unreachable`, and the server's log has the
 * reason.
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
    // The connection below has its own Scope: a failed handshake closes it, and not only the end of the caller's Scope.
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
