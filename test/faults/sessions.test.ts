/**
 * Sessions that are taken up again: TLS would let a peer in on what was checked when the session began, and not on what
 * holds now.
 */
import { describe, it } from "@effect/vitest"
import { Effect, Logger } from "effect"
import { Endpoint, HandlerMap, Listener, Server } from "effect-call"
import * as assert from "node:assert/strict"
import type * as net from "node:net"
import * as tls from "node:tls"
import { makeAuthority } from "../../examples/support/certificates.ts"
import { makeLog } from "../support/log.ts"
import { portOf, version } from "./wire.ts"

/** With these, every server takes the tickets that another one has given. */
const ticketKeys = Buffer.alloc(48, 7)

const setUp = Effect.runSync(Effect.cached(Effect.gen(function*() {
  const authority = yield* makeAuthority()
  const foreign = yield* makeAuthority("Foreign CA")
  const { ca } = authority
  const client = yield* authority.client({ commonName: "client" })
  return {
    foreign: foreign.ca,
    server: { ca, ticketKeys, ...yield* authority.server() },
    client: { ca, servername: "localhost", ...client },
    revoked: yield* authority.revoke(client)
  }
})))

/** A server of Node's alone, which takes sessions up again. */
const nodeServer = Effect.fnUntraced(function*(options: tls.TlsOptions) {
  const server = tls.createServer({ ...options, requestCert: true, rejectUnauthorized: true }, (socket) => {
    socket.on("error", () => {})
    socket.write("hi")
  })
  server.on("tlsClientError", () => {})
  yield* Effect.acquireRelease(
    Effect.callback<void>((resume) => void server.listen(0, "127.0.0.1", () => resume(Effect.void))),
    () => Effect.sync(() => server.close())
  )
  // It listens on TCP, so that its address is no text.
  return (server.address() as net.AddressInfo).port
})

/** What became of a connection of Node's alone, after its first data or when it was closed. */
const connect = (port: number, options: tls.ConnectionOptions) =>
  Effect.callback<{ readonly reused: boolean; readonly got: string; readonly session: Buffer | undefined }>(
    (resume) => {
      const seen = { reused: false, got: "", session: undefined as Buffer | undefined }
      const socket = tls.connect({ port, host: "127.0.0.1", ...options })
      // With TLS 1.3 a session comes with the first data, or before; with 1.2 it is there with the handshake.
      const look = () => {
        if (seen.got !== "" && (seen.reused || seen.session !== undefined)) socket.destroy()
      }
      socket.on("error", () => {})
      socket.on("secureConnect", () => {
        seen.reused = socket.isSessionReused()
        socket.write(version)
      })
      socket.on("session", (session) => {
        seen.session = session
        look()
      })
      socket.on("data", (data) => {
        seen.got += data.toString()
        look()
      })
      socket.on("close", () => resume(Effect.succeed(seen)))
      return Effect.sync(() => socket.destroy())
    }
  )

describe.each(["TLSv1.3", "TLSv1.2"] as const)("over %s", (maxVersion) => {
  it.live("a server does not take a session up again that began before its client was revoked", () => {
    const log = makeLog()
    return Effect.gen(function*() {
      const { client, revoked, server } = yield* setUp
      const options = { ...server, maxVersion }
      const { session } = yield* connect(yield* nodeServer(options), client)
      // Node's own server would let it in.
      const { reused } = yield* connect(yield* nodeServer({ ...options, crl: revoked }), { ...client, session })
      assert.equal(reused, true)
      const listener = yield* Listener.mtls(
        { ...options, crl: revoked },
        yield* Listener.tcp("127.0.0.1:0", (): HandlerMap.HandlerMap<never> => assert.fail("it was let in"))
      )
      yield* Effect.forkScoped(Server.serve(listener, { shutdownGrace: 0 }))
      const refused = yield* connect(portOf(listener.address), { ...client, session })
      assert.equal(refused.got, "")
      assert.deepEqual(log.lines.map(({ message }) => message), [
        "TLS handshake failed: the client's certificate was refused: CERT_REVOKED"
      ])
    }).pipe(Effect.scoped, Effect.provide(log.layer))
  })

  it.live("a server gives no session that it takes up again", () =>
    Effect.gen(function*() {
      const { client, server } = yield* setUp
      const listener = yield* Listener.mtls(
        { ...server, maxVersion },
        yield* Listener.tcp("127.0.0.1:0", HandlerMap.empty)
      )
      // What comes from it is its version message.
      yield* Effect.forkScoped(Server.serve(listener, { shutdownGrace: 0 }))
      const first = yield* connect(portOf(listener.address), client)
      const second = yield* connect(portOf(listener.address), { ...client, session: first.session })
      assert.notEqual(second.got, "")
      assert.equal(second.reused, false)
    }).pipe(Effect.scoped, Effect.provide(Logger.layer([]))))

  it.live("a client does not take a session up again with a server whose authority it no longer trusts", () =>
    Effect.gen(function*() {
      const { client, foreign, server } = yield* setUp
      const port = yield* nodeServer({ ...server, maxVersion })
      const { session } = yield* connect(port, client)
      const distrustful = { ...client, ca: foreign, maxVersion, session }
      // Node's own client would go on.
      const { got, reused } = yield* connect(port, distrustful)
      assert.deepEqual([got, reused], ["hi", true])
      const error = yield* Effect.flip(Endpoint.mtls(distrustful, Endpoint.tcp(`127.0.0.1:${port}`)).dial)
      assert.match(error.message, /unable to verify the first certificate|self-signed certificate/)
    }).pipe(Effect.scoped))
})
