/**
 * The client's side of a mutually authenticated TLS connection, over any Duplex. It does not dial.
 */
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Result from "effect/Result"
import type * as Scope from "effect/Scope"
import { isIP } from "node:net"
import type { Duplex } from "node:stream"
import * as tls from "node:tls"
import { shown, unexpected } from "../guard.ts"
import { describeOver } from "../transport/capabilities.ts"
import { attempt, readable, textOf } from "../userError.ts"
import { belowTls } from "./bridge.ts"
import { ignoreError } from "./connect.ts"
import { checkedOptions, checkedProtocol, withoutValue } from "./tlsOptions.ts"

/**
 * A user's check of a server's certificate. Node calls it from the event loop, where an exception would end the
 * process. Node accepts a certificate if the check gives a falsy value, such as 0 or false.
 */
const identityCheck =
  (check: typeof tls.checkServerIdentity): typeof tls.checkServerIdentity => (host, certificate) => {
    try {
      // Whatever its type says, it may be anything.
      const refusal: unknown = check(host, certificate)
      if (refusal === undefined || refusal === null) return undefined
      if (refusal instanceof Error) return refusable(refusal)
      // A promise would come too late.
      return unexpected("checkServerIdentity", "an Error or undefined", refusal)
    } catch (error) {
      return new Error(`checkServerIdentity threw: ${textOf(error)}`, { cause: readable(error) })
    }
  }

/** An error whose code and message Node can read. */
const refusable = (error: unknown): Error => {
  const refusal = readable(error)
  const isReadable = attempt(() => {
    Reflect.get(refusal, "code")
    return true
  }, false)
  return isReadable ? refusal : new Error(textOf(error), { cause: error })
}

/**
 * The options of one handshake: the user's options, checked, and with the name that the server must prove.
 *
 * A `session` is left out: with a resumed session, neither the name nor the authorities of the server are checked.
 *
 * @param host the host of the endpoint below, if it has one
 */
export const clientOptions = (
  given: tls.ConnectionOptions,
  host: string | undefined
): Result.Result<tls.ConnectionOptions, string> => {
  // The value is never shown: it may be a key.
  if (typeof given !== "object" || given === null) {
    return Result.fail(
      `expected the options of tls.connect, got ${
        given === null || given === undefined ? String(given) : `a ${typeof given}`
      }`
    )
  }
  try {
    // Getters of the options are read once.
    return checked({ ...given }, host)
  } catch (error) {
    return Result.fail(`the options of tls.connect cannot be read: ${textOf(withoutValue(error))}`)
  }
}

const checked = (
  options: tls.ConnectionOptions,
  host: string | undefined
): Result.Result<tls.ConnectionOptions, string> => {
  if (options.secureContext === undefined && options.pfx === undefined) {
    if (options.cert === undefined) {
      return Result.fail(
        "the client has no certificate: mtls needs cert and key, pfx, or a secureContext made with them"
      )
    }
    if (options.key === undefined) {
      return Result.fail("the client's certificate has no private key: mtls needs cert and key")
    }
  }
  if (options.rejectUnauthorized === false) {
    return Result.fail("rejectUnauthorized is false: expected true, since mtls always checks the server's certificate")
  }
  if (options.pskCallback !== undefined) {
    return Result.fail("pskCallback is set: expected no such option, since mtls checks certificates")
  }
  const { checkServerIdentity = tls.checkServerIdentity } = options
  if (typeof checkServerIdentity !== "function") {
    return Result.fail(`checkServerIdentity: expected a function, got ${shown(checkServerIdentity)}`)
  }
  // Whatever its type says, it may be anything.
  const name: unknown = options.servername || options.host || host
  if (name === undefined) {
    return Result.fail(
      "there is no name to check the server's certificate against: the endpoint has no host, so servername is needed"
    )
  }
  if (typeof name !== "string") return Result.fail(`servername: expected a name, got ${shown(name)}`)
  // TLS has no server name indication for an IP address: the certificate is only checked against it.
  const identity = isIP(name) === 0
    ? { host: name, servername: name.replace(/\.$/, "") }
    : { host: name.replace(/%.*$/, ""), servername: "" }
  return Result.map(
    checkedOptions(options),
    (options) => ({
      ...options,
      ...identity,
      checkServerIdentity: identityCheck(checkServerIdentity),
      rejectUnauthorized: true,
      session: undefined
    })
  )
}

const closedEarly = () =>
  Object.assign(new Error("the connection was closed during the TLS handshake"), { code: "ECONNRESET" })

// With TLS 1.2, a server on Node refuses a client in this way, without an alert.
const closedByServer = () =>
  Object.assign(
    new Error(
      "the server closed the connection during the TLS handshake " +
        "(it may have refused this client's certificate, or have too many connections: its log says so)"
    ),
    { code: "ECONNRESET" }
  )

/**
 * How the handshake ends. It listens from now on: a fiber may yield before it waits, and the handshake may be over by
 * then.
 */
const handshakeOf = (socket: tls.TLSSocket): Deferred.Deferred<void, unknown> => {
  const ended = Deferred.makeUnsafe<void, unknown>()
  const settle = (exit: Exit.Exit<void, unknown>) => {
    socket.off("secureConnect", onSecure)
    socket.off("error", onError)
    socket.off("close", onClose)
    Deferred.doneUnsafe(ended, exit)
  }
  const onSecure = () => settle(socket.authorized ? Exit.void : Exit.fail(socket.authorizationError))
  const onError = (error: NodeJS.ErrnoException) => {
    // It may come from the user's `checkServerIdentity`.
    const code = attempt(() => error.code, undefined)
    settle(Exit.fail(code === "ECONNRESET" || code === "EPIPE" ? closedByServer() : error))
  }
  const onClose = () => settle(Exit.fail(closedEarly()))
  socket.once("secureConnect", onSecure)
  socket.once("error", onError)
  socket.once("close", onClose)
  return ended
}

/**
 * Gives a TLS socket after its handshake, over a Duplex that belongs to the caller. The TLS socket is destroyed with
 * the Scope, even if this fails.
 */
export const connectTls = Effect.fnUntraced(function*(
  raw: Duplex,
  options: tls.ConnectionOptions
): Effect.fn.Return<tls.TLSSocket, unknown, Scope.Scope> {
  raw.on("error", ignoreError)
  const { handshake, socket } = yield* Effect.acquireRelease(
    // It throws on certificates and keys that it cannot read.
    Effect.try({
      try: () => {
        // If the Duplex has closed already, the TLS socket would never emit an event. It may close while this fiber
        // yields.
        if (raw.destroyed) throw closedEarly()
        const socket = tls.connect({ ...options, socket: belowTls(raw) }).on("error", ignoreError)
        return { socket, handshake: handshakeOf(socket) }
      },
      catch: withoutValue
    }),
    ({ socket }) => Effect.sync(() => socket.destroy())
  )
  yield* Deferred.await(handshake)
  const insecure = checkedProtocol(socket.getProtocol())
  if (insecure !== undefined) return yield* Effect.fail(new Error(insecure))
  // With TLS 1.3, the handshake is done on this side before the server has checked the client's certificate.
  return describeOver(socket, raw, { refusesSilently: true })
})
