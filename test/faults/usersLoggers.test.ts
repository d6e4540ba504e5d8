/** A user's loggers on both sides, and how they misbehave: calls end as they would without them. */
import { describe, it } from "@effect/vitest"
import { Effect, Exit, Fiber, Logger, References, Stream, SubscriptionRef } from "effect"
import { Connection, Endpoint, Listener, Resolver, Server } from "effect-call"
import * as assert from "node:assert/strict"
import { bytesOf, certificates, connect, echo, handlers, tcp } from "../support/networks.ts"
import { die, dying, ends, type Reach, served } from "./ambientSupport.ts"
import { boom, hostile, isDeath, rejected, throwing, unharmed, works, wrong } from "./usersCode.ts"

/** Everything that is logged, with a logger and nothing else. */
const withLogger = (log: (options: Logger.Options<unknown>) => unknown) => <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  effect.pipe(
    Effect.provideService(Logger.CurrentLoggers, new Set([Logger.make(log)])),
    Effect.provideService(References.MinimumLogLevel, "All")
  )

/** Dials, calls, dies, loses connections and endpoints, and closes: all that a Connection and its servers log of. */
const life = Effect.fnUntraced(function*(reach: Reach) {
  const one = yield* served(reach, dying)
  const two = yield* served(reach, dying)
  const all = [one.endpoint, two.endpoint]
  const endpoints = yield* SubscriptionRef.make<ReadonlyArray<Endpoint.Endpoint>>([one.endpoint])
  const connection = yield* Effect.orDie(
    Connection.make(Resolver.fromSubscriptionRef(endpoints), { backoff: { initial: 1 }, health: "" })
  )
  Object.assign(reach, { connection, endpoints, all })
  yield* ends(connection.call(echo, bytesOf("one")))
  yield* ends(connection.call(die, bytesOf("one")))
  yield* SubscriptionRef.set(endpoints, all)
  yield* Effect.forEach([1, 2, 3, 4], () => ends(connection.call(echo, bytesOf("two"))), { concurrency: "unbounded" })
  yield* Fiber.interrupt(one.serving)
  yield* ends(connection.call(echo, bytesOf("three")))
  yield* SubscriptionRef.set(endpoints, [two.endpoint])
  yield* ends(connection.call(echo, bytesOf("four")))
  yield* Fiber.interrupt(two.serving)
  yield* ends(connection.call(echo, bytesOf("five")))
  yield* connection.close
  const closed = yield* ends(connection.call(echo, bytesOf("six")))
  assert.ok(Exit.isFailure(closed))
})

describe("a logger that", () => {
  const loggers: Readonly<Record<string, (options: Logger.Options<unknown>) => unknown>> = {
    "throws": boom,
    "throws what is hostile": throwing(hostile),
    "throws nothing": throwing(undefined),
    "is async, and throws": rejected,
    "gives what is hostile": () => hostile,
    "logs itself": ({ fiber }) =>
      Effect.runForkWith(fiber.context)(
        Effect.provideService(Effect.log("more"), Logger.CurrentLoggers, new Set([Logger.make(boom)]))
      )
  }

  for (const [name, logger] of Object.entries(loggers)) {
    it.live(`${name}: nothing else is harmed in the life of a Connection and its servers`, () =>
      unharmed(withLogger(logger)(Effect.scoped(life({ servers: [] })))))

    it.live(`${name}: other loggers have their lines`, () => {
      const lines: Array<string> = []
      return unharmed(
        Effect.scoped(Effect.gen(function*() {
          const { endpoint } = yield* tcp.serve(dying)
          const connection = yield* connect([endpoint])
          isDeath(yield* Effect.flip(connection.call(die, bytesOf(""))))
          yield* works(connection)
          assert.ok(lines.includes("a handler died"), lines.join(", "))
        })).pipe(
          Effect.provideService(
            Logger.CurrentLoggers,
            new Set([Logger.make(logger), Logger.make(({ message }) => void lines.push(String(message)))])
          )
        )
      )
    })

    it.live(`${name}: handlers that cannot be picked cost one connection`, () =>
      unharmed(
        withLogger(logger)(Effect.scoped(Effect.gen(function*() {
          let first = true
          const { endpoint } = yield* tcp.serve(() => {
            if (!first) return handlers
            first = false
            return boom()
          })
          // It is closed before its version message: a dial that is made once more.
          const connection = yield* connect([endpoint])
          yield* connection.call(echo, bytesOf(""))
          yield* works(connection)
        })))
      ))

    it.live(`${name}: a resolver that fails is asked again, and its endpoints are taken over`, () =>
      unharmed(
        withLogger(logger)(Effect.scoped(Effect.gen(function*() {
          const { endpoint } = yield* tcp.serve(handlers)
          let asked = 0
          const resolver: Resolver.Resolver = {
            isConstant: false,
            resolve: () =>
              Effect.suspend(() => {
                asked++
                if (asked === 1) return Effect.succeed({ endpoints: [], version: wrong("0") })
                if (asked < 4) return Effect.fail(new Resolver.ResolverError({ message: "boom" }))
                return asked === 4 ? Effect.succeed({ endpoints: [endpoint], version: wrong("1") }) : Effect.never
              })
          }
          const connection = yield* Effect.orDie(Connection.make(resolver))
          yield* connection.call(echo, bytesOf(""), { waitForReady: true })
          yield* works(connection)
        })))
      ))

    it.live(`${name}: TLS options that cannot be renewed are asked for again, and a handshake that fails costs itself`, () =>
      unharmed(
        withLogger(logger)(Effect.scoped(Effect.gen(function*() {
          const { ca, client, server } = yield* certificates
          let asked = 0
          const times = yield* SubscriptionRef.make(0)
          const tls = Effect.gen(function*() {
            asked++
            yield* SubscriptionRef.set(times, asked)
            return asked === 2 ? yield* new Listener.ListenerError({ message: "boom" }) : { ca, ...server }
          })
          const below = yield* Listener.tcp("127.0.0.1:0", handlers)
          const listener = yield* Listener.mtls(tls, below, { reload: "1 millis" })
          yield* Effect.forkScoped(Server.serve(listener, { shutdownGrace: 0 }))
          const dialed = yield* Endpoint.parse(below.address)
          // Without TLS, the client's first bytes are no handshake.
          const wrongly = yield* connect([dialed])
          assert.equal((yield* Effect.flip(wrongly.call(echo, bytesOf(""))))._tag, "Unreachable")
          yield* Stream.runHead(Stream.filter(SubscriptionRef.changes(times), (n) => n >= 4))
          yield* works(yield* connect([Endpoint.mtls({ ca, ...client, servername: "localhost" }, dialed)]))
        })))
      ))
  }

  const acts: Readonly<Record<string, (reach: Reach) => Effect.Effect<unknown, unknown> | undefined>> = {
    "closes the Connection": ({ connection }) => connection?.close,
    "calls": ({ connection }) => connection?.call(echo, bytesOf("of a logger")),
    "stops a server": ({ servers: [first] }) => first === undefined ? undefined : Fiber.interrupt(first),
    "stops all servers": ({ servers }) => Effect.forEach(servers, Fiber.interrupt, { concurrency: "unbounded" }),
    "takes away all endpoints": ({ endpoints }) =>
      endpoints === undefined ? undefined : SubscriptionRef.set(endpoints, []),
    "lists all endpoints": ({ all, endpoints }) =>
      endpoints === undefined || all === undefined ? undefined : SubscriptionRef.set(endpoints, all)
  }
  for (const [name, act] of Object.entries(acts)) {
    it.live(`${name} at any line: every call ends, and nothing is thrown`, () =>
      unharmed(Effect.gen(function*() {
        // At first at none, to know how many there are.
        let lines = 0
        for (let at = -1; at < lines; at++) {
          const reach: Reach = { servers: [] }
          let line = 0
          const log = ({ fiber }: Logger.Options<unknown>) => {
            if (line++ !== at) return
            const effect = act(reach)
            if (effect !== undefined) Effect.runForkWith(fiber.context)(Effect.ignoreCause(effect))
          }
          yield* withLogger(log)(Effect.scoped(life(reach)))
          if (at === -1) lines = line
          assert.ok(lines > 15, `${lines} lines`)
        }
      })))
  }
})
