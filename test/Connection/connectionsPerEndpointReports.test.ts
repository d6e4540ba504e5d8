/** Several connections to one endpoint: what the state, the metrics and the log say of them. */
import { describe, it } from "@effect/vitest"
import { Effect, References, type Scope } from "effect"
import { Balancer } from "effect-call"
import { TestNetwork } from "effect-call/testing"
import { TestClock } from "effect/testing"
import * as assert from "node:assert/strict"
import { makeLog } from "../support/log.ts"
import { meteredInMemory, type Metrics } from "../support/metrics.ts"
import {
  behind,
  connectTo,
  firstAndRest,
  holdOnAll,
  onNetwork,
  openAll,
  startAll,
  stateOf,
  takeDown
} from "./severalConnections.ts"
import { ask, connectToListed, settle, startInMemory, until } from "./support.ts"

describe("the state", () => {
  it.effect("of an endpoint is Active when any of its connections is, with the calls in flight on all of them", () =>
    Effect.gen(function*() {
      const servers = yield* startAll("a", "b", "c")
      const endpoint = behind(servers)
      const connection = yield* connectTo(endpoint, 3)
      const now = Effect.map(stateOf(connection), ({ callsInFlight, state }) => [state, callsInFlight])
      assert.deepEqual(yield* now, ["Idle", 0])
      yield* openAll(connection, servers)
      yield* holdOnAll(connection, servers)
      assert.deepEqual(yield* now, ["Active", 3])
      yield* takeDown(servers[0]!)
      yield* settle
      assert.deepEqual(yield* now, ["Active", 2])
      yield* takeDown(servers[1]!)
      yield* settle
      assert.deepEqual(yield* now, ["Active", 1])
      yield* takeDown(servers[2]!)
      yield* settle
      assert.deepEqual(yield* now, ["Idle", 0])
      assert.match((yield* stateOf(connection)).lastFailure!, /ECONNRESET/)
    }).pipe(onNetwork))
})

describe("the metrics", () => {
  const statesOf = ({ series }: Metrics): ReadonlyArray<string> =>
    series("rpc.client.connection.count")
      .filter(({ value }) => value !== 0)
      .map(({ attributes, value }) => `${value} ${attributes["rpc.connection.state"]}`)

  it.effect(
    "count each connection by its state, and the calls of all of them together",
    meteredInMemory((metrics) =>
      Effect.gen(function*() {
        const servers = yield* startAll("a", "b", "c")
        const other = yield* startInMemory("other")
        const { connection, list } = yield* connectToListed([{ endpoint: behind(servers) }], {
          connectionsPerEndpoint: 3,
          balancer: Balancer.make((endpoints) => Effect.succeed(endpoints[0]!))
        })
        yield* ask(connection)
        assert.deepEqual(statesOf(metrics), ["1 active"])
        yield* TestNetwork.fault("b", { dial: "hang" })
        yield* ask(connection)
        yield* settle
        assert.deepEqual(statesOf(metrics), ["1 dialing", "1 active"])
        yield* TestNetwork.heal("b")
        yield* openAll(connection, servers)
        assert.deepEqual(statesOf(metrics), ["3 active"])
        yield* holdOnAll(connection, servers)
        assert.deepEqual(metrics.values("rpc.client.active_requests"), [3])
        yield* takeDown(servers[0]!)
        yield* settle
        assert.deepEqual(statesOf(metrics), ["1 idle", "2 active"])
        // That goes to a, in its turn.
        yield* ask(connection)
        yield* settle
        assert.deepEqual(metrics.values("rpc.client.dial.failures"), [1])
        assert.deepEqual(statesOf(metrics), ["1 idle", "2 active"])
        yield* list(other)
        assert.deepEqual(statesOf(metrics), ["2 draining"])
        yield* servers[1]!.gate.open
        yield* servers[2]!.gate.open
        yield* until(() => servers.every(({ open }) => open === 0))
        yield* settle
        assert.deepEqual(statesOf(metrics), [])
        assert.deepEqual(metrics.values("rpc.client.active_requests"), [])
      })
    )
  )
})

describe("the log", () => {
  type Log = ReturnType<typeof makeLog>

  const logged = <A, E>(test: (log: Log) => Effect.Effect<A, E, TestNetwork.TestNetwork | Scope.Scope>) => () => {
    const log = makeLog()
    return test(log).pipe(
      Effect.provide([TestNetwork.layer, log.layer]),
      Effect.provideService(References.MinimumLogLevel, "Debug")
    )
  }

  const warnings = ({ lines }: Log) => lines.filter(({ level }) => level === "Warn").map(({ message }) => message)

  /** A server with three connections. */
  const three = Effect.gen(function*() {
    const a = yield* startInMemory("a")
    const connection = yield* connectTo(a.endpoint, 3)
    while (a.open < 3) {
      yield* ask(connection)
      yield* settle
    }
    return { a, connection }
  })

  it.effect(
    "has one warning when a server goes with all its connections, and none while it stays away",
    logged((log) =>
      Effect.gen(function*() {
        const { a, connection } = yield* three
        for (let outage = 1; outage <= 2; outage++) {
          yield* takeDown(a)
          for (let i = 0; i < 3; i++) {
            assert.equal((yield* Effect.flip(ask(connection)))._tag, "Unreachable")
            yield* TestClock.adjust("10 seconds")
          }
          assert.deepEqual(warnings(log), Array(outage).fill("a connection was lost"))
          yield* TestNetwork.heal("a")
          while (a.open < 3) {
            yield* ask(connection)
            yield* settle
          }
        }
      })
    )
  )

  it.effect(
    "has a warning for each connection that is lost and comes back",
    logged((log) =>
      Effect.gen(function*() {
        const servers = yield* startAll("a", "b")
        const connection = yield* connectTo(behind(firstAndRest(servers[0]!, servers[1]!)), 2)
        for (let loss = 1; loss <= 3; loss++) {
          yield* openAll(connection, loss === 1 ? servers : servers.slice(1))
          yield* TestNetwork.fault("b", { cutAfter: { toClient: 0 } })
          yield* until(() => servers[1]!.open === 0)
          yield* TestNetwork.heal("b")
          yield* settle
          assert.equal(warnings(log).length, loss)
        }
      })
    )
  )

  it.effect(
    "has a warning when the others are lost, long after one that could not be dialed again",
    logged((log) =>
      Effect.gen(function*() {
        const servers = yield* startAll("a", "b")
        const connection = yield* connectTo(behind(firstAndRest(servers[0]!, servers[1]!)), 2)
        yield* openAll(connection, servers)
        yield* takeDown(servers[1]!)
        for (let i = 0; i < 3; i++) {
          yield* ask(connection)
          yield* settle
          yield* TestClock.adjust("10 seconds")
        }
        assert.equal(warnings(log).length, 1)
        yield* takeDown(servers[0]!)
        yield* settle
        assert.deepEqual(warnings(log), ["a connection was lost", "a connection was lost"])
      })
    )
  )

  it.effect(
    "has one warning when an additional connection cannot be dialed, and one more when the others are lost",
    logged((log) =>
      Effect.gen(function*() {
        const servers = yield* startAll("a", "b")
        yield* TestNetwork.fault("b", { dial: "refuse" })
        const connection = yield* connectTo(behind(firstAndRest(servers[0]!, servers[1]!)), 2)
        for (let i = 0; i < 5; i++) {
          yield* ask(connection)
          yield* settle
          yield* TestClock.adjust("10 seconds")
        }
        assert.deepEqual(warnings(log), ["an endpoint could not be dialed"])
        yield* takeDown(servers[0]!)
        assert.deepEqual(warnings(log), ["an endpoint could not be dialed", "a connection was lost"])
      })
    )
  )

  it.effect(
    "says at debug what becomes of each connection, and once that the endpoint is gone",
    logged((log) =>
      Effect.gen(function*() {
        const { connection } = yield* three
        yield* connection.close
        const ofEndpoint = log.lines.filter(({ annotations }) => annotations.endpoint === "memory://a")
        assert.deepEqual(ofEndpoint.map(({ level, message }) => `${level}: ${message}`), [
          "Debug: an endpoint is dialed",
          "Debug: an endpoint is connected",
          "Debug: an endpoint is dialed",
          "Debug: an endpoint is connected",
          "Debug: an endpoint is dialed",
          "Debug: an endpoint is connected",
          "Debug: an endpoint is gone"
        ])
      })
    )
  )
})
