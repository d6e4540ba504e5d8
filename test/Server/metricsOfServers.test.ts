/** What a server shows of itself: what it has to do at the moment, and what is left of that when it has stopped. */
import { describe, it } from "@effect/vitest"
import { Effect, Exit, Fiber, Scope } from "effect"
import { Connection, HandlerMap, type Listener, MethodKey, Resolver, Server } from "effect-call"
import { TestClock } from "effect/testing"
import * as assert from "node:assert/strict"
import { maxUnused } from "../../src/internal/telemetry/metrics.ts"
import * as DuplexPair from "../../src/internal/testing/duplexPair.ts"
import { settle, until } from "../Connection/support.ts"
import { callsOf, metered, type Metrics } from "../support/metrics.ts"
import { component, connect, echo, handlers, hang, memory } from "../support/networks.ts"
import { rawClient, request, version } from "../support/raw.ts"

const nothing = new Uint8Array()

const fork = <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.forkChild(effect, { startImmediately: true })

/** How many calls run or wait, and how many connections are open, of each server. */
const gaugesOf = ({ values }: Metrics) => ({
  calls: values("rpc.server.active_requests"),
  connections: values("rpc.server.connection.count")
})

describe("a server", () => {
  it.effect(
    "shows how many calls run or wait to run",
    metered((metrics) =>
      Effect.gen(function*() {
        const { endpoint } = yield* memory.serve(handlers, { maxConcurrentCalls: 1 })
        const connection = yield* connect([endpoint])
        assert.deepEqual(gaugesOf(metrics).calls, [0])
        const calls = yield* Effect.replicateEffect(fork(connection.call(hang, nothing)), 3)
        yield* settle
        assert.deepEqual(gaugesOf(metrics).calls, [3])
        yield* Effect.forEach(calls, Fiber.interrupt)
        yield* settle
        assert.deepEqual(gaugesOf(metrics).calls, [0])
      })
    )
  )

  it.effect(
    "shows how many connections are open",
    metered((metrics) =>
      Effect.gen(function*() {
        const { endpoint } = yield* memory.serve(handlers)
        const scope = yield* Scope.make()
        yield* Scope.provide(rawClient(endpoint), scope)
        yield* rawClient(endpoint)
        yield* settle
        assert.deepEqual(gaugesOf(metrics).connections, [2])
        yield* Scope.close(scope, Exit.void)
        yield* settle
        assert.deepEqual(gaugesOf(metrics).connections, [1])
      })
    )
  )

  it.effect(
    "shows no connection that is lost, but the call that still runs for it",
    metered((metrics) =>
      Effect.gen(function*() {
        const stubborn = HandlerMap.set(handlers, component, "stubborn", (args) =>
          Effect.uninterruptible(Effect.as(Effect.sleep("1 second"), args)))
        const { endpoint } = yield* memory.serve(stubborn)
        const scope = yield* Scope.make()
        const client = yield* Scope.provide(rawClient(endpoint), scope)
        client.write(Buffer.concat([version, request(1, MethodKey.make(component, "stubborn"), nothing)]))
        yield* settle
        yield* Scope.close(scope, Exit.void)
        yield* settle
        assert.deepEqual(gaugesOf(metrics), { calls: [1], connections: [0] })
        yield* TestClock.adjust("1 second")
        yield* settle
        assert.deepEqual(gaugesOf(metrics), { calls: [0], connections: [0] })
      })
    )
  )

  it.effect(
    "shows its calls and connections until it has stopped, and then only what it has counted",
    metered((metrics) =>
      Effect.gen(function*() {
        const { endpoint, serving } = yield* memory.serve(handlers, { shutdownGrace: "3 seconds" })
        const connection = yield* connect([endpoint], { metrics: false })
        yield* connection.call(echo, nothing)
        yield* fork(Effect.exit(connection.call(hang, nothing)))
        yield* settle
        const stopping = yield* fork(Fiber.interrupt(serving))
        yield* settle
        assert.deepEqual(gaugesOf(metrics), { calls: [1], connections: [1] })
        yield* TestClock.adjust("3 seconds")
        yield* Fiber.join(stopping)
        assert.deepEqual(gaugesOf(metrics), { calls: [], connections: [] })
        assert.deepEqual(callsOf(metrics, "server"), [
          "1 echo at memory://server: ok",
          "1 hang at memory://server: canceled"
        ])
        assert.deepEqual(
          new Set(metrics.series().map(({ name }) => name)),
          new Set(["rpc.server.call.duration", "rpc.server.network.io"])
        )
      })
    )
  )

  it.effect(
    "goes on counting where another one at its address has stopped",
    metered((metrics) =>
      Effect.gen(function*() {
        const listen = yield* memory.place("a")
        for (let i = 0; i < 3; i++) {
          yield* Effect.scoped(Effect.gen(function*() {
            const { endpoint, listener } = yield* listen(handlers)
            yield* Effect.forkScoped(Server.serve(listener), { startImmediately: true })
            yield* (yield* connect([endpoint])).call(echo, nothing)
            assert.deepEqual(gaugesOf(metrics).connections, [1])
          }))
        }
        assert.deepEqual(callsOf(metrics, "server"), ["3 echo at memory://a: ok"])
      })
    )
  )

  it.effect(
    "is forgotten when many others have stopped after it",
    metered(({ values }) =>
      Effect.gen(function*() {
        for (let i = 0; i < maxUnused + 6; i++) {
          const listener: Listener.Listener = { address: `tcp://a:${i}`, accept: Effect.never, close: Effect.void }
          yield* Fiber.interrupt(yield* fork(Server.serve(listener)))
        }
        const remembered = (port: number) => values("rpc.server.network.io", { "server.port": String(port) }).length > 0
        assert.deepEqual([remembered(0), remembered(5), remembered(6), remembered(maxUnused + 5)], [
          false,
          false,
          true,
          true
        ])
        assert.equal(values("rpc.server.network.io").length, 2 * maxUnused)
      })
    )
  )

  it.effect(
    "counts nothing where it is told not to",
    metered(({ series }) =>
      Effect.gen(function*() {
        const { endpoint } = yield* memory.serve(handlers, { metrics: false })
        yield* (yield* connect([endpoint], { metrics: false })).call(echo, nothing)
        assert.deepEqual(series(), [])
      })
    )
  )
})

describe("serveOn", () => {
  /** Serves one end of a connection, and connects to the other. */
  const open = Effect.gen(function*() {
    const { client, server } = DuplexPair.make()
    const serving = yield* fork(Server.serveOn(server, handlers))
    const endpoint = { address: "test://pair", dial: Effect.succeed(client) }
    const connection = yield* Connection.make(Resolver.constant(endpoint), { metrics: false })
    return { connection, serving }
  })

  it.effect(
    "counts without an address",
    metered(({ series }) =>
      Effect.gen(function*() {
        const { connection } = yield* open
        yield* connection.call(echo, nothing)
        const all = series()
        assert.deepEqual(
          new Set(all.map(({ name }) => name)),
          new Set([
            "rpc.server.call.duration",
            "rpc.server.network.io",
            "rpc.server.active_requests",
            "rpc.server.active_streams",
            "rpc.server.connection.count"
          ])
        )
        assert.ok(all.every(({ attributes }) => !("server.address" in attributes || "server.port" in attributes)))
      })
    )
  )

  it.effect(
    "shows all connections that are served so together, each until it has ended",
    metered((metrics) =>
      Effect.gen(function*() {
        const [one, another] = [yield* open, yield* open]
        for (const { connection } of [one, another]) yield* connection.call(echo, nothing)
        yield* fork(Effect.exit(another.connection.call(hang, nothing)))
        yield* settle
        assert.deepEqual(gaugesOf(metrics), { calls: [1], connections: [2] })
        yield* one.connection.close
        yield* Fiber.join(one.serving)
        assert.deepEqual(gaugesOf(metrics), { calls: [1], connections: [1] })
        yield* another.connection.close
        yield* Fiber.join(another.serving)
        assert.deepEqual(gaugesOf(metrics), { calls: [], connections: [] })
        assert.deepEqual(callsOf(metrics, "server"), ["1 hang: canceled", "2 echo: ok"])
      })
    )
  )

  it.effect(
    "shows nothing of a connection that is closed already",
    metered((metrics) =>
      Effect.gen(function*() {
        const { client, server } = DuplexPair.make()
        client.destroy()
        server.destroy()
        yield* until(() => server.closed)
        yield* Server.serveOn(server, handlers)
        assert.deepEqual(gaugesOf(metrics), { calls: [], connections: [] })
      })
    )
  )

  it.effect(
    "shows nothing any more when it was interrupted",
    metered((metrics) =>
      Effect.gen(function*() {
        const { connection, serving } = yield* open
        yield* connection.call(echo, nothing)
        yield* Fiber.interrupt(serving)
        assert.deepEqual(gaugesOf(metrics), { calls: [], connections: [] })
      })
    )
  )
})
