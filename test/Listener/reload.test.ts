import { assert, describe, it } from "@effect/vitest"
import { Cause, Effect, Exit, Fiber, References } from "effect"
import { Connection, Endpoint, HandlerMap, Listener, MethodKey, Resolver, Server } from "effect-call"
import { TestClock } from "effect/testing"
import { X509Certificate } from "node:crypto"
import { readFile, writeFile } from "node:fs/promises"
import { join } from "node:path"
import * as tls from "node:tls"
import { type Identity, makeAuthority } from "../../examples/support/certificates.ts"
import { closed, makeLog, temporaryDirectory } from "../internal/net/sockets.ts"
import { exchange, failure, handlers } from "./support.ts"

const setUp = Effect.runSync(Effect.cached(Effect.gen(function*() {
  const authority = yield* makeAuthority()
  const client = yield* authority.client({ commonName: "orders" })
  return {
    ca: authority.ca,
    first: yield* authority.server(),
    second: yield* authority.server(),
    client,
    noneRevoked: yield* authority.revoke(),
    clientRevoked: yield* authority.revoke(client)
  }
})))

const renewed = "New TLS options are in use"
const notRenewed = "The TLS options could not be renewed, and the last good ones stay in use: "

/** Dials, and tells the server's certificate; its connection is over with the Scope. */
const dial = Effect.fnUntraced(function*(listener: Listener.Listener<unknown>) {
  const { ca, client } = yield* setUp
  const socket = yield* Endpoint.mtls(
    { ca, servername: "localhost", ...client },
    yield* Endpoint.parse(listener.address)
  )
    .dial
  assert(socket instanceof tls.TLSSocket)
  return { socket, fingerprint: socket.getPeerCertificate().fingerprint256 }
})

const fingerprintOf = (identity: Identity) => new X509Certificate(identity.cert).fingerprint256

describe("Listener.mtls, whose options are an Effect,", () => {
  /** A listener whose options are those of `state` at the time, and what it has logged. */
  const listen = Effect.fnUntraced(function*(options?: Listener.MtlsOptions) {
    const { ca, first } = yield* setUp
    const state: { runs: number; tls: Effect.Effect<tls.TlsOptions, Listener.ListenerError> } = {
      runs: 0,
      tls: Effect.succeed({ ca, ...first })
    }
    const listener = yield* Listener.mtls(
      Effect.suspend(() => {
        state.runs++
        return state.tls
      }),
      yield* Listener.tcp("127.0.0.1:0", handlers),
      options
    )
    return { listener, state }
  })

  it.effect("runs it again every minute", () =>
    Effect.gen(function*() {
      const { state } = yield* listen()
      assert.strictEqual(state.runs, 1)
      yield* TestClock.adjust("59 seconds")
      assert.strictEqual(state.runs, 1)
      yield* TestClock.adjust("1 second")
      assert.strictEqual(state.runs, 2)
      yield* TestClock.adjust("10 minutes")
      assert.strictEqual(state.runs, 12)
    }))

  it.effect("runs it at the configured interval, and with Infinity only once", () =>
    Effect.gen(function*() {
      const often = yield* listen({ reload: "2 seconds" })
      const once = yield* listen({ reload: Infinity })
      yield* TestClock.adjust("1 hour")
      assert.strictEqual(often.state.runs, 1 + 60 * 60 / 2)
      assert.strictEqual(once.state.runs, 1)
    }))

  it.effect("no longer runs it when it has closed", () =>
    Effect.gen(function*() {
      const { listener, state } = yield* listen()
      yield* listener.close
      yield* TestClock.adjust("10 minutes")
      assert.strictEqual(state.runs, 1)
    }))

  it.effect("uses its last options for new handshakes, and keeps existing connections", () => {
    const log = makeLog()
    return Effect.gen(function*() {
      const { ca, first, second } = yield* setUp
      const { listener, state } = yield* listen()
      const before = yield* dial(listener)
      const { connection } = yield* listener.accept
      state.tls = Effect.succeed({ ca, ...second })
      assert.strictEqual((yield* dial(listener)).fingerprint, fingerprintOf(first))
      yield* TestClock.adjust("1 minute")
      assert.deepStrictEqual(log.lines.map(({ annotations, level, message }) => [level, message, annotations]), [
        ["Debug", renewed, { listener: listener.address }]
      ])
      assert.strictEqual((yield* dial(listener)).fingerprint, fingerprintOf(second))
      yield* exchange(before.socket, connection)
    }).pipe(Effect.provide(log.layer), Effect.provideService(References.MinimumLogLevel, "Debug"))
  })

  it.effect("finds what has changed in an object that it has seen before", () =>
    Effect.gen(function*() {
      const { ca, first, second } = yield* setUp
      const { listener, state } = yield* listen()
      const options = { ca, ...first }
      state.tls = Effect.succeed(options)
      yield* TestClock.adjust("1 minute")
      for (const identity of [second, first]) {
        Object.assign(options, identity)
        yield* TestClock.adjust("1 minute")
        assert.strictEqual((yield* dial(listener)).fingerprint, fingerprintOf(identity))
      }
    }))

  it.effect("finds what has changed in a list that it has seen before", () => {
    const log = makeLog()
    return Effect.gen(function*() {
      const { ca, clientRevoked, first, noneRevoked } = yield* setUp
      const crl = [noneRevoked]
      const { listener, state } = yield* listen()
      state.tls = Effect.succeed({ ca, ...first, crl })
      yield* TestClock.adjust("1 minute")
      crl[0] = clientRevoked
      yield* TestClock.adjust("1 minute")
      assert.deepStrictEqual(log.lines.map(({ message }) => message), [renewed, renewed])
      const { socket } = yield* dial(listener)
      socket.resume()
      yield* closed(socket)
    }).pipe(Effect.provide(log.layer), Effect.provideService(References.MinimumLogLevel, "Debug"))
  })

  it.effect("keeps its TLS context where it gives the same options again", () => {
    const log = makeLog()
    return Effect.gen(function*() {
      const { ca, first } = yield* setUp
      const { state } = yield* listen()
      state.tls = Effect.sync(() => ({ ca, ...first }))
      yield* TestClock.adjust("10 minutes")
      assert.strictEqual(state.runs, 11)
      assert.deepStrictEqual(log.lines, [])
    }).pipe(Effect.provide(log.layer), Effect.provideService(References.MinimumLogLevel, "Debug"))
  })

  it.effect("keeps the last valid options where it fails or gives invalid ones, and logs that once in a row", () => {
    const log = makeLog()
    return Effect.gen(function*() {
      const { ca, first, second } = yield* setUp
      const { listener, state } = yield* listen()
      const unusable: ReadonlyArray<readonly [typeof state.tls, RegExp]> = [
        [Effect.fail(new Listener.ListenerError({ message: "cannot read ca.pem" })), /^cannot read ca\.pem$/],
        [Effect.die(new Error("a bug")), /^a bug$/],
        // The certificate has been replaced, and its key not yet.
        [Effect.succeed({ ca, cert: second.cert, key: first.key }), /key values mismatch/],
        // They are just being written.
        [Effect.succeed({ ca: "", ...second }), /^ca is empty$/],
        [Effect.succeed({ ca, crl: "", ...second }), /^crl is empty$/],
        [Effect.succeed({ ca: ca.slice(0, 300), ...second }), /^there is no certificate in ca/],
        [Effect.succeed({ ca, cert: second.cert.slice(0, 300), key: second.key }), /error:|end of file|base64/],
        [Effect.succeed({ ca }), /^the server has no certificate/],
        [Effect.succeed({ ca, ...second, minVersion: "TLSv1.1" }), /^minVersion is "TLSv1\.1"/]
      ]
      for (const [tls, reason] of unusable) {
        log.lines.length = 0
        state.tls = tls
        yield* TestClock.adjust("3 minutes")
        const [line, ...more] = log.lines
        assert.deepStrictEqual(more, [])
        assert(line !== undefined && line.message.startsWith(notRenewed), line?.message)
        assert.strictEqual(line.level, "Warn")
        assert.strictEqual(line.annotations.listener, listener.address)
        assert.match(line.message.slice(notRenewed.length), reason)
        assert.strictEqual((yield* dial(listener)).fingerprint, fingerprintOf(first))
        state.tls = Effect.succeed({ ca, ...first })
        yield* TestClock.adjust("1 minute")
      }
      state.tls = Effect.succeed({ ca, ...second })
      yield* TestClock.adjust("1 minute")
      assert.strictEqual((yield* dial(listener)).fingerprint, fingerprintOf(second))
    }).pipe(Effect.provide(log.layer))
  })

  it.effect("does not read options again that are not an Effect", () =>
    Effect.gen(function*() {
      const { ca, first, second } = yield* setUp
      const options = { ca, ...first }
      const listener = yield* Listener.mtls(options, yield* Listener.tcp("127.0.0.1:0", handlers), {
        reload: "1 second"
      })
      Object.assign(options, second)
      yield* TestClock.adjust("1 minute")
      assert.strictEqual((yield* dial(listener)).fingerprint, fingerprintOf(first))
    }))

  it.effect("fails where the first ones cannot be used", () =>
    Effect.gen(function*() {
      const { ca, first, second } = yield* setUp
      const inner = yield* Listener.tcp("127.0.0.1:0", handlers)
      const message = (tls: tls.TlsOptions) => failure(Listener.mtls(Effect.succeed(tls), inner))
      assert.match(yield* message({ ca, cert: first.cert, key: second.key }), /^cannot listen on .*key values mismatch/)
      assert.include(yield* message({ ca: "", ...first }), "ca is empty")
      assert.include(yield* message({ ca: [], ...first }), "there is no certificate in ca, or in a part of it")
      assert.include(yield* message({ ca: [ca, first.key], ...first }), "there is no certificate in ca")
    }))

  it.effect.each([{ reload: 0 }, { reload: -1 }, { reload: NaN }, { handshakeTimeout: 0 }, { handshakeTimeout: -1 }])(
    "refuses an option that makes no sense: %o",
    (options) =>
      Effect.gen(function*() {
        const exit = yield* Effect.exit(listen(options))
        const defect = Exit.isFailure(exit) ? Cause.squash(exit.cause) : undefined
        assert.instanceOf(defect, RangeError)
        assert.match(defect.message, new RegExp(`^option ${Object.keys(options)[0]}: expected a duration of `))
      })
  )
})

describe("Listener.mtls, with files that are replaced,", () => {
  const get = MethodKey.make("test/Stock", "get")
  const stock = HandlerMap.set(HandlerMap.empty, "test/Stock", "get", (args) => Effect.succeed(args))

  /** Serves with the certificates in files, which are read again all the time. */
  const serve = Effect.fnUntraced(function*() {
    const { ca, first, noneRevoked } = yield* setUp
    const directory = yield* temporaryDirectory
    const put = (name: string, text: string) => Effect.promise(() => writeFile(join(directory, name), text))
    const read = (name: string) =>
      Effect.tryPromise({
        try: () => readFile(join(directory, name), "utf8"),
        catch: (cause) => new Listener.ListenerError({ message: `cannot read ${name}`, cause })
      })
    yield* put("ca.pem", ca)
    yield* put("server.pem", first.cert)
    yield* put("server-key.pem", first.key)
    yield* put("crl.pem", noneRevoked)
    const listener = yield* Listener.mtls(
      Effect.all({ ca: read("ca.pem"), cert: read("server.pem"), key: read("server-key.pem"), crl: read("crl.pem") }),
      yield* Listener.tcp("127.0.0.1:0", stock),
      { reload: "5 millis" }
    )
    yield* Effect.forkScoped(Server.serve(listener, { shutdownGrace: 0 }))
    return { listener, put }
  })

  const connect = Effect.fnUntraced(function*(listener: Listener.Listener<unknown>) {
    const { ca, client } = yield* setUp
    const endpoint = Endpoint.mtls(
      { ca, servername: "localhost", ...client },
      yield* Endpoint.parse(listener.address)
    )
    return yield* Connection.make(Resolver.constant(endpoint))
  })

  /** Waits until such a line has been logged. */
  const logged = (log: ReturnType<typeof makeLog>, text: string): Effect.Effect<void> =>
    Effect.suspend(() =>
      log.lines.some(({ message }) => message.startsWith(text))
        ? Effect.void
        : Effect.andThen(log.until(log.lines.length + 1), logged(log, text))
    )

  it.live("goes over to a new certificate while calls go on, of which none fails", () => {
    const log = makeLog()
    return Effect.gen(function*() {
      const { first, second } = yield* setUp
      const { listener, put } = yield* serve()
      const calls = { old: 0, new: 0 }
      const call = (connection: Connection.Connection) => connection.call(get, new Uint8Array([1]))
      const old = yield* connect(listener)
      const overOld = call(old).pipe(Effect.andThen(Effect.sync(() => calls.old++)), Effect.forever)
      const overNew = connect(listener).pipe(
        Effect.flatMap(call),
        Effect.scoped,
        Effect.andThen(Effect.sync(() => calls.new++)),
        Effect.forever
      )
      const calling = yield* Effect.forkChild(Effect.raceFirst(overOld, overNew))
      /** Waits for some more calls, over the connection that there was at first and over new ones. */
      const someMore = Effect.gen(function*() {
        const before = { ...calls }
        while (calls.old < before.old + 10 || calls.new < before.new + 3) {
          yield* call(old)
          assert.isUndefined(calling.pollUnsafe(), "a call has failed")
        }
      })
      yield* someMore
      assert.strictEqual((yield* dial(listener)).fingerprint, fingerprintOf(first))
      // Until both are there, they do not match.
      yield* put("server.pem", second.cert)
      yield* logged(log, notRenewed)
      yield* someMore
      assert.strictEqual((yield* dial(listener)).fingerprint, fingerprintOf(first))
      yield* put("server-key.pem", second.key)
      yield* logged(log, renewed)
      yield* someMore
      assert.strictEqual((yield* dial(listener)).fingerprint, fingerprintOf(second))
      yield* Fiber.interrupt(calling)
    }).pipe(Effect.scoped, Effect.provide(log.layer), Effect.provideService(References.MinimumLogLevel, "Debug"))
  })

  it.live("refuses a client at its next connection that was revoked after its first", () => {
    const log = makeLog()
    return Effect.gen(function*() {
      const { clientRevoked } = yield* setUp
      const { listener, put } = yield* serve()
      const connection = yield* connect(listener)
      yield* connection.call(get, new Uint8Array())
      yield* put("crl.pem", clientRevoked)
      yield* logged(log, renewed)
      const { socket } = yield* dial(listener)
      socket.resume()
      yield* closed(socket)
      yield* logged(log, "TLS handshake failed: the client's certificate was refused: CERT_REVOKED")
      // What is there goes on.
      yield* connection.call(get, new Uint8Array())
    }).pipe(Effect.scoped, Effect.provide(log.layer), Effect.provideService(References.MinimumLogLevel, "Debug"))
  })
})
