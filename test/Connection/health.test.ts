/** Servers that say that they do not serve, and the clients that ask them. */
import { describe, it } from "@effect/vitest"
import { Effect, Fiber } from "effect"
import { Balancer, type Connection, HandlerMap, Health, MethodKey, Server } from "effect-call"
import { TestNetwork } from "effect-call/testing"
import { TestClock } from "effect/testing"
import * as assert from "node:assert/strict"
import { byHand } from "../support/byHand.ts"
import { callsOf, meteredInMemory } from "../support/metrics.ts"
import { bytesOf, component } from "../support/networks.ts"
import { clientVersion, message, messagesOf, receives, request } from "../support/raw.ts"
import { ask, connectToListed, settle, until, untilState } from "./support.ts"

const onNetwork = Effect.provide(TestNetwork.layer)
const cart = "example/Cart"

/** A server that says who it is, and how it is. */
const start = Effect.fnUntraced(function*(name: string, initial?: Health.Status) {
  const health = yield* Health.make(initial)
  const handlers = HandlerMap.merge(
    HandlerMap.set(HandlerMap.empty, component, "who", () => Effect.succeed(bytesOf(name))),
    yield* Effect.provideService(Health.handlers, Health.Health, health)
  )
  yield* Effect.forkScoped(Server.serve(yield* TestNetwork.listener(name, handlers), { shutdownGrace: "1 hour" }), {
    startImmediately: true
  })
  return { health, endpoint: yield* TestNetwork.endpoint(name) }
})

const options: Connection.ClientOptions = { health: cart, eager: true }

const whoAnswers = Effect.fnUntraced(function*(connection: Connection.Connection, calls = 8) {
  return [...new Set(yield* Effect.replicateEffect(ask(connection), calls))].toSorted().join(" ")
})

const serving = (connection: Connection.Connection, ...wanted: ReadonlyArray<boolean>) =>
  untilState(
    connection,
    ({ endpoints }) =>
      endpoints.every(({ isServing, state }, index) => state === "Active" && isServing === wanted[index])
  )

describe("a Connection that probes the health of servers", () => {
  it.effect("calls none that says it does not serve, and calls it again when it does", () =>
    Effect.gen(function*() {
      const [a, b] = [yield* start("a"), yield* start("b", "NotServing")]
      const { connection } = yield* connectToListed([a, b], options)
      yield* serving(connection, true, false)
      assert.equal(yield* whoAnswers(connection), "a")
      yield* b.health.set("Serving")
      yield* serving(connection, true, true)
      assert.equal(yield* whoAnswers(connection), "a b")
      yield* a.health.set("NotServing", cart)
      yield* serving(connection, false, true)
      assert.equal(yield* whoAnswers(connection), "b")
    }).pipe(onNetwork))

  it.effect("ignores the health of other components", () =>
    Effect.gen(function*() {
      const [a, b] = [yield* start("a"), yield* start("b")]
      yield* a.health.set("NotServing", "example/Stock")
      const { connection } = yield* connectToListed([a, b], options)
      yield* serving(connection, true, true)
      assert.equal(yield* whoAnswers(connection), "a b")
    }).pipe(onNetwork))

  it.effect("treats a server that has no such component as serving", () =>
    Effect.gen(function*() {
      const a = yield* start("a")
      yield* Effect.forkScoped(
        Server.serve(
          yield* TestNetwork.listener(
            "b",
            HandlerMap.set(HandlerMap.empty, component, "who", () => Effect.succeed(bytesOf("b")))
          )
        ),
        { startImmediately: true }
      )
      const b = { endpoint: yield* TestNetwork.endpoint("b") }
      const { connection } = yield* connectToListed([a, b], options)
      yield* serving(connection, true, true)
      assert.equal(yield* whoAnswers(connection), "a b")
    }).pipe(onNetwork))

  it.effect("ignores what servers say where fewer than half of them would be left", () =>
    Effect.gen(function*() {
      const servers = [yield* start("a"), yield* start("b"), yield* start("c")]
      const { connection } = yield* connectToListed(servers, options)
      yield* serving(connection, true, true, true)
      yield* servers[0]!.health.set("NotServing")
      yield* serving(connection, false, true, true)
      assert.equal(yield* whoAnswers(connection), "b c")
      yield* servers[1]!.health.set("NotServing")
      yield* serving(connection, false, false, true)
      assert.equal(yield* whoAnswers(connection), "a b c")
    }).pipe(onNetwork))

  it.effect("calls its only server in any state of health", () =>
    Effect.gen(function*() {
      const { connection } = yield* connectToListed([yield* start("a", "NotServing")], options)
      yield* serving(connection, false)
      assert.equal(yield* ask(connection), "a")
    }).pipe(onNetwork))

  it.effect("sends calls with a shard key to their server in any state of health", () =>
    Effect.gen(function*() {
      const [a, b] = [yield* start("a", "NotServing"), yield* start("b")]
      const { connection } = yield* connectToListed([a, b], { ...options, balancer: Balancer.sharded })
      yield* serving(connection, false, true)
      assert.equal(yield* ask(connection, { shardKey: 0n }), "a")
    }).pipe(onNetwork))

  it.effect("sends the status that it knows, in one probe at a time", () =>
    Effect.gen(function*() {
      const key = MethodKey.make("effect-call/Health", "watch")
      const asks = (id: number, known: number) => request(id, key, Uint8Array.of(known, ...bytesOf(cart)))
      const a = yield* byHand("a")
      const { connection } = yield* connectToListed([a], options)
      const raw = yield* a.accepted()
      yield* receives(raw, clientVersion, asks(1, 255))
      raw.write(message(1, 2, Uint8Array.of(1)))
      yield* receives(raw, clientVersion, asks(1, 255), asks(2, 1))
      raw.write(message(2, 2, Uint8Array.of(0)))
      yield* receives(raw, clientVersion, asks(1, 255), asks(2, 1), asks(3, 0))
      assert.equal((yield* connection.state).endpoints[0]?.callsInFlight, 0)
      assert.equal((yield* connection.state).endpoints[0]?.latency, undefined)
    }).pipe(onNetwork))

  it.effect("probes again after a second where the answer has nothing new, or cannot be read", () =>
    Effect.gen(function*() {
      const a = yield* byHand("a")
      yield* connectToListed([a], options)
      const raw = yield* a.accepted()
      const asked = () => messagesOf(raw.received()).filter(({ type }) => type === 1).length
      yield* until(() => asked() === 1)
      raw.write(message(1, 2, Uint8Array.of(9)))
      yield* settle
      assert.equal(asked(), 1)
      yield* TestClock.adjust("1 second")
      yield* until(() => asked() === 2)
      raw.write(message(2, 2, Uint8Array.of(1)))
      yield* until(() => asked() === 3)
      raw.write(message(3, 2, Uint8Array.of(1)))
      yield* settle
      assert.equal(asked(), 3)
      yield* TestClock.adjust("1 second")
      yield* until(() => asked() === 4)
    }).pipe(onNetwork))

  it.effect("probes again after a second where the answer is too large, or an error that cannot be read", () =>
    Effect.gen(function*() {
      const a = yield* byHand("a")
      const { connection } = yield* connectToListed([a], { ...options, maxMessageSize: 1024 })
      const raw = yield* a.accepted()
      const asked = () => messagesOf(raw.received()).filter(({ type }) => type === 1).length
      const wrong = [message(1, 2, new Uint8Array(2000)), message(2, 3, new Uint8Array(2000)), message(3, 3)]
      for (const [index, answer] of wrong.entries()) {
        yield* until(() => asked() === index + 1)
        raw.write(answer)
        yield* settle
        yield* TestClock.adjust(999)
        yield* settle
        assert.equal(asked(), index + 1)
        yield* TestClock.adjust(1)
      }
      yield* until(() => asked() === 4)
      raw.write(message(4, 2, Uint8Array.of(1)))
      yield* serving(connection, true)
      assert.equal((yield* connection.state).endpoints[0]?.lastFailure, undefined)
    }).pipe(onNetwork))

  it.effect("closes its connection to a server that goes away, though the probe is not answered", () =>
    Effect.gen(function*() {
      const a = yield* byHand("a")
      yield* connectToListed([a], options)
      const raw = yield* a.accepted()
      yield* until(() => messagesOf(raw.received()).some(({ type }) => type === 1))
      yield* a.leave(raw)
      yield* raw.closed
      // In which the client has said that no more requests follow.
      yield* until(() => messagesOf(raw.received()).some(({ id, type }) => id === 0 && type === 0))
    }).pipe(onNetwork))

  it.effect("stops probing a server that is no longer listed", () =>
    Effect.gen(function*() {
      const [a, b] = [yield* start("a"), yield* start("b")]
      const { connection, list } = yield* connectToListed([a, b], options)
      yield* serving(connection, true, true)
      yield* list(b)
      yield* untilState(connection, ({ endpoints }) => endpoints.length === 1)
    }).pipe(onNetwork))

  it.effect(
    "does not count its probes as calls",
    meteredInMemory((metrics) =>
      Effect.gen(function*() {
        const a = yield* start("a")
        const { connection } = yield* connectToListed([a], options)
        yield* serving(connection, true)
        yield* a.health.set("NotServing")
        yield* serving(connection, false)
        assert.deepEqual(callsOf(metrics, "client"), [])
      })
    )
  )

  it.effect("ends its probes when it is closed, so that a server that stops does not wait for them", () =>
    Effect.gen(function*() {
      const a = yield* start("a")
      const { connection } = yield* connectToListed([a], options)
      yield* serving(connection, true)
      const closing = yield* Effect.forkChild(connection.close, { startImmediately: true })
      yield* Fiber.join(closing)
      yield* TestClock.adjust("1 minute")
      yield* settle
    }).pipe(onNetwork))
})
