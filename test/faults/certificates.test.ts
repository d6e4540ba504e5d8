/**
 * Certificates that must not be taken, on either side and with both versions of TLS: who refuses says why, and nothing
 * is executed.
 */
import { describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { Connection, Endpoint, HandlerMap, Listener, MethodKey, Resolver, Server } from "effect-call"
import * as assert from "node:assert/strict"
import * as tls from "node:tls"
import { type IdentityOptions, makeAuthority } from "../../examples/support/certificates.ts"
import { makeLog } from "../support/log.ts"

const day = 24 * 60 * 60 * 1000
const expired = { notBefore: new Date(Date.now() - 2 * day), notAfter: new Date(Date.now() - day) }
const notYetValid = { notBefore: new Date(Date.now() + day), notAfter: new Date(Date.now() + 2 * day) }

/** Made once, for all the tests here. */
const setUp = Effect.runSync(Effect.cached(Effect.gen(function*() {
  const authority = yield* makeAuthority()
  const foreign = yield* makeAuthority("Foreign CA")
  const serverFor = (name: string, options?: Partial<IdentityOptions>) =>
    authority.server({ commonName: name, names: [{ type: "dns", value: name }], ...options })
  const client = yield* authority.client({ commonName: "client" })
  const server = yield* serverFor("localhost")
  return {
    ca: authority.ca,
    client,
    server,
    expiredClient: yield* authority.client({ commonName: "client", ...expired }),
    earlyClient: yield* authority.client({ commonName: "client", ...notYetValid }),
    foreignClient: yield* foreign.client({ commonName: "client" }),
    expiredServer: yield* serverFor("localhost", expired),
    earlyServer: yield* serverFor("localhost", notYetValid),
    foreignServer: yield* foreign.server(),
    otherServer: yield* serverFor("other.example"),
    noneRevoked: yield* authority.revoke(),
    clientRevoked: yield* authority.revoke(client),
    serverRevoked: yield* authority.revoke(server)
  }
})))

type Certificates = Effect.Success<typeof setUp>

interface Refusal {
  readonly title: string
  /** What is not right: replaces options of the server's or the client's. */
  readonly server?: (certificates: Certificates) => tls.TlsOptions
  readonly client?: (certificates: Certificates) => tls.ConnectionOptions
  readonly reason: RegExp
  /**
   * How often it is dialed. Where TLS does not tell the client of its refusal, it may have met a server that goes away.
   */
  readonly dials?: number
}

const byServer: ReadonlyArray<Refusal> = [
  {
    title: "a client whose certificate has expired",
    client: ({ expiredClient }) => expiredClient,
    reason: /certificate was refused: CERT_HAS_EXPIRED$/
  },
  {
    title: "a client whose certificate is not valid yet",
    client: ({ earlyClient }) => earlyClient,
    reason: /certificate was refused: CERT_NOT_YET_VALID$/
  },
  {
    title: "a client of another authority",
    client: ({ foreignClient }) => foreignClient,
    reason: /certificate was refused: UNABLE_TO_VERIFY_LEAF_SIGNATURE$/
  },
  {
    title: "a client whose certificate is revoked",
    server: ({ clientRevoked }) => ({ crl: clientRevoked }),
    reason: /certificate was refused: CERT_REVOKED$/
  },
  {
    title: "a client with a server's certificate",
    client: ({ server }) => server,
    reason: /certificate was refused: INVALID_PURPOSE$/
  },
  {
    title: "a client without a certificate",
    // What is in a context cannot be seen from outside: Endpoint.mtls dials with it.
    client: ({ ca }) => ({ secureContext: tls.createSecureContext({ ca }) }),
    reason: /peer did not return a certificate/,
    dials: 1
  }
]

const byClient: ReadonlyArray<Refusal> = [
  {
    title: "a server whose certificate has expired",
    server: ({ expiredServer }) => expiredServer,
    reason: /certificate has expired/
  },
  {
    title: "a server whose certificate is not valid yet",
    server: ({ earlyServer }) => earlyServer,
    reason: /certificate is not yet valid/
  },
  {
    title: "a server of another authority",
    server: ({ foreignServer }) => foreignServer,
    reason: /unable to verify the first certificate/
  },
  {
    title: "a server whose certificate is revoked",
    client: ({ serverRevoked }) => ({ crl: serverRevoked }),
    reason: /certificate revoked/
  },
  {
    title: "a server with a certificate for another host",
    server: ({ otherServer }) => otherServer,
    reason: /Host: localhost\. is not in the cert's altnames: DNS:other\.example/
  },
  {
    title: "a server with a client's certificate",
    server: ({ client }) => client,
    reason: /unsuitable certificate purpose/
  }
]

/**
 * What a client can know of why a server has refused it: an alert, where it had no certificate; otherwise only that it
 * was closed.
 */
const mayBeTheCertificate = /may have refused this client's certificate|alert (certificate required|handshake failure)/

const get = MethodKey.make("test/Secret", "get")

describe.each(["TLSv1.3", "TLSv1.2"] as const)("over %s", (version) => {
  /** Serves, and calls once. */
  const call = Effect.fnUntraced(function*({ client, server }: Pick<Refusal, "client" | "server">) {
    const certificates = yield* setUp
    const { ca, noneRevoked } = certificates
    const seen = { executed: 0, protocols: new Array<string | null>() }
    const handlers = HandlerMap.set(HandlerMap.empty, "test/Secret", "get", () =>
      Effect.sync(() => {
        seen.executed++
        return new Uint8Array()
      }))
    const listener = yield* Listener.mtls(
      { ca, crl: noneRevoked, maxVersion: version, ...certificates.server, ...server?.(certificates) },
      yield* Listener.tcp("127.0.0.1:0", handlers)
    )
    yield* Effect.forkScoped(Server.serve(listener, { shutdownGrace: 0 }))
    const options = {
      ca,
      crl: noneRevoked,
      maxVersion: version,
      servername: "localhost",
      ...certificates.client,
      ...client?.(certificates)
    }
    const { dial, ...endpoint } = Endpoint.mtls(options, yield* Endpoint.parse(listener.address))
    const connection = yield* Connection.make(Resolver.constant({
      ...endpoint,
      dial: Effect.tap(dial, (socket) =>
        Effect.sync(() => {
          assert.ok(socket instanceof tls.TLSSocket)
          seen.protocols.push(socket.getProtocol())
        }))
    }))
    return { seen, result: yield* Effect.result(connection.call(get, new Uint8Array())) }
  })

  const warnings = (log: ReturnType<typeof makeLog>) =>
    log.lines.filter(({ annotations, level }) => level === "Warn" && "listener" in annotations)

  it.live("takes certificates of which nothing is wrong", () => {
    const log = makeLog()
    return Effect.gen(function*() {
      const { result, seen } = yield* call({})
      assert.equal(result._tag, "Success")
      assert.deepEqual(seen, { executed: 1, protocols: [version] })
      assert.deepEqual(warnings(log), [])
    }).pipe(Effect.scoped, Effect.provide(log.layer))
  })

  it.live.each(byServer)("a server refuses $title, and its log says why", (refusal) => {
    const log = makeLog()
    return Effect.gen(function*() {
      const { result, seen } = yield* call(refusal)
      assert.ok(result._tag === "Failure" && result.failure._tag === "Unreachable")
      assert.match(result.failure.message, mayBeTheCertificate)
      assert.equal(seen.executed, 0)
      const lines = warnings(log)
      assert.equal(lines.length, refusal.dials ?? 2)
      for (const { annotations, message } of lines) {
        assert.match(message, refusal.reason)
        assert.match(String(annotations["peer"]), /^tcp:\/\/127\.0\.0\.1:\d+$/)
      }
    }).pipe(Effect.scoped, Effect.provide(log.layer))
  })

  it.live.each(byClient)("a client refuses $title, and its error says why", (refusal) => {
    const log = makeLog()
    return Effect.gen(function*() {
      const { result, seen } = yield* call(refusal)
      assert.ok(result._tag === "Failure" && result.failure._tag === "Unreachable")
      assert.match(result.failure.message, refusal.reason)
      assert.deepEqual(seen, { executed: 0, protocols: [] })
    }).pipe(Effect.scoped, Effect.provide(log.layer))
  })
})
