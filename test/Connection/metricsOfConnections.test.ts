/** What Connections count together, what their resolvers do, and how much of all that there can be. */
import { describe, it } from "@effect/vitest"
import { Effect, Metric } from "effect"
import { Balancer, Connection, Endpoint, Resolver } from "effect-call"
import { TestNetwork } from "effect-call/testing"
import { TestClock } from "effect/testing"
import * as assert from "node:assert/strict"
import { maxUnused } from "../../src/internal/telemetry/metrics.ts"
import { makeRegistry } from "../internal/telemetry/support.ts"
import { callsOf, metered, meteredInMemory, type Metrics } from "../support/metrics.ts"
import { connect, echo, handlers } from "../support/networks.ts"
import { nothing, serve, toA } from "./metricsSupport.ts"
import { connectToListed, settle } from "./support.ts"

const dead = (i: number) => Endpoint.tcp(`127.0.0.1:${i + 1}`)

/** The updates and the failures of all resolvers. */
const resolved = ({ values }: Metrics) => [
  ...values("rpc.client.resolver.updates"),
  ...values("rpc.client.resolver.failures")
]

/** A resolver that gives these answers, one after the other, and then no more. */
const answering = (...answers: ReadonlyArray<Effect.Effect<Resolver.Resolution, Resolver.ResolverError>>) => {
  let next = 0
  const resolver: Resolver.Resolver = {
    isConstant: false,
    resolve: () => Effect.suspend(() => answers[next++] ?? Effect.never)
  }
  return resolver
}

const set = (endpoints: ReadonlyArray<Endpoint.Endpoint>, version?: string) =>
  Effect.succeed(version === undefined ? { endpoints } : { endpoints, version: Resolver.version(version) })

const broken = Effect.fail(new Resolver.ResolverError({ message: "no such luck" }))

describe("a resolver", () => {
  it.effect(
    "has each newer set of its endpoints counted, after the first",
    metered((metrics) =>
      Effect.gen(function*() {
        const { list } = yield* connectToListed([{ endpoint: dead(0) }])
        assert.deepEqual(resolved(metrics), [0, 0])
        yield* list({ endpoint: dead(1) })
        yield* list({ endpoint: dead(1) }, { endpoint: dead(2) })
        assert.deepEqual(resolved(metrics), [2, 0])
      })
    )
  )

  it.effect(
    "has no set counted that has the same version as before, or none",
    metered((metrics) =>
      Effect.gen(function*() {
        yield* Connection.make(answering(set([], "1"), set([], "1"), set([]), set([]), set([], "2")))
        yield* TestClock.adjust("10 seconds")
        assert.deepEqual(resolved(metrics), [1, 0])
      })
    )
  )

  it.effect(
    "has each of its failures counted",
    metered((metrics) =>
      Effect.gen(function*() {
        yield* Connection.make(answering(set([], "1"), broken, broken, Effect.die("dead"), set([], "2")))
        yield* TestClock.adjust("10 seconds")
        assert.deepEqual(resolved(metrics), [1, 3])
      })
    )
  )

  it.effect(
    "that waits when its Connection closes has not failed",
    metered((metrics) =>
      Effect.gen(function*() {
        const connection = yield* Connection.make(answering(set([], "1")))
        yield* settle
        yield* connection.close
        assert.deepEqual(resolved(metrics), [0, 0])
      })
    )
  )

  it.effect(
    "has no set counted that was not taken over, because the balancer did not",
    metered((metrics) =>
      Effect.gen(function*() {
        const picky: Balancer.Balancer = {
          update: (endpoints) => {
            if (endpoints.length > 0) throw new Error("too many")
          },
          pick: () => Effect.never
        }
        yield* Connection.make(answering(set([], "1"), set([dead(0)], "2"), set([], "3")), {
          balancer: Effect.succeed(picky)
        })
        yield* TestClock.adjust("10 seconds")
        assert.deepEqual(resolved(metrics), [1, 0])
      })
    )
  )
})

describe("Connections to one endpoint", () => {
  it.effect(
    "count their calls, bytes and dials together, one after another as well",
    meteredInMemory((metrics) =>
      Effect.gen(function*() {
        yield* serve
        const { values } = metrics
        const sent = () => values("rpc.client.network.io", { "network.io.direction": "transmit" })
        const one = yield* toA()
        yield* one.call(echo, nothing)
        const [ofOne] = sent()
        const another = yield* toA()
        yield* another.call(echo, nothing)
        yield* one.close
        yield* another.close
        yield* Effect.andThen(toA(), (later) => later.call(echo, nothing))
        assert.deepEqual(callsOf(metrics, "client"), ["3 echo at memory://a: ok"])
        assert.deepEqual(sent(), [3 * ofOne!])
        assert.deepEqual(values("rpc.client.dial.failures"), [0])
      })
    )
  )

  it.effect(
    "count calls that reached none together, too",
    meteredInMemory((metrics) =>
      Effect.gen(function*() {
        for (let i = 0; i < 3; i++) yield* Effect.flip((yield* toA()).call(echo, nothing))
        assert.deepEqual(callsOf(metrics, "client"), ["3 echo: Unreachable"])
      })
    )
  )

  it.effect(
    "count apart from those in another registry",
    meteredInMemory((metrics) =>
      Effect.gen(function*() {
        yield* serve
        const other = makeRegistry()
        const elsewhere = yield* Effect.provideContext(toA(), other.context)
        yield* (yield* toA()).call(echo, nothing)
        yield* Effect.replicateEffect(elsewhere.call(echo, nothing), 2)
        assert.deepEqual(callsOf(metrics, "client"), ["1 echo at memory://a: ok"])
        assert.deepEqual(callsOf(other, "client"), ["2 echo at memory://a: ok"])
      })
    )
  )

  it.effect(
    "count apart from Connections that were made with other attributes for all metrics",
    meteredInMemory(({ values }) =>
      Effect.gen(function*() {
        yield* serve
        for (const tenant of ["a", "b", "b"]) {
          const connection = yield* Effect.provideService(toA(), Metric.CurrentMetricAttributes, { tenant })
          yield* connection.call(echo, nothing)
        }
        assert.deepEqual(["a", "b"].map((tenant) => values("rpc.client.call.duration", { tenant })), [[1], [2]])
      })
    )
  )
})

describe("series", () => {
  /** Those of endpoints. */
  const ofEndpoints = ({ series }: Metrics) => series().filter(({ attributes }) => "server.address" in attributes)

  it.effect(
    "are not there for endpoints that are listed and never dialed, even for thousands of them",
    metered((metrics) =>
      Effect.gen(function*() {
        yield* connect(Array.from({ length: 10_000 }, (_, i) => dead(i)))
        assert.deepEqual(ofEndpoints(metrics), [])
      })
    )
  )

  it.effect(
    "are there for each endpoint that was dialed, and for no other",
    meteredInMemory((metrics) =>
      Effect.gen(function*() {
        const names = ["a", "b", "c", "d"]
        const connection = yield* connect(yield* Effect.forEach(names, TestNetwork.endpoint), {
          balancer: Balancer.sharded
        })
        for (const shardKey of [1n, 3n]) yield* Effect.exit(connection.call(echo, nothing, { shardKey }))
        const addresses = new Set(ofEndpoints(metrics).map(({ attributes }) => attributes["server.address"]))
        assert.deepEqual(addresses, new Set(["memory://b", "memory://d"]))
      })
    )
  )

  it.effect(
    "do not pile up where endpoints come and go",
    meteredInMemory((metrics) =>
      Effect.gen(function*() {
        const replicas = yield* Effect.forEach(
          Array.from({ length: maxUnused + 6 }, (_, i) => `${i}`),
          (name) =>
            TestNetwork.listen(name, handlers, { metrics: false }).pipe(
              Effect.andThen(TestNetwork.endpoint(name)),
              Effect.map((endpoint) => ({ endpoint }))
            )
        )
        const { connection, list } = yield* connectToListed([])
        for (const replica of replicas) {
          yield* list(replica)
          yield* connection.call(echo, nothing)
        }
        // The last one is still listed, and of the others the last 64 are remembered.
        const called = metrics.series("rpc.client.call.duration").map(({ attributes }) => attributes["server.address"])
        assert.deepEqual(new Set(called), new Set(replicas.slice(5).map(({ endpoint }) => endpoint.address)))
        assert.equal(called.length, maxUnused + 1)
        assert.equal(ofEndpoints(metrics).length, 4 * (maxUnused + 1) + 6)
      })
    )
  )

  it.effect(
    "are not there at all where metrics are turned off",
    meteredInMemory((metrics) =>
      Effect.gen(function*() {
        yield* TestNetwork.listen("a", handlers, { metrics: false })
        const connection = yield* toA({ metrics: false })
        yield* connection.call(echo, nothing)
        yield* connection.close
        yield* Effect.flip(connection.call(echo, nothing))
        yield* Effect.flip((yield* connect([dead(0)], { metrics: false })).call(echo, nothing))
        yield* Connection.make(answering(set([], "1"), set([], "2"), broken), { metrics: false })
        yield* settle
        assert.deepEqual(metrics.series(), [])
      })
    )
  )
})
