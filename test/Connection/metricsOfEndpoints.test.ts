/**
 * What a Connection shows of its endpoints: calls and connections at the moment and dials; and what is left of that in
 * the end.
 */
import { describe, it } from "@effect/vitest"
import { Effect, Fiber, Logger, References } from "effect"
import type { Connection } from "effect-call"
import { TestNetwork } from "effect-call/testing"
import { TestClock } from "effect/testing"
import * as assert from "node:assert/strict"
import { callsOf, meteredInMemory, type Metrics } from "../support/metrics.ts"
import { echo, hang } from "../support/networks.ts"
import { fork, nothing, open, serve, toA } from "./metricsSupport.ts"
import { ask, askSlowly, connectToListed, elapse, settle, startInMemory, until, untilState } from "./support.ts"

/** In which states how many connections are, where there are any. */
const statesOf = ({ series }: Metrics): ReadonlyArray<string> =>
  series("rpc.client.connection.count")
    .filter(({ value }) => value !== 0)
    .map(({ attributes, value }) => `${value} ${attributes["rpc.connection.state"]} at ${attributes["server.address"]}`)

const inFlight = ({ values }: Metrics) => values("rpc.client.active_requests")

/** Waits until the endpoint is dialed. */
const untilDialing = (connection: Connection.Connection) =>
  untilState(connection, ({ endpoints }) => endpoints.some(({ state }) => state === "Dialing"))

describe("calls in flight", () => {
  it.effect(
    "are shown from when they are sent until they end",
    meteredInMemory((metrics) =>
      Effect.gen(function*() {
        const connection = yield* open()
        assert.deepEqual(inFlight(metrics), [0])
        const calls = yield* Effect.replicateEffect(fork(connection.call(hang, nothing)), 3)
        assert.deepEqual(inFlight(metrics), [3])
        yield* Fiber.interrupt(calls[0]!)
        assert.deepEqual(inFlight(metrics), [2])
        yield* connection.call(echo, nothing)
        assert.deepEqual(inFlight(metrics), [2])
        yield* TestNetwork.fault("a", { cutAfter: { toClient: 0 } })
        yield* Effect.exit(Fiber.join(calls[1]!))
        assert.deepEqual(inFlight(metrics), [0])
      })
    )
  )

  it.effect(
    "are the calls of all Connections to an endpoint together",
    meteredInMemory((metrics) =>
      Effect.gen(function*() {
        const [one, another] = [yield* open(), yield* toA()]
        yield* fork(Effect.exit(one.call(hang, nothing)))
        yield* fork(Effect.exit(another.call(hang, nothing)))
        yield* settle
        assert.deepEqual(inFlight(metrics), [2])
        assert.deepEqual(statesOf(metrics), ["2 active at memory://a"])
        yield* one.close
        assert.deepEqual(inFlight(metrics), [1])
        assert.deepEqual(statesOf(metrics), ["1 active at memory://a"])
        yield* another.close
        assert.deepEqual(inFlight(metrics), [])
      })
    )
  )
})

describe("the state of a connection", () => {
  it.effect(
    "is dialing, then active, and idle when it was lost",
    meteredInMemory((metrics) =>
      Effect.gen(function*() {
        yield* serve
        yield* TestNetwork.fault("a", { dial: "hang" })
        const connection = yield* toA()
        const call = yield* fork(connection.call(echo, nothing))
        yield* untilDialing(connection)
        assert.deepEqual(statesOf(metrics), ["1 dialing at memory://a"])
        yield* TestNetwork.heal("a")
        yield* Fiber.join(call)
        assert.deepEqual(statesOf(metrics), ["1 active at memory://a"])
        yield* TestNetwork.fault("a", { cutAfter: { toClient: 0 } })
        yield* settle
        assert.deepEqual(statesOf(metrics), ["1 idle at memory://a"])
      })
    )
  )

  it.effect(
    "is idle where it could not be dialed",
    meteredInMemory((metrics) =>
      Effect.gen(function*() {
        yield* Effect.flip((yield* toA()).call(echo, nothing))
        assert.deepEqual(statesOf(metrics), ["1 idle at memory://a"])
      })
    )
  )

  it.effect(
    "is draining while calls are left that its endpoint has when it is listed no longer, and active when it is listed again",
    meteredInMemory((metrics) =>
      Effect.gen(function*() {
        const [a, b] = [yield* startInMemory("a"), yield* startInMemory("b")]
        const { connection, list } = yield* connectToListed([a])
        const call = yield* fork(askSlowly(connection))
        yield* until(() => a.holding === 1)
        yield* list(b)
        assert.deepEqual(statesOf(metrics), ["1 draining at memory://a"])
        assert.deepEqual(inFlight(metrics), [1])
        yield* list(a, b)
        assert.deepEqual(statesOf(metrics), ["1 active at memory://a"])
        yield* list(b)
        yield* a.gate.open
        yield* Fiber.join(call)
        assert.deepEqual(statesOf(metrics), [])
        assert.deepEqual(callsOf(metrics, "client"), ["1 hold at memory://a: ok"])
      })
    )
  )
})

describe("the gauges of an endpoint are gone", () => {
  const gone = ({ values }: Metrics) => {
    assert.deepEqual([values("rpc.client.active_requests"), values("rpc.client.connection.count")], [[], []])
  }

  it.effect(
    "when its Connection is closed, and its counters are not",
    meteredInMemory((metrics) =>
      Effect.gen(function*() {
        const connection = yield* open()
        yield* fork(Effect.exit(connection.call(hang, nothing)))
        yield* connection.close
        gone(metrics)
        assert.deepEqual(
          new Set(
            metrics.series(undefined, { "server.address": "memory://a" }).map(({ name }) => name)
              .filter((name) => name.startsWith("rpc.client"))
          ),
          new Set(["rpc.client.call.duration", "rpc.client.network.io", "rpc.client.dial.failures"])
        )
      })
    )
  )

  it.effect(
    "when its Connection is closed while it dials",
    meteredInMemory((metrics) =>
      Effect.gen(function*() {
        yield* TestNetwork.fault("a", { dial: "hang" })
        const connection = yield* toA()
        yield* fork(Effect.exit(connection.call(echo, nothing)))
        yield* untilDialing(connection)
        yield* connection.close
        gone(metrics)
      })
    )
  )

  it.effect("when its Connection is closed by a logger that hears that it dials", () => {
    let closing: Effect.Effect<void> = Effect.void
    const closes = Logger.layer([Logger.make(() => void Effect.runFork(closing))])
    return meteredInMemory((metrics) =>
      Effect.gen(function*() {
        const connection = yield* toA()
        closing = connection.close
        yield* Effect.exit(connection.call(echo, nothing))
        yield* settle
        gone(metrics)
      }).pipe(Effect.provide(closes), Effect.provideService(References.MinimumLogLevel, "Debug"))
    )()
  })

  it.effect(
    "when it is listed no longer",
    meteredInMemory((metrics) =>
      Effect.gen(function*() {
        const [a, b] = [yield* startInMemory("a"), yield* startInMemory("b")]
        const { connection, list } = yield* connectToListed([a])
        yield* ask(connection)
        yield* list(b)
        gone(metrics)
      })
    )
  )
})

describe("dials that fail are counted", () => {
  const failures = ({ values }: Metrics) => values("rpc.client.dial.failures", { "server.address": "memory://a" })

  it.effect(
    "each of them, and no call that finds its endpoint in backoff",
    meteredInMemory((metrics) =>
      Effect.gen(function*() {
        const connection = yield* toA()
        for (let i = 1; i <= 3; i++) {
          yield* Effect.replicateEffect(Effect.exit(connection.call(echo, nothing)), 5, { concurrency: "unbounded" })
          assert.deepEqual(failures(metrics), [i])
          yield* TestClock.adjust("10 seconds")
        }
      })
    )
  )

  it.effect(
    "dials that take too long, and dials that get no version message",
    meteredInMemory((metrics) =>
      Effect.gen(function*() {
        yield* serve
        const connection = yield* toA({ dialTimeout: "1 second" })
        for (const [i, fault] of [{ dial: "hang" }, { blackHole: true }].entries()) {
          yield* TestNetwork.fault("a", fault as TestNetwork.Faults)
          const call = yield* fork(Effect.flip(connection.call(echo, nothing)))
          yield* elapse(call, 500)
          assert.deepEqual(failures(metrics), [i + 1])
          yield* TestClock.adjust("10 seconds")
        }
      })
    )
  )

  it.effect(
    "also dials that no call waits for any more, when they have failed",
    meteredInMemory((metrics) =>
      Effect.gen(function*() {
        yield* TestNetwork.fault("a", { dial: "hang" })
        const connection = yield* toA()
        const call = yield* fork(connection.call(echo, nothing))
        yield* untilDialing(connection)
        yield* Fiber.interrupt(call)
        yield* TestClock.adjust("4999 millis")
        yield* settle
        assert.deepEqual(failures(metrics), [0])
        yield* TestClock.adjust("1 millis")
        yield* settle
        assert.deepEqual(failures(metrics), [1])
      })
    )
  )
})
