import { describe, it } from "@effect/vitest"
import { Effect, Fiber, Logger, References, type Scope, SubscriptionRef } from "effect"
import { type CallError, Connection, type Endpoint, Resolver } from "effect-call"
import { TestNetwork } from "effect-call/testing"
import { TestClock } from "effect/testing"
import * as assert from "node:assert/strict"
import { makeLog } from "../support/log.ts"
import { HandNetwork } from "./handNetwork.ts"
import { ask, askSlowly, connectToListed, settle, startInMemory, until, untilState } from "./support.ts"

type Log = ReturnType<typeof makeLog>

/** A test on a network of its own, with a log that has everything from debug on. */
const logged = <A, E>(test: (log: Log) => Effect.Effect<A, E, TestNetwork.TestNetwork | Scope.Scope>) => () => {
  const log = makeLog()
  return test(log).pipe(
    Effect.provide([TestNetwork.layer, log.layer]),
    Effect.provideService(References.MinimumLogLevel, "Debug")
  )
}

const connectTo = (endpoint: Endpoint.Endpoint) => Connection.make(Resolver.constant(endpoint))

const warnings = ({ lines }: Log) => lines.filter(({ level }) => level === "Warn")

/** What was said of `memory://a`. */
const messages = ({ lines }: Log) =>
  lines.filter(({ annotations }) => annotations.endpoint === "memory://a").map(({ message }) => message)

/** Calls that fail, each after the backoff of the one before it. */
const failTimes = Effect.fnUntraced(function*(connection: Connection.Connection, times: number) {
  for (let i = 0; i < times; i++) {
    assert.equal((yield* Effect.flip(ask(connection)))._tag, "Unreachable")
    yield* TestClock.adjust("10 seconds")
  }
})

/** Breaks all connections of `memory://a`, and refuses new ones. */
const takeDown = Effect.fnUntraced(function*(connection: Connection.Connection) {
  yield* TestNetwork.fault("a", { dial: "refuse", cutAfter: { toClient: 0 } })
  yield* untilState(connection, ({ endpoints }) => endpoints.every(({ state }) => state !== "Active"))
})

describe("a replica that is down", () => {
  it.effect(
    "is a warning once, however often it is dialed, and each further dial is at debug",
    logged((log) =>
      Effect.gen(function*() {
        const connection = yield* connectTo(yield* TestNetwork.endpoint("a"))
        yield* failTimes(connection, 5)
        const failed = log.lines.filter(({ message }) => message === "an endpoint could not be dialed")
        assert.deepEqual(failed.map(({ level }) => level), ["Warn", "Debug", "Debug", "Debug", "Debug"])
      })
    )
  )

  it.effect(
    "is named, with the reason, where it cannot be dialed",
    logged((log) =>
      Effect.gen(function*() {
        const connection = yield* connectTo(yield* TestNetwork.endpoint("a"))
        yield* failTimes(connection, 1)
        assert.deepEqual(warnings(log).map(({ annotations }) => annotations), [
          { endpoint: "memory://a", reason: "connection refused: no server listens on \"a\"" }
        ])
      })
    )
  )

  it.effect(
    "is named, with the reason, where its connection is lost",
    logged((log) =>
      Effect.gen(function*() {
        const a = yield* startInMemory("a")
        const connection = yield* connectTo(a.endpoint)
        yield* ask(connection)
        yield* takeDown(connection)
        assert.deepEqual(warnings(log).map(({ annotations, message }) => [message, annotations]), [
          ["a connection was lost", { endpoint: "memory://a", reason: "memory://a: read ECONNRESET" }]
        ])
      })
    )
  )

  it.effect(
    "is a warning when its connection is lost, and none when it then cannot be dialed",
    logged((log) =>
      Effect.gen(function*() {
        const a = yield* startInMemory("a")
        const connection = yield* connectTo(a.endpoint)
        yield* ask(connection)
        yield* takeDown(connection)
        yield* failTimes(connection, 3)
        assert.deepEqual(warnings(log).map(({ message }) => message), ["a connection was lost"])
      })
    )
  )

  it.effect(
    "is a warning again when it was up and goes down again",
    logged((log) =>
      Effect.gen(function*() {
        yield* TestNetwork.fault("a", { dial: "refuse" })
        const a = yield* startInMemory("a")
        const connection = yield* connectTo(a.endpoint)
        for (let outage = 1; outage <= 3; outage++) {
          yield* failTimes(connection, 2)
          assert.equal(warnings(log).length, outage)
          yield* TestNetwork.heal("a")
          assert.equal(yield* ask(connection), "a")
          assert.equal(warnings(log).length, outage)
          yield* takeDown(connection)
        }
        assert.deepEqual(warnings(log).map(({ message }) => message), [
          "an endpoint could not be dialed",
          "a connection was lost",
          "a connection was lost",
          "a connection was lost"
        ])
      })
    )
  )

  it.effect(
    "and draining is a warning, too: it still had calls",
    logged((log) =>
      Effect.gen(function*() {
        const [a, b] = [yield* startInMemory("a"), yield* startInMemory("b")]
        const { connection, list } = yield* connectToListed([a])
        const call = yield* Effect.forkChild(Effect.flip(askSlowly(connection)), { startImmediately: true })
        yield* until(() => a.holding === 1)
        yield* list(b)
        yield* TestNetwork.fault("a", { cutAfter: { toClient: 0 } })
        yield* Fiber.join(call)
        yield* settle
        assert.deepEqual(warnings(log).map(({ annotations }) => annotations), [
          { endpoint: "memory://a", reason: "memory://a: read ECONNRESET" }
        ])
      })
    )
  )
})

describe("a replica that connects and breaks, again and again", () => {
  it.effect(
    "is no more than a hundred warnings at once, which are the same at debug after that",
    logged((log) =>
      Effect.gen(function*() {
        const { endpoint } = yield* startInMemory("a")
        const connection = yield* connectTo(endpoint)
        yield* TestNetwork.fault("a", { cutAfter: { toClient: 24 } })
        for (let i = 0; i < 110; i++) yield* Effect.flip(ask(connection))
        yield* settle
        assert.equal(warnings(log).length, 100)
        assert.equal(messages(log).filter((message) => message === "a connection was lost").length, 110)
      })
    )
  )
})

describe("what a client does itself is no warning", () => {
  const quiet = (
    name: string,
    test: (log: Log) => Effect.Effect<void, unknown, TestNetwork.TestNetwork | Scope.Scope>
  ) =>
    it.effect(
      name,
      logged((log) =>
        Effect.gen(function*() {
          yield* test(log)
          // What its sockets and fibers say afterwards.
          yield* settle
          assert.ok(log.lines.length > 0)
          assert.deepEqual(warnings(log), [])
        })
      )
    )

  quiet("when it closes, with calls in flight", () =>
    Effect.gen(function*() {
      const a = yield* startInMemory("a")
      const connection = yield* connectTo(a.endpoint)
      const call = yield* Effect.forkChild(Effect.flip(askSlowly(connection)), { startImmediately: true })
      yield* until(() => a.holding === 1)
      yield* connection.close
      yield* Fiber.join(call)
      yield* until(() => a.open === 0)
    }))

  quiet("when it closes while it dials", () =>
    Effect.gen(function*() {
      yield* TestNetwork.fault("a", { dial: "hang" })
      const connection = yield* connectTo(yield* TestNetwork.endpoint("a"))
      const call = yield* Effect.forkChild(Effect.flip(ask(connection)), { startImmediately: true })
      yield* settle
      yield* connection.close
      assert.equal((yield* Fiber.join(call))._tag, "CommunicationError")
    }))

  quiet("when it closes between the connection and the version message", () =>
    Effect.gen(function*() {
      const a = yield* startInMemory("a")
      yield* TestNetwork.fault("a", { blackHole: true })
      const connection = yield* connectTo(a.endpoint)
      const call = yield* Effect.forkChild(Effect.flip(ask(connection)), { startImmediately: true })
      yield* until(() => a.accepted === 1)
      yield* connection.close
      yield* Fiber.join(call)
    }))

  quiet("when an endpoint is listed no longer, and idle", () =>
    Effect.gen(function*() {
      const [a, b] = [yield* startInMemory("a"), yield* startInMemory("b")]
      const { connection, list } = yield* connectToListed([a])
      yield* ask(connection)
      yield* list(b)
      yield* until(() => a.open === 0)
    }))

  quiet("when an endpoint is listed no longer, and its last call ends", () =>
    Effect.gen(function*() {
      const [a, b] = [yield* startInMemory("a"), yield* startInMemory("b")]
      const { connection, list } = yield* connectToListed([a])
      const call = yield* Effect.forkChild(askSlowly(connection), { startImmediately: true })
      yield* until(() => a.holding === 1)
      yield* list(b)
      yield* a.gate.open
      yield* Fiber.join(call)
      yield* until(() => a.open === 0)
    }))

  quiet("when an endpoint is listed no longer, and being dialed", () =>
    Effect.gen(function*() {
      yield* TestNetwork.fault("a", { dial: "hang" })
      const [a, b] = [yield* startInMemory("a"), yield* startInMemory("b")]
      const { connection, list } = yield* connectToListed([a])
      const call = yield* Effect.forkChild(ask(connection), { startImmediately: true })
      yield* settle
      yield* list(b)
      assert.equal(yield* Fiber.join(call), "b")
    }))

  quiet("when no call waits for a dial any more", () =>
    Effect.gen(function*() {
      yield* TestNetwork.fault("a", { dial: "hang" })
      const connection = yield* connectTo(yield* TestNetwork.endpoint("a"))
      const call = yield* Effect.forkChild(ask(connection), { startImmediately: true })
      yield* settle
      yield* Fiber.interrupt(call)
    }))
})

describe("the states of a connection are logged at debug", () => {
  it.effect(
    "from the first call to the end",
    logged((log) =>
      Effect.gen(function*() {
        const a = yield* startInMemory("a")
        const connection = yield* connectTo(a.endpoint)
        assert.deepEqual(log.lines, [])
        yield* ask(connection)
        yield* connection.close
        assert.deepEqual(log.lines.filter(({ annotations }) => "endpoint" in annotations), [
          { level: "Debug", message: "an endpoint is dialed", cause: "", annotations: { endpoint: "memory://a" } },
          { level: "Debug", message: "an endpoint is connected", cause: "", annotations: { endpoint: "memory://a" } },
          {
            level: "Debug",
            message: "an endpoint is gone",
            cause: "",
            annotations: { endpoint: "memory://a", reason: "the Connection was closed" }
          }
        ])
      })
    )
  )

  it.effect(
    "when it drains, is used again, drains once more, and is gone",
    logged((log) =>
      Effect.gen(function*() {
        const [a, b] = [yield* startInMemory("a"), yield* startInMemory("b")]
        const { connection, list } = yield* connectToListed([a])
        const call = yield* Effect.forkChild(askSlowly(connection), { startImmediately: true })
        yield* until(() => a.holding === 1)
        yield* list(b)
        yield* list(a, b)
        yield* list(b)
        yield* a.gate.open
        yield* Fiber.join(call)
        yield* settle
        assert.deepEqual(messages(log), [
          "an endpoint is dialed",
          "an endpoint is connected",
          "a connection drains",
          "a draining connection is used again",
          "a connection drains",
          "an endpoint is gone"
        ])
      })
    )
  )

  it.effect(
    "when it is back after an outage",
    logged((log) =>
      Effect.gen(function*() {
        const a = yield* startInMemory("a")
        yield* TestNetwork.fault("a", { dial: "refuse" })
        const connection = yield* connectTo(a.endpoint)
        yield* failTimes(connection, 1)
        yield* TestNetwork.heal("a")
        yield* ask(connection)
        assert.deepEqual(messages(log), [
          "an endpoint is dialed",
          "an endpoint could not be dialed",
          "an endpoint is dialed",
          "an endpoint is connected"
        ])
      })
    )
  )

  it.effect(
    "and so are the endpoints that a resolver changes",
    logged((log) =>
      Effect.gen(function*() {
        const [a, b] = [yield* startInMemory("a"), yield* startInMemory("b")]
        const { list } = yield* connectToListed([a])
        yield* list(b, a)
        const changes = log.lines.filter(({ message }) => message === "the resolver has changed the endpoints")
        assert.deepEqual(changes.map(({ annotations, level }) => [level, annotations]), [
          ["Debug", { endpoints: ["memory://b", "memory://a"] }]
        ])
      })
    )
  )
})

describe("a logger", () => {
  it.effect(
    "gets no annotations of one caller on lines that concern all callers",
    logged((log) =>
      Effect.gen(function*() {
        const connection = yield* connectTo(yield* TestNetwork.endpoint("a"))
        yield* failTimes(connection, 1).pipe(Effect.annotateLogs({ request: 1 }))
        assert.ok(log.lines.length > 0)
        assert.ok(log.lines.every(({ annotations }) => !("request" in annotations)))
      })
    )
  )

  it.effect("may call through the Connection that it hears of", () =>
    Effect.gen(function*() {
      const a = yield* startInMemory("a")
      const answers: Array<string> = []
      let connection: Connection.Connection | undefined = undefined
      const shipping = Logger.layer([
        Logger.make(() => {
          if (connection === undefined || answers.length >= 5) return
          Effect.runFork(Effect.map(ask(connection), (answer) => answers.push(answer)))
        })
      ])
      yield* Effect.gen(function*() {
        connection = yield* connectTo(a.endpoint)
        assert.equal(yield* ask(connection), "a")
        yield* takeDown(connection)
        yield* TestNetwork.heal("a")
        yield* TestClock.adjust("1 second")
        assert.equal(yield* ask(connection), "a")
        yield* until(() => answers.length > 0)
      }).pipe(Effect.provide(shipping), Effect.provideService(References.MinimumLogLevel, "Debug"))
      assert.ok(answers.every((answer) => answer === "a"))
    }).pipe(Effect.provide(TestNetwork.layer)))

  it.effect("may call when a draining connection is lost: the new connection is in the state, and is closed with the Connection", () =>
    Effect.gen(function*() {
      const network = new HandNetwork(false)
      let calling: Fiber.Fiber<string, CallError.CallError> | undefined
      let call: Effect.Effect<string, CallError.CallError> = Effect.never
      const calls = Logger.layer([Logger.make(({ message }) => {
        if (String(message) === "a connection was lost") calling = Effect.runFork(call)
      })])
      yield* Effect.gen(function*() {
        const connection = yield* connectTo(network.endpoint("a", 0))
        call = ask(connection)
        const state = Effect.map(connection.state, ({ endpoints }) => endpoints.map(({ state }) => state))
        const lost = yield* Effect.forkChild(Effect.flip(ask(connection)), { startImmediately: true })
        network.lines[0]!.connect()
        network.lines[0]!.say([{ _tag: "Version" }])
        yield* settle
        network.lines[0]!.say([{ _tag: "GoingAway" }])
        yield* settle
        assert.deepEqual(yield* state, ["Draining"])
        network.lines[0]!.cut()
        yield* settle
        assert.equal((yield* Fiber.join(lost))._tag, "CommunicationError")
        assert.deepEqual(yield* state, ["Dialing"])
        network.lines[1]!.connect()
        network.lines[1]!.say([{ _tag: "Version" }])
        yield* settle
        assert.deepEqual(yield* state, ["Active"])
        yield* connection.close
        assert.equal((yield* Effect.flip(Fiber.join(calling!)))._tag, "CommunicationError")
        yield* settle
        assert.ok(network.lines.every(({ isClosed }) => isClosed))
      }).pipe(Effect.provide(calls), Effect.provideService(References.MinimumLogLevel, "Debug"))
    }))

  it.effect("may change the endpoints when a connection is dialed for a call: the next call goes to one that is listed", () =>
    Effect.gen(function*() {
      const [a, b] = yield* Effect.forEach(["a", "b"], startInMemory)
      let change: Effect.Effect<void> = Effect.void
      let dialed = 0
      const changes = Logger.layer([Logger.make(({ message }) => {
        if (String(message) === "an endpoint is dialed" && ++dialed === 3) Effect.runFork(change)
      })])
      yield* Effect.gen(function*() {
        const { connection, endpoints } = yield* connectToListed([a!, b!], { connectionsPerEndpoint: 2 })
        change = SubscriptionRef.set(endpoints, [b!.endpoint])
        assert.deepEqual([yield* ask(connection), yield* ask(connection)], ["a", "b"])
        // The turn of the first, whose second connection is dialed: the call is sent by the time that this is logged.
        assert.equal(yield* ask(connection), "a")
        yield* settle
        assert.equal(yield* ask(connection), "b")
        assert.equal(dialed, 4)
      }).pipe(Effect.provide(changes), Effect.provideService(References.MinimumLogLevel, "Debug"))
    }).pipe(Effect.provide(TestNetwork.layer)))

  it.effect("may close the Connection when a draining connection is used again: nothing is left of it", () =>
    Effect.gen(function*() {
      const [a, b] = yield* Effect.forEach(["a", "b"], startInMemory)
      let close: Effect.Effect<void> = Effect.void
      const closes = Logger.layer([Logger.make(({ message }) => {
        if (String(message) === "a draining connection is used again") Effect.runFork(close)
      })])
      yield* Effect.gen(function*() {
        const { connection, endpoints, list } = yield* connectToListed([a!])
        close = connection.close
        const held = yield* Effect.forkChild(Effect.flip(askSlowly(connection)), { startImmediately: true })
        yield* until(() => a!.holding === 1)
        yield* list()
        yield* SubscriptionRef.set(endpoints, [a!.endpoint, b!.endpoint])
        assert.equal((yield* Fiber.join(held))._tag, "CommunicationError")
        yield* settle
        assert.deepEqual(yield* connection.state, { closed: true, endpoints: [] })
      }).pipe(Effect.provide(closes), Effect.provideService(References.MinimumLogLevel, "Debug"))
    }).pipe(Effect.provide(TestNetwork.layer)))
})
