/**
 * Dials, TLS handshakes, and Connections that are made and closed, interrupted at every point; and calls that are ended
 * so by something else than their caller.
 */
import { describe } from "@effect/vitest"
import { Effect, Exit, Fiber, Layer, Scope, SubscriptionRef } from "effect"
import { Balancer, Connection, Endpoint, HandlerMap, Resolver } from "effect-call"
import * as assert from "node:assert/strict"
import type { Duplex } from "node:stream"
import { turn, untilState } from "../Connection/support.ts"
import * as Networks from "../support/networks.ts"
import { args, eachPace, turns, work, workers } from "./interrupting.ts"
import { portOf, until } from "./wire.ts"

/** A listener that takes every connection and never says anything. */
const silent = Effect.fnUntraced(function*(network: Networks.Network) {
  const listen = yield* network.place("silent")
  const { endpoint, listener } = yield* listen(HandlerMap.empty)
  yield* listener.accept.pipe(
    Effect.tap(({ connection }) => Effect.sync(() => void connection.resume())),
    Effect.forever,
    Effect.forkScoped
  )
  return endpoint
})

/** A dial in a Scope of its own, which is closed then: one that is interrupted as it ends has left its socket there. */
const dialing = (endpoint: Endpoint.Endpoint) =>
  Effect.map(Scope.make(), (scope) => ({
    run: Scope.provide(endpoint.dial, scope),
    check: Effect.fnUntraced(function*(exit: Exit.Exit<Duplex, unknown>) {
      if (Exit.isSuccess(exit)) assert.equal(exit.value.destroyed, false)
      yield* Scope.close(scope, Exit.void)
      if (Exit.isSuccess(exit)) assert.equal(exit.value.destroyed, true)
    })
  }))

describe("a dial", () => {
  Networks.eachNetwork((network) => {
    // With mTLS up to two seconds, since there are some 150 points, each with a handshake.
    eachPace("is interrupted", 15, { around: silent(network), attempt: dialing })
  })

  eachPace("of a name is interrupted", 20, {
    around: Effect.map(silent(Networks.tcp), ({ address }) => Endpoint.tcp(`localhost:${portOf(address)}`)),
    attempt: dialing
  })

  eachPace("whose certificates take their time is interrupted", 20, {
    around: Effect.gen(function*() {
      const { ca, client } = yield* Networks.certificates
      const { address } = yield* silent(Networks.mtlsOverUnix)
      const certificates = Effect.as(turns, { ca, ...client, servername: "localhost" })
      return Endpoint.mtls(certificates, yield* Effect.orDie(Endpoint.parse(address)))
    }),
    attempt: dialing
  })
})

describe("a Connection that is made", () => {
  const endpoint = Endpoint.tcp("localhost:1")

  /** Makes it in a Scope of its own, which is closed then. */
  const making = (resolver: Resolver.Resolver, stays?: Effect.Effect<unknown>) =>
    Effect.map(Scope.make(), (scope) => ({
      run: Scope.provide(Effect.orDie(Connection.make(resolver)), scope),
      stays,
      check: Effect.fnUntraced(function*(exit: Exit.Exit<Connection.Connection, unknown>) {
        yield* Scope.close(scope, Exit.void)
        if (Exit.isSuccess(exit)) assert.equal((yield* exit.value.state).closed, true)
      })
    }))

  eachPace("is interrupted while the resolver looks for endpoints", 10, {
    around: Effect.void,
    attempt: () => {
      let looking = 0
      const resolver: Resolver.Resolver = {
        isConstant: false,
        resolve: (version) =>
          Effect.acquireUseRelease(
            Effect.sync(() => void looking++),
            () =>
              version === undefined
                ? Effect.as(turns, { endpoints: [endpoint], version: Resolver.version("1") })
                : Effect.never,
            () => Effect.sync(() => void looking--)
          )
      }
      return Effect.map(making(resolver), ({ check, run }) => ({
        run,
        check: (exit: Exit.Exit<Connection.Connection, unknown>) =>
          Effect.map(check(exit), () => assert.equal(looking, 0))
      }))
    }
  })

  eachPace("is interrupted while the resolver hangs", 5, {
    around: Effect.void,
    attempt: () =>
      making(
        { isConstant: false, resolve: () => Effect.andThen(turns, Effect.never) },
        Effect.repeat(turn, { times: 6 })
      )
  })

  eachPace("is interrupted over endpoints that may change", 10, {
    around: Effect.map(
      SubscriptionRef.make<ReadonlyArray<Endpoint.Endpoint>>([endpoint]),
      Resolver.fromSubscriptionRef
    ),
    attempt: making
  })

  eachPace("as a layer is interrupted while it is built, and while it is released", 10, {
    around: Effect.map(
      SubscriptionRef.make<ReadonlyArray<Endpoint.Endpoint>>([endpoint]),
      (endpoints) =>
        Connection.layer({}).pipe(Layer.provide([
          Resolver.layer(Resolver.fromSubscriptionRef(endpoints)),
          Balancer.layer(Balancer.roundRobin)
        ]))
    ),
    attempt: (layer: Layer.Layer<Connection.Connection, unknown>) =>
      Effect.succeed({ run: Effect.scoped(Effect.andThen(Layer.build(layer), turns)) })
  })
})

/** A Connection with a call in flight, another one that waits for a dial, and a resolver that is being watched. */
const busy = Effect.fnUntraced(function*(network: Networks.Network) {
  const { handlers, idle } = workers()
  const { endpoint } = yield* network.serve(handlers)
  return { endpoint, idle, silent: yield* silent(network) }
})

describe("a Connection that is closed", () => {
  const opened = Effect.fnUntraced(
    function*({ endpoint, silent }: { readonly endpoint: Endpoint.Endpoint; readonly silent: Endpoint.Endpoint }) {
      const scope = yield* Scope.make()
      const endpoints = yield* SubscriptionRef.make<ReadonlyArray<Endpoint.Endpoint>>([endpoint, silent])
      const connection = yield* Scope.provide(
        Effect.orDie(Connection.make(Resolver.fromSubscriptionRef(endpoints), { dialTimeout: "1 hour" })),
        scope
      )
      const calls = yield* Effect.replicateEffect(
        Effect.forkScoped(Effect.flip(connection.call(Networks.hang, args)), { startImmediately: true }),
        2
      )
      yield* untilState(
        connection,
        ({ endpoints: [first, second] }) => first!.callsInFlight === 1 && second!.state === "Dialing"
      )
      return { calls, connection, scope }
    }
  )

  /** It is closed, with all that it did, or nothing has happened to it yet. */
  const closedOrNot = Effect.fnUntraced(
    function*({ calls, connection, scope }: Effect.Success<ReturnType<typeof opened>>) {
      const { closed } = yield* connection.state
      if (!closed) {
        assert.deepEqual(calls.map((call) => call.pollUnsafe()), [undefined, undefined])
        yield* connection.close
      }
      // Once more, which must not change anything.
      yield* connection.close
      assert.deepEqual((yield* connection.state).endpoints, [])
      for (const error of yield* Fiber.joinAll(calls)) {
        assert.ok(error._tag === "CommunicationError" && error.reason._tag === "Closed", error.message)
      }
      yield* Scope.close(scope, Exit.void)
    }
  )

  Networks.eachNetwork((network) => {
    eachPace("is interrupted in that, and is closed anyway", 3, {
      around: busy(network),
      attempt: Effect.fnUntraced(function*(around) {
        const made = yield* opened(around)
        return {
          run: made.connection.close,
          check: () => Effect.andThen(closedOrNot(made), around.idle)
        }
      })
    })

    eachPace("with its Scope is interrupted in that, and is closed anyway", 3, {
      around: busy(network),
      attempt: Effect.fnUntraced(function*(around) {
        const made = yield* opened(around)
        return {
          run: Scope.close(made.scope, Exit.void),
          check: () => Effect.andThen(closedOrNot(made), around.idle)
        }
      })
    })
  }, [Networks.tcp, Networks.memory])
})

describe("a call whose Connection is closed", () => {
  Networks.eachNetwork((network) => {
    eachPace("ends with an answer or as closed, at whichever point that is", 50, {
      around: Effect.gen(function*() {
        const { handlers, idle } = workers()
        const { endpoint } = yield* network.serve(handlers)
        return { endpoint, idle }
      }),
      attempt: Effect.fnUntraced(function*({ endpoint, idle }) {
        const connection = yield* Networks.connect([endpoint], { dialTimeout: "1 hour" })
        return {
          run: connection.call(work, args, { waitForReady: true, timeout: "1 hour" }),
          strike: () => void Effect.runFork(connection.close),
          check: (exit: Exit.Exit<Uint8Array, unknown>) => {
            if (Exit.isFailure(exit)) assert.match(String(exit.cause), /the Connection was closed/)
            return idle
          }
        }
      })
    })
  }, [Networks.unix, Networks.memory])
})

describe("a TLS handshake", () => {
  // More than a second: there are some 150 points, each with a handshake.
  eachPace("ends with the listener that is closed, at whichever point that is, and leaves nothing on either side", 50, {
    around: Networks.mtlsOverUnix.place("server"),
    attempt: Effect.fnUntraced(function*(listen) {
      const { endpoint, listener } = yield* listen(HandlerMap.empty)
      const scope = yield* Scope.make()
      return {
        run: Scope.provide(endpoint.dial, scope),
        strike: () => void Effect.runFork(listener.close),
        check: Effect.fnUntraced(function*(exit: Exit.Exit<Duplex, unknown>) {
          // The connection was not accepted, so it is closed with the listener.
          yield* listener.close
          if (Exit.isSuccess(exit)) {
            exit.value.resume()
            yield* until("the client's end to be closed", () => exit.value.closed)
          }
          yield* Scope.close(scope, Exit.void)
        })
      }
    })
  })
})
