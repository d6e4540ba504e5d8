/**
 * The versions of TLS: 1.3 unless 1.2 is asked for, and nothing older, from any peer.
 */
import { describe, it } from "@effect/vitest"
import { Effect, Fiber } from "effect"
import { Endpoint, HandlerMap, Listener } from "effect-call"
import * as assert from "node:assert/strict"
import type * as net from "node:net"
import * as tls from "node:tls"
import { makeLog } from "../support/log.ts"
import { certificates } from "../support/networks.ts"

describe("TLS", () => {
  const setUp = Effect.map(certificates, ({ ca, client, server }) => ({
    client: { ca, servername: "localhost", ...client },
    server: { ca, ...server }
  }))

  const listen = Effect.fnUntraced(function*(versions: tls.TlsOptions) {
    const { server } = yield* setUp
    return yield* Listener.mtls({ ...server, ...versions }, yield* Listener.tcp("127.0.0.1:0", HandlerMap.empty))
  })

  const dial = Effect.fnUntraced(function*(address: string, versions: tls.ConnectionOptions) {
    const { client } = yield* setUp
    return yield* Endpoint.mtls({ ...client, ...versions }, yield* Endpoint.parse(address)).dial
  })

  it.live.each<[tls.SecureVersion, tls.SecureContextOptions, tls.SecureContextOptions]>([
    ["TLSv1.3", {}, {}],
    ["TLSv1.3", { minVersion: "TLSv1.2" }, {}],
    ["TLSv1.3", {}, { minVersion: "TLSv1.2" }],
    ["TLSv1.3", { minVersion: "TLSv1.2" }, { minVersion: "TLSv1.2" }],
    ["TLSv1.2", { maxVersion: "TLSv1.2" }, { minVersion: "TLSv1.2" }],
    ["TLSv1.2", { minVersion: "TLSv1.2" }, { maxVersion: "TLSv1.2" }],
    ["TLSv1.2", { secureProtocol: "TLSv1_2_method" }, { secureProtocol: "TLSv1_2_client_method" }]
  ])("is %s where the server has %j and the client %j", ([version, ofServer, ofClient]) =>
    Effect.gen(function*() {
      const listener = yield* listen(ofServer)
      const dialing = yield* Effect.forkChild(dial(listener.address, ofClient), { startImmediately: true })
      const { connection } = yield* listener.accept
      const client = yield* Fiber.join(dialing)
      assert.ok(client instanceof tls.TLSSocket && connection instanceof tls.TLSSocket)
      assert.deepEqual([client.getProtocol(), connection.getProtocol()], [version, version])
    }).pipe(Effect.scoped))

  it.live.each<[string, tls.SecureContextOptions, tls.SecureContextOptions]>([
    ["a client that speaks no more than 1.2", {}, { maxVersion: "TLSv1.2" }],
    ["a server that speaks no more than 1.2", { maxVersion: "TLSv1.2" }, {}]
  ])("is not spoken with %s, unless it was asked for 1.2, and both are told", ([, ofServer, ofClient]) => {
    const log = makeLog()
    return Effect.gen(function*() {
      const listener = yield* listen(ofServer)
      assert.match((yield* Effect.flip(dial(listener.address, ofClient))).message, /alert protocol version/)
      yield* log.until(1)
      assert.deepEqual(log.lines.map(({ level }) => level), ["Warn"])
      assert.match(log.lines[0]!.message, /^TLS handshake failed: .*unsupported protocol/)
    }).pipe(Effect.scoped, Effect.provide(log.layer))
  })

  // Not all of these are versions at all, as they may come from a program without types.
  const refused: ReadonlyArray<readonly [object, string]> = [
    [{ minVersion: "TLSv1.1" }, "minVersion is \"TLSv1.1\": expected \"TLSv1.2\" or \"TLSv1.3\""],
    [{ minVersion: "TLSv1" }, "minVersion is \"TLSv1\": expected \"TLSv1.2\" or \"TLSv1.3\""],
    [{ minVersion: "1.3" }, "minVersion is \"1.3\": expected \"TLSv1.2\" or \"TLSv1.3\""],
    [
      { minVersion: "TLSv1.2", maxVersion: "TLSv1.1" },
      "maxVersion is \"TLSv1.1\": expected \"TLSv1.2\" or \"TLSv1.3\""
    ],
    [{ maxVersion: "TLSv1.1" }, "maxVersion is \"TLSv1.1\": expected \"TLSv1.2\" or \"TLSv1.3\""],
    [
      { minVersion: "TLSv1.3", maxVersion: "TLSv1.2" },
      "minVersion is \"TLSv1.3\": expected no more than maxVersion, which is \"TLSv1.2\""
    ],
    ...["TLS_method", "SSLv23_method", "TLSv1_method", "TLSv1_1_method"].map((secureProtocol) =>
      [
        { secureProtocol },
        `secureProtocol is "${secureProtocol}": expected "TLSv1_2_method", or minVersion in its place`
      ] as const
    )
  ]

  it.live.each(refused)("is refused by both ends with %j", ([versions, reason]) =>
    Effect.gen(function*() {
      const listening = yield* Effect.flip(listen(versions))
      assert.match(listening.message, /^cannot listen on mtls:\/\/tcp:\/\/127\.0\.0\.1:\d+: /)
      assert.ok(listening.message.endsWith(reason), listening.message)
      const dialing = yield* Effect.flip(dial("tcp://127.0.0.1:1", versions))
      assert.ok(dialing._tag === "DialError")
      assert.equal(dialing.message, `cannot dial mtls://tcp://127.0.0.1:1: ${reason}`)
    }).pipe(Effect.scoped))

  it.live("is refused by a client whose own context has led to a version below 1.2", () =>
    Effect.gen(function*() {
      const { client, server } = yield* setUp
      // What is this old is only to be had at this level of security.
      const old = { minVersion: "TLSv1.1", maxVersion: "TLSv1.1", ciphers: "DEFAULT:@SECLEVEL=0" } as const
      const seen = { closed: 0 }
      const legacy = tls.createServer({ ...server, ...old, requestCert: true }, (socket) => {
        socket.on("error", () => {}).on("close", () => seen.closed++)
      })
      yield* Effect.acquireRelease(
        Effect.callback<void>((resume) => void legacy.listen(0, "127.0.0.1", () => resume(Effect.void))),
        () => Effect.callback<void>((resume) => void legacy.close(() => resume(Effect.void)))
      )
      // It listens on TCP, so that its address is no text.
      const { port } = legacy.address() as net.AddressInfo
      const secureContext = tls.createSecureContext({ ...client, ...old })
      const error = yield* Effect.flip(
        Endpoint.mtls({ secureContext, servername: "localhost" }, Endpoint.tcp(`127.0.0.1:${port}`)).dial
      )
      assert.equal(
        error.message,
        `cannot dial mtls://tcp://127.0.0.1:${port}: the connection speaks TLSv1.1: expected "TLSv1.2" or "TLSv1.3"`
      )
    }).pipe(Effect.scoped))
})
