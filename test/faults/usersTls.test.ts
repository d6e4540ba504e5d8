/**
 * Options of TLS that are not as they should be, and callbacks in them that go wrong: the handshake fails, and the next
 * one, with good ones, succeeds. Node calls such callbacks out of the event loop, where what they throw would end the
 * process.
 */
import { describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { Connection, Endpoint, Listener, Resolver, Server } from "effect-call"
import { TestNetwork } from "effect-call/testing"
import * as assert from "node:assert/strict"
import { Socket } from "node:net"
import type { Duplex } from "node:stream"
import type { ConnectionOptions } from "node:tls"
import { untilState } from "../Connection/support.ts"
import { bytesOf, certificates, echo, handlers, textOf } from "../support/networks.ts"
import {
  dies,
  makeReadableLog,
  never,
  passing,
  succeedsWrong,
  throws,
  unreadable,
  wrongAtFirst
} from "./misbehaving.ts"

/** A dial that ends by itself may take as long as it takes. */
const options = { dialTimeout: "1 hour", backoff: { initial: 1, max: 1 } } as const
/** The reason of one that never does. */
const tooLate = /within 300ms/
const optionsFor = (reason: RegExp) => reason === tooLate ? { ...options, dialTimeout: "300 millis" } as const : options

/** Serves with mTLS, over TCP. */
const serve = Effect.gen(function*() {
  const { ca, client, server } = yield* certificates
  const listener = yield* Listener.mtls({ ca, ...server }, yield* Listener.tcp("127.0.0.1:0", handlers))
  yield* Effect.forkScoped(Server.serve(listener, { shutdownGrace: 0 }))
  const tls: ConnectionOptions = { ca, ...client, servername: "localhost" }
  return { endpoint: yield* Endpoint.parse(listener.address), tls }
})

/**
 * The first dial fails for this reason, and not as a defect; the second, with good options, succeeds, even without a
 * caller.
 */
const failsOnce = Effect.fnUntraced(function*(
  reason: RegExp,
  wrong: (tls: ConnectionOptions) => Effect.Effect<ConnectionOptions, Endpoint.DialError>
) {
  const { endpoint, tls } = yield* serve
  for (const eager of [false, true]) {
    const log = makeReadableLog()
    const next = wrongAtFirst(() => wrong(tls), () => Effect.succeed(tls))
    const connection = yield* Connection.make(
      Resolver.constant(Endpoint.mtls(Effect.suspend(next), endpoint)),
      { ...optionsFor(reason), eager }
    ).pipe(Effect.provide(log.layer))
    if (!eager) {
      const error = yield* Effect.flip(connection.call(echo, bytesOf("lost")))
      assert.ok(error._tag === "Unreachable", error._tag)
      assert.match(error.message, reason)
    }
    yield* log.until(1)
    assert.match(String(log.lines[0]!.annotations["reason"]), reason)
    if (eager) yield* untilState(connection, ({ endpoints }) => endpoints[0]!.state === "Active")
    assert.equal(textOf(yield* connection.call(echo, bytesOf("good"), { waitForReady: true })), "good")
  }
})

/** Options with what their types do not allow. */
const having = (wrong: object) => (tls: ConnectionOptions) => Effect.succeed({ ...tls, ...wrong })

const throwing = (error: unknown) => () => {
  throw error
}

/** An object that has a getter which throws. */
const throwingAt = (name: string) => (tls: ConnectionOptions) =>
  Effect.succeed(Object.defineProperty({ ...tls }, name, { get: throws, enumerable: true }))

const rows: ReadonlyArray<readonly [what: string, reason: RegExp, wrong: Parameters<typeof failsOnce>[1]]> = [
  ["checkServerIdentity that throws", /boom/, having({ checkServerIdentity: throws })],
  [
    "checkServerIdentity that throws what is no error",
    /not this one$/,
    having({ checkServerIdentity: throwing("not this one") })
  ],
  [
    "checkServerIdentity that throws what cannot be read",
    /could not be read/,
    having({ checkServerIdentity: throwing(unreadable()) })
  ],
  ["checkServerIdentity that gives an Error", /boom$/, having({ checkServerIdentity: () => new Error("boom") })],
  [
    "checkServerIdentity that gives an Error whose code throws",
    /boom$/,
    having({ checkServerIdentity: () => Object.defineProperty(new Error("boom"), "code", { get: throws }) })
  ],
  [
    "checkServerIdentity that gives false",
    /checkServerIdentity: expected an Error or undefined, got false/,
    having({ checkServerIdentity: () => false })
  ],
  [
    "checkServerIdentity that gives true",
    /checkServerIdentity: expected an Error or undefined, got true/,
    having({ checkServerIdentity: () => true })
  ],
  [
    "checkServerIdentity that gives a promise, which is rejected",
    /checkServerIdentity: expected an Error or undefined/,
    having({ checkServerIdentity: () => Promise.reject(new Error("boom")) })
  ],
  [
    "checkServerIdentity that is a text",
    /checkServerIdentity: expected a function, got "yes"/,
    having({ checkServerIdentity: "yes" })
  ],
  [
    "a pskCallback",
    /pskCallback is set: expected no such option, since mtls checks certificates/,
    having({ pskCallback: throws })
  ],
  ["a secureContext that is empty", /context must be a SecureContext/, having({ secureContext: {} })],
  ["a secureContext without one", /context must be a SecureContext/, having({ secureContext: { context: {} } })],
  ["a servername that is a number", /servername: expected a name, got 5/, having({ servername: 5 })],
  ["ALPNProtocols that are numbers", /must be of type string/, having({ ALPNProtocols: [5] })],
  ["a signal that is none", /AbortSignal/, having({ signal: "now" })],
  ["a signal that has fired", /aborted/, having({ signal: AbortSignal.abort() })],
  ["a cert that is a number", /type number|must be|invalid/i, having({ cert: 5 })],
  ["a minVersion that is a number", /minVersion is 1/, having({ minVersion: 1 })],
  ["a cert that throws", /the options of tls.connect cannot be read: boom/, throwingAt("cert")],
  ["a checkServerIdentity that is a getter that throws", /cannot be read: boom/, throwingAt("checkServerIdentity")],
  ["an unknown option that throws", /cannot be read: boom/, throwingAt("colour")],
  ...dies.filter(({ how }) => !how.includes("gives a promise")).map(({ give, how }) =>
    [
      `an Effect of them that ${how}`,
      /boom|Not a valid effect|could not be read|was interrupted/,
      (): Effect.Effect<never> => Effect.suspend(give)
    ] as const
  ),
  ...succeedsWrong.filter(({ how }) => !/object|promise/.test(how)).map(({ give, how }) =>
    [`an Effect of them that ${how}`, /expected the options of tls.connect, got/, give] as const
  ),
  ["an Effect of them that succeeds with an empty object", /has no certificate/, () => Effect.succeed({})],
  ["an Effect of them that is never done", tooLate, () => never.give()]
]

describe("a handshake with", () => {
  for (const [what, reason, wrong] of rows) {
    it.live(`${what} fails, and the next one succeeds`, () => failsOnce(reason, wrong))
  }

  const harmless: ReadonlyArray<readonly [what: string, wrong: object]> = [
    ["a checkServerIdentity that gives nothing", { checkServerIdentity: () => {} }],
    ["a checkServerIdentity that gives null", { checkServerIdentity: () => null }],
    ["a checkServerIdentity that is undefined", { checkServerIdentity: undefined }],
    ["a lookup that throws", { lookup: throws }],
    ["an SNICallback that throws", { SNICallback: throws }],
    ["an ALPNCallback that throws", { ALPNCallback: throws }],
    ["an onread whose callback throws", { onread: { buffer: new Uint8Array(1000), callback: throws } }]
  ]
  for (const [what, wrong] of harmless) {
    it.live(`${what} succeeds: it is not called, or has no objection`, () =>
      Effect.gen(function*() {
        const { endpoint, tls } = yield* serve
        const connection = yield* Connection.make(
          Resolver.constant(Endpoint.mtls({ ...tls, ...wrong }, endpoint)),
          options
        )
        assert.equal(textOf(yield* connection.call(echo, bytesOf("good"))), "good")
      }))
  }

  it.live("options that are no object at all says so, and does not show them: they may be a key", () =>
    Effect.gen(function*() {
      const { endpoint } = yield* serve
      for (const wrong of ["-----BEGIN PRIVATE KEY-----", undefined, null, () => ({})]) {
        const error = yield* Effect.flip(Endpoint.mtls(wrong as never, endpoint).dial)
        assert.match(error.message, /expected the options of tls.connect, got/)
        assert.doesNotMatch(error.message, /PRIVATE/)
      }
    }))
})

describe("mTLS over a Duplex of a user's own", () => {
  const onNetwork = Effect.provide(TestNetwork.layer)

  const rows: ReadonlyArray<readonly [what: string, reason: RegExp, spoil: (duplex: Duplex) => unknown]> = [
    ...(["write", "resume"] as const).map((name) =>
      [`whose ${name} throws`, /boom/, (duplex: Duplex) => Object.assign(duplex, { [name]: throws })] as const
    ),
    ["whose _write throws", /boom/, (duplex) => Object.assign(duplex, { _write: throws, _writev: throws })],
    [
      "that calls back twice",
      /Callback called multiple times/,
      (duplex) =>
        Object.assign(duplex, {
          _write: (_chunk: unknown, _encoding: unknown, done: () => void) => {
            done()
            done()
          }
        })
    ],
    ["that never calls back", tooLate, (duplex) => Object.assign(duplex, { _write: () => {} })],
    ["that reads texts", /expected bytes from the Duplex/, (duplex) => duplex.setEncoding("utf8")],
    ["that emits an object", /expected bytes from the Duplex/, (duplex) => setImmediate(() => duplex.emit("data", {}))],
    ["that emits an error that is none", /boom/, (duplex) => setImmediate(() => duplex.emit("error", "boom"))],
    ["whose on throws", /boom/, (duplex) => Object.assign(duplex, { on: throws })],
    ["that lacks a method", /expected a Duplex, got/, (duplex) => Object.assign(duplex, { cork: undefined })]
  ]
  for (const [what, reason, spoil] of rows) {
    it.live(`${what} fails its handshake, and the next one succeeds`, () =>
      Effect.gen(function*() {
        const { ca, client, server } = yield* certificates
        const listener = yield* Listener.mtls({ ca, ...server }, yield* TestNetwork.listener("a", handlers))
        yield* Effect.forkScoped(Server.serve(listener, { shutdownGrace: 0 }))
        const inner = yield* TestNetwork.endpoint("a")
        const next = wrongAtFirst(() => spoil, () => () => {})
        const dial = Effect.map(inner.dial, (below) => {
          const duplex = passing(below)
          next()(duplex)
          return duplex
        })
        const endpoint = Endpoint.mtls({ ca, ...client, servername: "localhost" }, { address: "user://a", dial })
        const connection = yield* Connection.make(Resolver.constant(endpoint), optionsFor(reason))
        const error = yield* Effect.flip(connection.call(echo, bytesOf("lost")))
        assert.ok(error._tag === "Unreachable", error._tag)
        assert.match(error.message, reason)
        assert.equal(textOf(yield* connection.call(echo, bytesOf("good"), { waitForReady: true })), "good")
      }).pipe(onNetwork))
  }

  it.live("that is a net.Socket without a handle, and throws, fails its handshake", () =>
    Effect.gen(function*() {
      const { ca, client } = yield* certificates
      const dial = Effect.sync(() => Object.assign(new Socket(), { resume: throws }))
      const tls = { ca, ...client, servername: "localhost" }
      const connection = yield* Connection.make(
        Resolver.constant(Endpoint.mtls(tls, { address: "user://a", dial })),
        options
      )
      assert.match((yield* Effect.flip(connection.call(echo, bytesOf("lost")))).message, /boom/)
    }))

  for (const name of ["write", "end", "destroy", "pause", "resume", "cork"] as const) {
    it.live(`whose ${name} throws later costs that connection at most, and the Connection closes`, () =>
      Effect.gen(function*() {
        const { ca, client, server } = yield* certificates
        const listener = yield* Listener.mtls({ ca, ...server }, yield* TestNetwork.listener("a", handlers))
        yield* Effect.forkScoped(Server.serve(listener, { shutdownGrace: 0 }))
        const inner = yield* TestNetwork.endpoint("a")
        const duplexes: Array<Duplex> = []
        const dial = Effect.map(inner.dial, (below) => {
          duplexes.push(passing(below))
          return duplexes.at(-1)!
        })
        const endpoint = Endpoint.mtls({ ca, ...client, servername: "localhost" }, { address: "user://a", dial })
        const connection = yield* Connection.make(Resolver.constant(endpoint), options)
        const large = new Uint8Array(300_000)
        assert.equal((yield* connection.call(echo, large)).length, large.length)
        Object.assign(duplexes[0]!, { [name]: throws })
        const exit = yield* Effect.exit(connection.call(echo, large, { timeout: "5 seconds" }))
        if (exit._tag === "Failure") assert.match(String(exit), /connection was lost: .*boom/)
        // Some of them are called only where the machine is busy: then it is this call that the connection is lost
        // under.
        const again = Effect.retry(connection.call(echo, large, { waitForReady: true }), { times: 1 })
        assert.equal((yield* again).length, large.length)
        yield* connection.close
      }).pipe(onNetwork))
  }
})
