/**
 * Clients that fail in their TLS handshake, or break it. Each costs its own connection, and a client that behaves does
 * not notice.
 */
import { describe, it } from "@effect/vitest"
import { Effect } from "effect"
import * as fc from "fast-check"
import * as assert from "node:assert/strict"
import * as net from "node:net"
import * as tls from "node:tls"
import { makeAuthority } from "../../examples/support/certificates.ts"
import * as Networks from "../support/networks.ts"
import { echo, makeHandlers, makeLog, ok } from "./hostile.ts"
import { portOf, RawPeer, request, version } from "./wire.ts"

describe("an mTLS server goes on when a client", () => {
  const open = Effect.gen(function*() {
    const { handlers } = makeHandlers()
    const served = yield* Networks.mtlsOverTcp.serve(handlers)
    const connection = yield* Networks.connect([served.endpoint])
    const behaves = Effect.asVoid(connection.call(echo, ok))
    yield* behaves
    return { port: portOf(served.listener.address), behaves }
  })

  const connect = (port: number) =>
    Effect.acquireRelease(
      Effect.sync(() => new RawPeer(net.connect({ port, host: "127.0.0.1" }))),
      ({ socket }) => Effect.sync(() => socket.destroy())
    )

  const connectTls = (port: number, options: tls.ConnectionOptions) =>
    Effect.acquireRelease(
      Effect.sync(() => new RawPeer(tls.connect({ port, host: "127.0.0.1", servername: "localhost", ...options }))),
      ({ socket }) => Effect.sync(() => socket.destroy())
    )

  it.live("speaks without TLS, is silent, or sends random bytes", () => {
    const log = makeLog()
    return Effect.gen(function*() {
      const { behaves, port } = yield* open
      const silent = yield* connect(port)
      const plain = yield* connect(port)
      yield* plain.send(version, request(1, echo, ok))
      yield* plain.closed
      assert.deepEqual(plain.messages.filter(({ type }) => type === 2), [])
      for (const bytes of fc.sample(fc.uint8Array({ minLength: 1, maxLength: 300 }), { numRuns: 60, seed: 42 })) {
        const peer = yield* connect(port)
        yield* peer.send(bytes)
        peer.socket.end()
        yield* peer.closed
      }
      yield* behaves
      assert.ok(!silent.socket.destroyed)
      assert.match(log.lines.join("\n"), /TLS handshake failed/)
    }).pipe(Effect.scoped, Effect.provide(log.layer))
  })

  it.live("breaks off its handshake, or half-closes in it", () => {
    const log = makeLog()
    return Effect.gen(function*() {
      const { behaves, port } = yield* open
      for (let i = 0; i < 20; i++) {
        const peer = yield* connect(port)
        // The head of a ClientHello that does not follow.
        yield* peer.send(Buffer.from([0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00, 0x01, 0xfc]))
        if (i % 2 === 0) peer.reset()
        else peer.socket.end()
        yield* peer.closed
        if (i % 5 === 0) yield* behaves
      }
      yield* behaves
    }).pipe(Effect.scoped, Effect.provide(log.layer))
  })

  it.live("has no certificate, or one of another authority", () => {
    const log = makeLog()
    return Effect.gen(function*() {
      const { behaves, port } = yield* open
      const { ca } = yield* Networks.certificates
      const foreign = yield* makeAuthority("Foreign CA").pipe(
        Effect.flatMap((authority) => authority.client({ commonName: "client" }))
      )
      for (const options of [{}, foreign]) {
        const peer = yield* connectTls(port, { ca, ...options })
        yield* peer.send(version, request(1, echo, ok))
        yield* peer.closed
        assert.deepEqual(peer.messages, [])
        yield* behaves
      }
      assert.equal(log.lines.filter((line) => line.startsWith("TLS handshake failed")).length, 2, log.lines.join("\n"))
    }).pipe(Effect.scoped, Effect.provide(log.layer))
  })
})
