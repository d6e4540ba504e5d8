/**
 * Private keys and passphrases stay where they are: whatever goes wrong with them, no piece of one is in a log, an
 * error or a span.
 */
import { describe, it } from "@effect/vitest"
import { Cause, Effect, Exit, Logger, References, Tracer } from "effect"
import { Connection, Endpoint, HandlerMap, Listener, MethodKey, Resolver, Server } from "effect-call"
import { TestClock } from "effect/testing"
import * as assert from "node:assert/strict"
import { createPrivateKey } from "node:crypto"
import * as tls from "node:tls"
import { inspect } from "node:util"
import { type Identity, makeAuthority } from "../../examples/support/certificates.ts"

const passphrase = "correct horse battery staple"
/** What only a program without types has for a passphrase. */
const number = 8_675_309_172
const ticketKey = "a secret key for tickets"

interface Keys {
  readonly ca: string
  readonly cert: string
  readonly key: string
  /** `key`, of which `passphrase` is the passphrase. */
  readonly encrypted: string
  readonly client: Identity
  readonly server: Identity
  readonly foreign: Identity
}

/** Pieces of so many characters or bytes are not there by accident. */
const pieceLength = 10

const piecesOf = (text: string): Array<string> =>
  Array.from({ length: text.length - pieceLength + 1 }, (_, i) => text.slice(i, i + pieceLength))

const bodyOf = (pem: string): string => pem.replaceAll(/-----[^-]+-----|\n/g, "")

/**
 * What is secret of a key on P-256: 30 of the 32 bytes of its number. Its head is that of every such key, and its end
 * is the public key.
 */
const secretOf = (pem: string): string => bodyOf(pem).slice(48, 88)

/** Base64 as it could be shown: the text, the bytes that it stands for, and the text as bytes. */
const shapesOf = (base64: string): Array<string> =>
  [Buffer.from(base64, "base64"), Buffer.from(base64)].flatMap((bytes) => {
    const hex = [...bytes].map((byte) => byte.toString(16).padStart(2, "0"))
    return [hex.join(""), hex.join(" "), bytes.join(","), bytes.join(", ")]
  }).concat(base64)

const secretsOf = (keys: Keys): ReadonlySet<string> =>
  new Set([
    ...[keys.key, keys.client.key, keys.server.key, keys.foreign.key].map(secretOf).flatMap(shapesOf),
    ...shapesOf(bodyOf(keys.encrypted).slice(-80)),
    passphrase,
    ticketKey,
    String(number)
  ].flatMap(piecesOf))

const setUp = Effect.runSync(Effect.cached(Effect.gen(function*() {
  const authority = yield* makeAuthority()
  const foreign = yield* makeAuthority("Foreign CA")
  const { cert, key } = yield* authority.server()
  const encrypted = createPrivateKey(key).export({ format: "pem", type: "pkcs8", cipher: "aes-256-cbc", passphrase })
  const keys = {
    ca: authority.ca,
    cert,
    key,
    encrypted: encrypted.toString(),
    client: yield* authority.client({ commonName: "client" }),
    server: yield* authority.server(),
    foreign: yield* foreign.client({ commonName: "client" })
  }
  return { ...keys, secrets: secretsOf(keys) }
})))

/** All that is logged, every span, and what is added to it. */
const makeWitness = () => {
  const seen: Array<unknown> = []
  const logger = Logger.make(({ cause, fiber, message }) => {
    seen.push(message, cause, Cause.pretty(cause), fiber.getRef(References.CurrentLogAnnotations))
  })
  const tracer = Tracer.make({
    span: (options) => {
      const span = new Tracer.NativeSpan(options)
      seen.push(span)
      return span
    }
  })
  const watch = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
    effect.pipe(
      Effect.exit,
      Effect.tap((exit) => Effect.sync(() => seen.push(exit, Exit.isFailure(exit) ? Cause.pretty(exit.cause) : ""))),
      Effect.withSpan("witnessed"),
      Effect.provide(Logger.layer([logger])),
      Effect.provideService(References.MinimumLogLevel, "All"),
      Effect.withTracer(tracer)
    )
  const text = () =>
    seen.flatMap((value) => [
      inspect(value, { depth: 20, maxStringLength: null, maxArrayLength: null }),
      // The times of a span have no form in JSON.
      JSON.stringify(value, (_, value: unknown) => typeof value === "bigint" ? String(value) : value),
      String(value)
    ]).join("\n")
  return { watch, text }
}

const assertSecret = ({ secrets }: Effect.Success<typeof setUp>, text: string) => {
  for (const [at, piece] of piecesOf(text).entries()) {
    if (secrets.has(piece)) assert.fail(`a piece of a key, in ${JSON.stringify(text.slice(at - 200, at + 100))}`)
  }
}

const unusable: ReadonlyArray<readonly [string, (keys: Keys) => object]> = [
  ["a key that is cut short", ({ key }) => ({ key: key.slice(0, -60) })],
  ["a key of which a line is missing", ({ key }) => ({ key: key.split("\n").toSpliced(1, 1).join("\n") })],
  ["a key without its first line", ({ key }) => ({ key: key.split("\n").slice(1).join("\n") })],
  ["a key of bytes that is cut short", ({ key }) => ({ key: Buffer.from(key).subarray(0, -60) })],
  ["the key of another certificate", ({ server }) => ({ key: server.key })],
  ["a key in place of the certificate", ({ key }) => ({ cert: key })],
  ["a key in place of a revocation list", ({ key }) => ({ crl: key })],
  ["a key without its passphrase", ({ encrypted }) => ({ key: encrypted })],
  ["a key with another passphrase", ({ encrypted }) => ({ key: encrypted, passphrase: `not ${passphrase}` })],
  ["a key in an object, with another passphrase", ({ encrypted }) => ({
    key: [{ pem: encrypted, passphrase: `not ${passphrase}` }]
  })],
  ["a pfx that is none", ({ key }) => ({ pfx: key, passphrase })],
  ["a pfx of bytes that is none", ({ key }) => ({ pfx: [{ buf: Buffer.from(key), passphrase }] })],
  ["a key in a shape that Node does not take", ({ key }) => ({ key: { pem: { pem: key } } })],
  ["a number for a key", () => ({ key: number })],
  ["a number for a passphrase", ({ encrypted }) => ({ key: encrypted, passphrase: number })],
  ["a text for a secureContext", ({ key }) => ({ secureContext: key, ticketKeys: ticketKey })]
]

describe("no piece of a key is shown by", () => {
  it.effect.each(unusable)("a listener with %s", ([, options]) =>
    Effect.gen(function*() {
      const keys = yield* setUp
      const { ca, cert, key } = keys
      const witness = makeWitness()
      const bad: tls.TlsOptions = { ca, cert, key, ...options(keys) }
      const exit = yield* witness.watch(Effect.flatMap(
        Listener.tcp("127.0.0.1:0", HandlerMap.empty),
        (listener) => Listener.mtls(bad, listener)
      ))
      assert.ok(Exit.isFailure(exit))
      assert.ok(Cause.squash(exit.cause) instanceof Listener.ListenerError)
      assertSecret(keys, witness.text())
    }))

  it.effect.each(unusable)("a listener that is to take over %s", ([, options]) =>
    Effect.gen(function*() {
      const keys = yield* setUp
      const { ca, cert, key } = keys
      const witness = makeWitness()
      const given: Array<tls.TlsOptions> = [{ ca, cert, key }]
      yield* witness.watch(Effect.gen(function*() {
        yield* Listener.mtls(
          Effect.sync(() => given.shift() ?? { ca, cert, key, ...options(keys) }),
          yield* Listener.tcp("127.0.0.1:0", HandlerMap.empty)
        )
        yield* TestClock.adjust("2 minutes")
      }))
      const text = witness.text()
      assert.match(text, /The TLS options could not be renewed/)
      assertSecret(keys, text)
    }))

  it.live.each(unusable)("a client with %s", ([, options]) =>
    Effect.gen(function*() {
      const keys = yield* setUp
      const { ca, cert, key } = keys
      const witness = makeWitness()
      const listener = yield* Listener.tcp("127.0.0.1:0", HandlerMap.empty)
      const bad: tls.ConnectionOptions = { ca, cert, key, ...options(keys) }
      const endpoint = Endpoint.mtls(bad, yield* Endpoint.parse(listener.address))
      const dialed = yield* witness.watch(endpoint.dial)
      assert.ok(Exit.isFailure(dialed))
      assert.ok(Cause.squash(dialed.cause) instanceof Endpoint.DialError)
      const called = yield* witness.watch(Effect.flatMap(
        Connection.make(Resolver.constant(endpoint)),
        (connection) => connection.call(MethodKey.make("test/Secret", "get"), new Uint8Array())
      ))
      assert.ok(Exit.isFailure(called))
      assertSecret(keys, witness.text())
    }).pipe(Effect.scoped))

  it.live("either side where a handshake fails", () =>
    Effect.gen(function*() {
      const keys = yield* setUp
      const { ca, client, encrypted, foreign, server } = keys
      const witness = makeWitness()
      yield* witness.watch(Effect.gen(function*() {
        const listener = yield* Listener.mtls(
          { ca, cert: keys.cert, key: encrypted, passphrase },
          yield* Listener.tcp("127.0.0.1:0", HandlerMap.empty)
        )
        yield* Effect.forkScoped(Server.serve(listener, { shutdownGrace: 0 }))
        const inner = yield* Endpoint.parse(listener.address)
        const failures: ReadonlyArray<tls.ConnectionOptions> = [
          { ca, ...foreign },
          { ca, ...server },
          { ca, ...client, servername: "elsewhere.example" },
          { ca: keys.cert, ...client },
          { ca, ...client, maxVersion: "TLSv1.2" },
          { ca, secureContext: tls.createSecureContext({ ca }) }
        ]
        for (const options of failures) {
          yield* witness.watch(Effect.scoped(Effect.flatMap(
            Connection.make(Resolver.constant(Endpoint.mtls(options, inner))),
            (connection) => Effect.flip(connection.call(MethodKey.make("test/Secret", "get"), new Uint8Array()))
          )))
        }
      }))
      const text = witness.text()
      for (const reason of [/certificate was refused/, /unsupported protocol/, /did not return a certificate/]) {
        assert.match(text, reason)
      }
      assertSecret(keys, text)
    }).pipe(Effect.scoped))
})
