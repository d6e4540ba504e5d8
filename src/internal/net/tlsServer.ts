/**
 * The server's side of mutually authenticated TLS connections, over any duplex.
 */
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import type { Duplex } from "node:stream"
import * as tls from "node:tls"
import { describe, ignoreError } from "./connect.ts"

/** The options of a server: the user's, checked, with which every client has to prove who it is. */
export const serverOptions = (options: tls.TlsOptions): Result.Result<tls.TlsOptions, string> => {
  if (options.ca === undefined) {
    return Result.fail("there is no ca: mtls needs the authorities that have to have signed the clients' certificates")
  }
  if (options.pfx === undefined) {
    if (options.cert === undefined) return Result.fail("the server has no certificate: mtls needs cert and key, or pfx")
    if (options.key === undefined) {
      return Result.fail("the server's certificate has no private key: mtls needs cert and key")
    }
  }
  if (options.requestCert === false || options.rejectUnauthorized === false) {
    return Result.fail("requestCert or rejectUnauthorized is false, but with mtls every client has to prove who it is")
  }
  return Result.succeed({ ...options, requestCert: true, rejectUnauthorized: true })
}

/** How many servers are kept for later handshakes. */
const maxIdle = 8

/** Why a connection did not become a secure one. `hungUp`: the peer, or somebody on this side, just closed it. */
export class HandshakeFailed extends Error {
  readonly hungUp: boolean

  constructor(message: string, hungUp: boolean) {
    super(message)
    this.hungUp = hungUp
  }
}

const clientError = (error: NodeJS.ErrnoException, socket: tls.TLSSocket): HandshakeFailed => {
  // A certificate that was refused ends the connection without an error of its own; what was wrong with it is noted at the socket.
  const refusal: unknown = socket.authorizationError
  return refusal === null || refusal === undefined
    ? new HandshakeFailed(error.message, error.code === "ECONNRESET")
    : new HandshakeFailed(`the client's certificate was refused: ${describe(refusal)}`, false)
}

/**
 * Makes the function that performs one handshake. It throws on certificates and keys that cannot be read.
 *
 * A `tls.Server` says which socket has become secure or has failed, but not over which duplex. So each handshake under way has a server to
 * itself. Making one costs about a millisecond, since it reads the certificates; after a success it is used again. After a failure it is
 * not: it may still have to say something about that connection.
 */
export const makeHandshake = (
  options: tls.TlsOptions
): (raw: Duplex) => Effect.Effect<tls.TLSSocket, HandshakeFailed> => {
  const idle = [tls.createServer(options)]
  return (raw) =>
    Effect.callback((resume) => {
      raw.on("error", ignoreError)
      // Of a duplex that has closed already, a TLS server never hears anything.
      if (raw.destroyed) return resume(Effect.fail(new HandshakeFailed("the connection was already closed", true)))
      const server = idle.pop() ?? tls.createServer(options)
      const settle = (result: Effect.Effect<tls.TLSSocket, HandshakeFailed>) => {
        off()
        resume(result)
      }
      const onSecure = (socket: tls.TLSSocket) => {
        socket.on("error", ignoreError)
        if (idle.length < maxIdle) idle.push(server)
        settle(Effect.succeed(socket))
      }
      const onClientError = (error: Error, socket: tls.TLSSocket) => settle(Effect.fail(clientError(error, socket)))
      const off = () => {
        server.off("secureConnection", onSecure)
        server.off("tlsClientError", onClientError)
      }
      server.once("secureConnection", onSecure)
      server.once("tlsClientError", onClientError)
      server.emit("connection", raw)
      return Effect.sync(off)
    })
}
