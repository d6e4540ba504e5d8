/**
 * The server's side of mutually authenticated TLS connections, over any Duplex. It does not listen.
 */
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import type { Buffer } from "node:buffer"
import { constants, X509Certificate } from "node:crypto"
import type { Duplex } from "node:stream"
import * as tls from "node:tls"
import { isPromise } from "node:util/types"
import { discard } from "../guard.ts"
import { describeOver } from "../transport/capabilities.ts"
import { attempt, textOf } from "../userError.ts"
import { belowTls } from "./bridge.ts"
import { describe, ignoreError } from "./connect.ts"
import { checkedOptions, withoutValue } from "./tlsOptions.ts"

/** Whether it holds a certificate. Node accepts any text as an authority's certificate, and then trusts no client. */
const hasCertificate = (ca: string | Buffer): boolean => {
  try {
    return new X509Certificate(ca).raw.length > 0
  } catch {
    return false
  }
}

/**
 * The longest timer, in milliseconds. The caller limits the time of the handshake. Node's own limit of two minutes
 * might be shorter.
 */
const longest = 2 ** 31 - 1

/**
 * The user's callbacks, which may be async functions. Node does not wait for them, and their failure would end the
 * process. If a callback throws at once, Node ends the handshake.
 */
const guardedCallbacks = ({ ALPNCallback, SNICallback, pskCallback }: tls.TlsOptions): tls.TlsOptions => ({
  ...(typeof SNICallback !== "function" ? {} : {
    SNICallback: (servername, callback) => {
      // Whatever its type says.
      const given: unknown = SNICallback(servername, callback)
      if (isPromise(given)) given.then(undefined, (error) => callback(asError(error)))
    }
  }),
  ...(typeof ALPNCallback !== "function" ? {} : { ALPNCallback: (offered) => kept(ALPNCallback(offered)) }),
  ...(typeof pskCallback !== "function" ? {} : {
    pskCallback: (socket, identity) => kept(pskCallback(socket, identity))
  })
})

const kept = <A>(given: A): A => {
  discard(given)
  return given
}

const asError = (error: unknown): Error => error instanceof Error ? error : new Error(textOf(error), { cause: error })

/** The options of a server: the user's options, checked. With them, every client must prove its identity. */
const serverOptions = (options: tls.TlsOptions): Result.Result<tls.TlsOptions, string> => {
  if (options.ca === undefined) {
    return Result.fail("there is no ca: mtls needs the authorities that sign the clients' certificates")
  }
  if (options.pfx === undefined) {
    if (options.cert === undefined) return Result.fail("the server has no certificate: mtls needs cert and key, or pfx")
    if (options.key === undefined) {
      return Result.fail("the server's certificate has no private key: mtls needs cert and key")
    }
  }
  if (options.requestCert === false || options.rejectUnauthorized === false) {
    return Result.fail(
      "requestCert or rejectUnauthorized is false: expected true, since mtls always checks the clients' certificates"
    )
  }
  const checked = checkedOptions(options)
  if (Result.isFailure(checked)) return checked
  const authorities = [options.ca].flat()
  if (authorities.length === 0 || !authorities.every(hasCertificate)) {
    return Result.fail("there is no certificate in ca, or in a part of it")
  }
  return Result.succeed({
    handshakeTimeout: longest,
    ...checked.success,
    ...guardedCallbacks(options),
    // No tickets: in a resumed session, a client is not checked. Its certificate may have expired or been revoked.
    secureOptions: (options.secureOptions ?? 0) | constants.SSL_OP_NO_TICKET,
    requestCert: true,
    rejectUnauthorized: true
  })
}

/** How many servers are kept for later handshakes. */
const maxIdle = 8

/** Why a connection did not become secure. `hungUp`: the peer or this side only closed it. */
export class HandshakeFailed extends Error {
  readonly hungUp: boolean

  constructor(message: string, hungUp: boolean) {
    super(message)
    this.hungUp = hungUp
  }
}

const clientError = (error: NodeJS.ErrnoException, socket: tls.TLSSocket): HandshakeFailed => {
  // If a certificate was refused, the error does not say so. The socket does.
  const refusal: unknown = socket.authorizationError
  return refusal === null || refusal === undefined
    ? new HandshakeFailed(describe(error), attempt(() => error.code === "ECONNRESET", false))
    : new HandshakeFailed(`the client's certificate was refused: ${describe(refusal)}`, false)
}

/** Performs the server's side of one handshake. */
export type Handshake = (raw: Duplex) => Effect.Effect<tls.TLSSocket, HandshakeFailed>

/**
 * Makes the function that performs handshakes with these options, or gives the problem with them: a sentence, or the
 * error that Node throws.
 *
 * A `tls.Server` tells which socket has become secure or has failed, but not over which Duplex. So each handshake under
 * way has its own server. Making one costs about a millisecond, since it reads the certificates. After a success it is
 * used again. After a failure it is not: it may still report something about that connection.
 */
export const makeHandshake = (options: tls.TlsOptions): Result.Result<Handshake, unknown> =>
  Result.flatMap(serverOptions(options), (options) =>
    Result.try({
      try: () => handshakeWith(options, tls.createServer(options)),
      catch: withoutValue
    }))

const handshakeWith = (options: tls.TlsOptions, first: tls.Server): Handshake => {
  const idle = [first]
  return (raw) =>
    Effect.callback((resume) => {
      raw.on("error", ignoreError)
      // If the Duplex has closed already, the TLS server would never emit an event.
      if (raw.destroyed) return resume(Effect.fail(new HandshakeFailed("the connection was already closed", true)))
      const below = belowTls(raw)
      const server = idle.pop() ?? tls.createServer(options)
      const settle = (result: Effect.Effect<tls.TLSSocket, HandshakeFailed>) => {
        off()
        resume(result)
      }
      const onSecure = (socket: tls.TLSSocket) => {
        socket.on("error", ignoreError)
        if (idle.length < maxIdle) idle.push(server)
        settle(Effect.succeed(describeOver(socket, raw)))
      }
      const onClientError = (error: Error, socket: tls.TLSSocket) => settle(Effect.fail(clientError(error, socket)))
      const off = () => {
        server.off("secureConnection", onSecure)
        server.off("tlsClientError", onClientError)
      }
      server.once("secureConnection", onSecure)
      server.once("tlsClientError", onClientError)
      server.emit("connection", below)
      return Effect.sync(off)
    })
}
