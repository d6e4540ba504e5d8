/**
 * TLS options and callbacks of servers that are not what their types say: the place × how it misbehaves → what is
 * harmed, which is one handshake at most.
 */
import { describe, it } from "@effect/vitest"
import { Effect, Exit, Fiber, Queue } from "effect"
import { Deadline, Endpoint, Listener, Server } from "effect-call"
import * as assert from "node:assert/strict"
import { Socket } from "node:net"
import { type Duplex, duplexPair } from "node:stream"
import type { ConnectionOptions, TlsOptions } from "node:tls"
import { bytesOf, certificates, connect, echo, handlers } from "../support/networks.ts"
import { areOf, boom, errorsIn, hostile, inLog, rejected, throwing, works, wrong } from "./usersCode.ts"
import { own } from "./usersListenersSupport.ts"

/** A listener and a client with mTLS, where the server's TLS has these options besides. */
const secured = Effect.fnUntraced(function*(
  more: TlsOptions,
  client: ConnectionOptions = {},
  options?: Listener.MtlsOptions
) {
  const { ca, client: own, server } = yield* certificates
  const below = yield* Listener.tcp("127.0.0.1:0", handlers)
  const listener = yield* Listener.mtls({ ca, ...server, ...more }, below, options)
  yield* Effect.forkScoped(Server.serve(listener, { shutdownGrace: 0 }))
  const tls = { ca, ...own, servername: "localhost" }
  const dialed = yield* Endpoint.parse(below.address)
  return {
    misused: Endpoint.mtls({ ...tls, ...client }, dialed),
    fine: Endpoint.mtls({
      ...tls,
      maxVersion: more.maxVersion,
      servername: "good.localhost",
      checkServerIdentity: () => undefined
    }, dialed)
  }
})

describe("a callback of a server's TLS: it costs one handshake, and not the next one", () => {
  type Sni = (servername: string, callback: (error: Error | null, context?: unknown) => void) => void
  /** The names that the good client does not ask for are answered so. */
  const sni = (misbehave: Sni): TlsOptions => ({
    SNICallback: wrong<NonNullable<TlsOptions["SNICallback"]>>(
      (...[servername, callback]: Parameters<Sni>) =>
        servername === "localhost" ? misbehave(servername, callback) : callback(null)
    )
  })
  /** Keys that both sides share are of TLS 1.2 in Node; certificates go on being good for others. */
  const psk = { maxVersion: "TLSv1.2", ciphers: "PSK:HIGH" } as const
  const asPsk = () => ({ identity: "client", psk: Buffer.from("key") })
  const rows: Readonly<
    Record<string, { readonly server: TlsOptions; readonly client?: ConnectionOptions }>
  > = {
    "an SNICallback that throws": { server: sni(boom) },
    "an SNICallback that is async, and throws": { server: sni(wrong<Sni>(rejected)) },
    "an SNICallback that gives an error": { server: sni((_, callback) => callback(new Error("boom"))) },
    "an SNICallback that gives what is no error": { server: sni((_, callback) => callback(wrong("boom"))) },
    "an SNICallback that gives a text": { server: sni((_, callback) => callback(null, "context")) },
    "an SNICallback that gives an object": { server: sni((_, callback) => callback(null, {})) },
    "an SNICallback that gives an error later": {
      server: sni((_, callback) => setImmediate(callback, new Error("boom")))
    },
    "an SNICallback that calls back twice": {
      server: sni((_, callback) => {
        callback(null)
        callback(null)
      })
    },
    "an SNICallback that calls back again later": {
      server: sni((_, callback) => {
        callback(null)
        setImmediate(callback, null)
      })
    },
    "an SNICallback that never calls back": { server: sni(() => {}) },
    "a pskCallback that throws": { server: { ...psk, pskCallback: boom }, client: { ...psk, pskCallback: asPsk } },
    "a pskCallback that gives a text": {
      server: { ...psk, pskCallback: () => wrong("key") },
      client: { ...psk, pskCallback: asPsk }
    },
    "a pskCallback that is async, and throws": {
      server: { ...psk, pskCallback: () => wrong(rejected()) },
      client: { ...psk, pskCallback: asPsk }
    },
    "an ALPNCallback that throws": { server: { ALPNCallback: boom }, client: { ALPNProtocols: ["call"] } },
    "an ALPNCallback that gives what was not offered": {
      server: { ALPNCallback: () => "other" },
      client: { ALPNProtocols: ["call"] }
    },
    "an ALPNCallback that gives a number": {
      server: { ALPNCallback: () => wrong(7) },
      client: { ALPNProtocols: ["call"] }
    },
    "an ALPNCallback that is async, and throws": {
      server: { ALPNCallback: () => wrong(rejected()) },
      client: { ALPNProtocols: ["call"] }
    }
  }
  for (const [name, { client, server }] of Object.entries(rows)) {
    it.live(name, () =>
      inLog(() =>
        Effect.gen(function*() {
          const { fine, misused } = yield* secured(server, client, { handshakeTimeout: "300 millis" })
          const connection = yield* connect([misused])
          const exit = yield* Effect.exit(connection.call(echo, bytesOf("one")))
          // Node takes what it does not understand for none, and goes on with the server's own.
          if (!/twice|again|a text/.test(name)) assert.ok(Exit.isFailure(exit), "expected that it cannot be dialed")
          yield* works(yield* connect([fine]))
        })
      ))
  }
})

describe("the Effect of a server's TLS options that", () => {
  const effects: Readonly<Record<string, Effect.Effect<unknown>>> = {
    "throws": Effect.sync(boom),
    "dies": Effect.die(new Error("boom")),
    "gives undefined": Effect.void,
    "gives a text": Effect.succeed("options"),
    "gives what is hostile": Effect.succeed(hostile),
    "goes on with no effect": Effect.flatMap(Effect.yieldNow, () => wrong<Effect.Effect<void>>(undefined)),
    "never ends": Effect.never
  }
  for (const [name, effect] of Object.entries(effects)) {
    if (name !== "never ends") {
      it.live(`${name} at first: there is no listener`, () =>
        inLog(() =>
          Effect.gen(function*() {
            const below = yield* Listener.tcp("127.0.0.1:0", handlers)
            const exit = yield* Effect.exit(Listener.mtls(wrong<Effect.Effect<TlsOptions>>(effect), below))
            assert.ok(Exit.isFailure(exit))
          })
        ))
    }

    it.live(`${name} when it is asked again: the last good ones stay in use, and it is asked once more`, () =>
      inLog((log) =>
        Effect.gen(function*() {
          const { ca, client, server } = yield* certificates
          const asked = yield* Queue.unbounded<number>()
          let times = 0
          const tls = Effect.suspend(() => {
            Queue.offerUnsafe(asked, ++times)
            return times === 2 ? wrong<Effect.Effect<TlsOptions>>(effect) : Effect.succeed({ ca, ...server })
          })
          const below = yield* Listener.tcp("127.0.0.1:0", handlers)
          const listener = yield* Listener.mtls(tls, below, { reload: "1 millis" })
          yield* Effect.forkScoped(Server.serve(listener, { shutdownGrace: 0 }))
          // What is asked a third time has outlived the second.
          yield* Queue.takeN(asked, name === "never ends" ? 2 : 3)
          yield* works(
            yield* connect([
              Endpoint.mtls({ ca, ...client, servername: "localhost" }, yield* Endpoint.parse(below.address))
            ])
          )
          if (name !== "never ends") {
            areOf(
              log.lines.filter(({ level }) => level === "Warn").map(({ message }) => message),
              /could not be renewed, and the last good ones stay in use/
            )
          }
        })
      ))
  }

  it.live("is a promise: there is no listener", () =>
    inLog(() =>
      Effect.gen(function*() {
        const below = yield* Listener.tcp("127.0.0.1:0", handlers)
        const error = yield* Effect.flip(Listener.mtls(wrong<TlsOptions>(rejected()), below))
        assert.match(error.message, /there is no ca/)
      })
    ))
})

describe("mTLS over a listener of a user's own", () => {
  it.live("whose accept goes on with what is no effect: it is broken, and says so", () =>
    inLog(() =>
      Effect.gen(function*() {
        const { secure } = yield* over({
          accept: Effect.flatMap(Effect.yieldNow, () => wrong<Effect.Effect<never>>(undefined))
        })
        const error = yield* Effect.flip(secure.accept)
        assert.match(error.message, /the listener on mtls:\/\/pair:\/\/one broke: .*valid effect/)
      })
    ))

  const over = Effect.fnUntraced(function*(with_: object = {}) {
    const { ca, client, server } = yield* certificates
    const { closed, endpoint, listener, offer } = yield* own(with_)
    const secure = yield* Listener.mtls({ ca, ...server }, listener)
    return { secure, closed, offer, endpoint: Endpoint.mtls({ ca, ...client, servername: "localhost" }, endpoint) }
  })

  for (
    const [name, give] of Object.entries<() => unknown>({
      "undefined": () => undefined,
      "no Duplex": () => ({ connection: {}, handlers }),
      "no handlers": () => ({ connection: duplexPair()[0] }),
      "a socket that is none of the system, and throws": () => ({
        connection: Object.assign(new Socket(), { resume: boom }),
        handlers
      })
    })
  ) {
    it.live(`that gives ${name}: the next connection is served`, () =>
      inLog(() =>
        Effect.gen(function*() {
          const { endpoint, offer, secure } = yield* over()
          yield* Effect.forkScoped(Server.serve(secure, { shutdownGrace: 0 }))
          offer(give)
          yield* works(yield* connect([endpoint]))
        })
      ))
  }

  const spoiled: Readonly<Record<string, (connection: Duplex) => unknown>> = {
    ...Object.fromEntries(
      ["write", "_write", "resume", "pause", "end", "destroy", "cork", "on", "off"].map((method) => [
        `whose ${method} throws`,
        (connection: Duplex) => Object.assign(connection, { [method]: boom })
      ])
    ),
    "whose on throws what is hostile": (connection) => Object.assign(connection, { on: throwing(hostile) }),
    "that reads texts": (connection) => connection.setEncoding("utf8"),
    "that emits an object": (connection) => setImmediate(() => connection.emit("data", {})),
    "that emits an error that is none": (connection) => setImmediate(() => connection.emit("error", "boom")),
    "that emits a hostile error": (connection) => setImmediate(() => connection.emit("error", hostile)),
    "that calls back twice": (connection) =>
      Object.assign(connection, {
        _write: (_chunk: unknown, _encoding: unknown, done: () => void) => {
          done()
          done()
        }
      })
  }
  for (const [name, spoil] of Object.entries(spoiled)) {
    for (const when of ["from the beginning", "later"] as const) {
      it.live(`that gives a Duplex ${name}, ${when}: it costs that connection at most`, () =>
        inLog((log) =>
          Effect.gen(function*() {
            const { ca, client, server } = yield* certificates
            const { endpoint, listener, offer } = yield* own()
            const secure = yield* Listener.mtls({ ca, ...server }, listener, { handshakeTimeout: "1 hour" })
            yield* Effect.forkScoped(Server.serve(secure, { shutdownGrace: 0 }))
            const [far, connection] = duplexPair()
            far.on("error", () => {})
            if (when === "from the beginning") spoil(connection)
            offer(() => ({ connection, handlers }))
            const tls = { ca, ...client, servername: "localhost" }
            const dialed = Endpoint.mtls(tls, { address: "pair://spoiled", dial: Effect.succeed(far) })
            // A dial that succeeds may take as long as it takes; one over a spoiled connection may never end.
            const misused = yield* connect([dialed], { dialTimeout: when === "later" ? "1 hour" : "500 millis" })
            const call = misused.call(echo, new Uint8Array(300_000))
            if (when === "later") {
              yield* call
              spoil(connection)
            }
            yield* Effect.exit(Deadline.within(call, "1 second"))
            yield* works(yield* connect([Endpoint.mtls(tls, endpoint)]))
            if (name.startsWith("whose on throws") && when === "from the beginning") {
              areOf(errorsIn(log.lines), /TLS handshake died.*(boom|could not be read)/s)
            }
          })
        ))
    }
  }

  for (
    const [name, close] of Object.entries({ "dies": Effect.die(new Error("boom")), "is no Effect": undefined })
  ) {
    it.live(`whose close ${name}: it ends anyway`, () =>
      inLog(() =>
        Effect.gen(function*() {
          // It dies with the Scope, too.
          yield* Effect.exit(Effect.scoped(Effect.gen(function*() {
            const { endpoint, secure } = yield* over({ close })
            const serving = yield* Effect.forkScoped(Server.serve(secure, { shutdownGrace: 0 }))
            yield* works(yield* connect([endpoint]))
            yield* Fiber.interrupt(serving)
          })))
        })
      ))
  }
})
