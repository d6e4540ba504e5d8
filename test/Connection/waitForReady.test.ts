import { describe, it } from "@effect/vitest"
import { Effect, Fiber } from "effect"
import { Balancer, CallError, Connection, Resolver } from "effect-call"
import { TestNetwork } from "effect-call/testing"
import { TestClock } from "effect/testing"
import * as assert from "node:assert/strict"
import { ask, connectToListed, counted, elapse, settle, startInMemory } from "./support.ts"

const onNetwork = Effect.provide(TestNetwork.layer)

describe("a call with waitForReady", () => {
  const waiting = { waitForReady: true }

  it.effect("waits for endpoints", () =>
    Effect.gen(function*() {
      const a = yield* startInMemory("a")
      const { connection, list } = yield* connectToListed([])
      const calls = yield* Effect.forkChild(
        Effect.all([ask(connection, waiting), ask(connection, { ...waiting, shardKey: 1n })], { concurrency: 2 }),
        {
          startImmediately: true
        }
      )
      yield* settle
      assert.equal(calls.pollUnsafe(), undefined)
      yield* list(a)
      assert.deepEqual(yield* Fiber.join(calls), ["a", "a"])
    }).pipe(onNetwork))

  it.effect("waits for the end of a backoff, its own as well as one it finds, and dials no earlier", () =>
    Effect.gen(function*() {
      const a = yield* startInMemory("a")
      const endpoint = counted(a.endpoint)
      yield* TestNetwork.fault("a", { dial: "refuse" })
      const connection = yield* Connection.make(Resolver.constant(endpoint), { backoff: { jitter: 0 } })
      const own = yield* Effect.forkChild(ask(connection, waiting), { startImmediately: true })
      yield* settle
      assert.equal(endpoint.dials, 1)
      const found = yield* Effect.forkChild(ask(connection, waiting), { startImmediately: true })
      yield* TestClock.adjust(49)
      yield* settle
      assert.equal(endpoint.dials, 1)
      yield* TestNetwork.heal("a")
      yield* TestClock.adjust(1)
      assert.deepEqual([yield* Fiber.join(own), yield* Fiber.join(found)], ["a", "a"])
      assert.equal(endpoint.dials, 2)
    }).pipe(onNetwork))

  it.effect("waits through as many backoffs as it takes", () =>
    Effect.gen(function*() {
      const a = yield* startInMemory("a")
      const endpoint = counted(a.endpoint)
      yield* TestNetwork.fault("a", { dial: "refuse" })
      const connection = yield* Connection.make(Resolver.constant(endpoint))
      const call = yield* Effect.forkChild(ask(connection, waiting), { startImmediately: true })
      while (endpoint.dials < 6) {
        yield* TestClock.adjust(5)
        yield* settle
      }
      yield* TestNetwork.heal("a")
      yield* elapse(call, 5)
      assert.equal(yield* Fiber.join(call), "a")
      assert.equal(endpoint.dials, 7)
    }).pipe(onNetwork))

  it.effect("does not miss a backoff that ends while its balancer is picking", () =>
    Effect.gen(function*() {
      yield* startInMemory("a")
      yield* TestNetwork.fault("a", { dial: "refuse" })
      const { connection } = yield* connectToListed([{ endpoint: yield* TestNetwork.endpoint("a") }])
      assert.equal((yield* Effect.flip(ask(connection)))._tag, "Unreachable")
      yield* TestNetwork.heal("a")
      const picks: Array<number> = []
      const balancer = yield* Balancer.make(([first], { avoid }) => {
        picks.push(avoid.size)
        if (avoid.size === 0) return Effect.succeed(first!)
        return Effect.andThen(
          TestClock.adjust("1 second"),
          Effect.fail(new CallError.Unreachable({ message: "to be avoided", attempts: [] }))
        )
      })
      assert.equal(yield* ask(connection, { ...waiting, balancer }), "a")
      assert.deepEqual(picks, [1, 0])
    }).pipe(onNetwork))

  it.effect("does not miss that another call has connected an endpoint while its balancer is picking", () =>
    Effect.gen(function*() {
      yield* startInMemory("a")
      yield* TestNetwork.fault("a", { dial: "refuse" })
      const { connection } = yield* connectToListed([{ endpoint: yield* TestNetwork.endpoint("a") }])
      assert.equal((yield* Effect.flip(ask(connection)))._tag, "Unreachable")
      yield* TestNetwork.heal("a")
      const picks: Array<number> = []
      const balancer = yield* Balancer.make(([first], { avoid }) => {
        picks.push(avoid.size)
        if (avoid.size === 0) return Effect.succeed(first!)
        return TestClock.adjust("1 second").pipe(
          Effect.andThen(Effect.orDie(ask(connection))),
          Effect.andThen(Effect.fail(new CallError.Unreachable({ message: "to be avoided", attempts: [] })))
        )
      })
      assert.equal(yield* ask(connection, { ...waiting, balancer }), "a")
      assert.deepEqual(picks, [1, 0])
    }).pipe(onNetwork))

  it.effect("waits with a balancer that always picks the endpoint that is down, without dialing it more often", () =>
    Effect.gen(function*() {
      const [a] = yield* Effect.forEach(["a", "b"], startInMemory)
      const endpoint = counted(a!.endpoint)
      yield* TestNetwork.fault("a", { dial: "refuse" })
      const balancer = Balancer.make((endpoints) => Effect.succeed(endpoints[0]!))
      const connection = yield* Connection.make(Resolver.constant(endpoint), { balancer, backoff: { jitter: 0 } })
      const call = yield* Effect.forkChild(ask(connection, waiting), { startImmediately: true })
      // Dials at 0, 50, 130 and 258 ms.
      yield* TestClock.adjust(257)
      yield* settle
      assert.equal(endpoint.dials, 3)
      yield* TestNetwork.heal("a")
      yield* TestClock.adjust(1)
      assert.equal(yield* Fiber.join(call), "a")
    }).pipe(onNetwork))

  it.effect("ends at its deadline", () =>
    Effect.gen(function*() {
      yield* TestNetwork.fault("dead", { dial: "refuse" })
      for (const endpoints of [[], [{ endpoint: yield* TestNetwork.endpoint("dead") }]]) {
        const { connection } = yield* connectToListed(endpoints)
        const call = yield* Effect.forkChild(Effect.flip(ask(connection, { ...waiting, timeout: "300 millis" })), {
          startImmediately: true
        })
        assert.equal(yield* elapse(call, 10), 300)
        const error = yield* Fiber.join(call)
        assert.equal(error._tag, "DeadlineExceeded")
        if (endpoints.length > 0) assert.match(error.message, /memory:\/\/dead: .*refused/)
      }
    }).pipe(onNetwork))

  it.effect("can be interrupted, and ends with the Connection", () =>
    Effect.gen(function*() {
      yield* TestNetwork.fault("dead", { dial: "refuse" })
      for (const endpoints of [[], [{ endpoint: yield* TestNetwork.endpoint("dead") }]]) {
        const { connection } = yield* connectToListed(endpoints)
        const interrupted = yield* Effect.forkChild(ask(connection, waiting), { startImmediately: true })
        const call = yield* Effect.forkChild(Effect.flip(ask(connection, waiting)), { startImmediately: true })
        yield* settle
        yield* Fiber.interrupt(interrupted)
        assert.equal(call.pollUnsafe(), undefined)
        yield* connection.close
        const error = yield* Fiber.join(call)
        assert.ok(error._tag === "CommunicationError", error._tag)
        assert.deepEqual([error.reason._tag, error.maybeExecuted], ["Closed", false])
      }
    }).pipe(onNetwork))
})
