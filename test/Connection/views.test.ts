/** What a balancer is shown of the endpoints it picks from. */
import { describe, it } from "@effect/vitest"
import { Effect, Fiber, SubscriptionRef } from "effect"
import { Balancer, CallError, Endpoint, MethodKey } from "effect-call"
import { TestNetwork } from "effect-call/testing"
import { TestClock } from "effect/testing"
import * as assert from "node:assert/strict"
import { component } from "../support/networks.ts"
import { ask, askSlowly, connectToListed, settle, startInMemory, until, untilState } from "./support.ts"

const onNetwork = Effect.provide(TestNetwork.layer)
const fork = <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.forkChild(effect, { startImmediately: true })

/** A balancer that takes the first endpoint, and keeps what it was given. */
const watching = () => {
  let endpoints: ReadonlyArray<Endpoint.Endpoint> = []
  const seen: { views: ReadonlyArray<Balancer.EndpointView>; updates: number } = { views: [], updates: 0 }
  const balancer: Balancer.Balancer = {
    update: (listed, views = []) => {
      endpoints = listed
      seen.views = views
      seen.updates++
    },
    pick: ({ avoid }) =>
      Effect.suspend(() => {
        const endpoint = endpoints.find(({ address }) => !avoid.has(address))
        return endpoint === undefined
          ? Effect.fail(new CallError.Unreachable({ message: "none", attempts: [] }))
          : Effect.succeed(endpoint)
      })
  }
  return { balancer, seen, make: Effect.succeed(balancer) }
}

describe("a balancer sees", () => {
  it.effect("a view of each endpoint, in their order, that stays the same while it is listed", () =>
    Effect.gen(function*() {
      const [a, b] = [yield* startInMemory("a"), yield* startInMemory("b")]
      const { make, seen } = watching()
      const { list } = yield* connectToListed([a, b], { balancer: make })
      const first = seen.views
      assert.deepEqual(first.map(({ endpoint }) => endpoint.address), ["memory://a", "memory://b"])
      yield* list(b, a)
      yield* until(() => seen.updates === 2)
      assert.deepEqual(seen.views.map((view) => first.indexOf(view)), [1, 0])
    }).pipe(onNetwork))

  it.effect("the same where it is the balancer of one call", () =>
    Effect.gen(function*() {
      const a = yield* startInMemory("a")
      const { balancer, seen } = watching()
      const { connection } = yield* connectToListed([a])
      yield* ask(connection, { balancer })
      assert.deepEqual(seen.views.map(({ state }) => state), ["Active"])
    }).pipe(onNetwork))

  it.effect("the state of an endpoint", () =>
    Effect.gen(function*() {
      const a = yield* startInMemory("a")
      const { make, seen } = watching()
      const { connection } = yield* connectToListed([a], { balancer: make })
      assert.equal(seen.views[0]!.state, "Idle")
      yield* ask(connection)
      assert.equal(seen.views[0]!.state, "Active")
    }).pipe(onNetwork))

  it.effect("calls in flight, and calls that wait for a connection, as pending", () =>
    Effect.gen(function*() {
      const a = yield* startInMemory("a")
      yield* TestNetwork.fault("a", { dial: "hang" })
      const { make, seen } = watching()
      const { connection } = yield* connectToListed([a], { balancer: make })
      const calls = yield* Effect.replicateEffect(fork(askSlowly(connection)), 2)
      yield* settle
      assert.deepEqual([seen.views[0]!.state, seen.views[0]!.callsPending], ["Dialing", 2])
      yield* TestNetwork.heal("a")
      yield* Effect.forEach(calls, Fiber.interrupt)
      assert.equal(seen.views[0]!.callsPending, 0)
      const later = yield* Effect.replicateEffect(fork(askSlowly(connection)), 3)
      yield* until(() => a.holding === 3)
      assert.deepEqual([seen.views[0]!.state, seen.views[0]!.callsPending], ["Active", 3])
      yield* a.gate.open
      yield* Effect.forEach(later, Fiber.join)
      assert.equal(seen.views[0]!.callsPending, 0)
    }).pipe(onNetwork))

  it.effect("how long its answers take, of which a slow one counts at once", () =>
    Effect.gen(function*() {
      const a = yield* startInMemory("a")
      const { make, seen } = watching()
      const { connection } = yield* connectToListed([a], { balancer: make })
      assert.equal(seen.views[0]!.latency, undefined)
      yield* ask(connection)
      assert.equal(seen.views[0]!.latency, 0)
      const call = yield* fork(askSlowly(connection))
      yield* TestClock.adjust("250 millis")
      yield* a.gate.open
      yield* Fiber.join(call)
      assert.equal(seen.views[0]!.latency, 250)
      yield* TestClock.adjust("10 seconds")
      assert.equal(Math.round(Number(seen.views[0]?.latency)), Math.round(250 / Math.E))
    }).pipe(onNetwork))

  it.effect("how long a call has waited, though another one was sent on another connection since", () =>
    Effect.gen(function*() {
      const a = yield* startInMemory("a")
      const { make, seen } = watching()
      const { connection } = yield* connectToListed([a], { balancer: make, eager: true, connectionsPerEndpoint: 2 })
      yield* until(() => a.open === 2)
      yield* ask(connection)
      yield* fork(askSlowly(connection))
      yield* TestClock.adjust("1 second")
      yield* fork(askSlowly(connection))
      yield* TestClock.adjust("100 millis")
      assert.equal(seen.views[0]!.latency, 1100)
    }).pipe(onNetwork))

  it.effect("the time that a call was given as what an answer takes that never came", () =>
    Effect.gen(function*() {
      const a = yield* startInMemory("a")
      const { make, seen } = watching()
      const { connection } = yield* connectToListed([a], { balancer: make, outlierEjection: false })
      yield* ask(connection)
      const call = yield* fork(Effect.flip(askSlowly(connection, { timeout: "400 millis" })))
      yield* TestClock.adjust("400 millis")
      assert.equal((yield* Fiber.join(call))._tag, "DeadlineExceeded")
      assert.equal(seen.views[0]!.latency, 400)
      assert.equal(seen.views[0]!.failuresInARow, 1)
    }).pipe(onNetwork))

  it.effect("no low latency where an endpoint refuses calls at once", () =>
    Effect.gen(function*() {
      const a = yield* startInMemory("a")
      const { make, seen } = watching()
      const { connection } = yield* connectToListed([a], { balancer: make })
      const slow = yield* fork(askSlowly(connection))
      yield* TestClock.adjust("100 millis")
      yield* a.gate.open
      yield* Fiber.join(slow)
      const unknown = MethodKey.make(component, "nothing")
      assert.equal(seen.views[0]!.latency, 100)
      yield* Effect.flip(connection.call(unknown, new Uint8Array()))
      assert.equal(seen.views[0]!.latency, 100)
    }).pipe(onNetwork))

  it.effect("the weight of an endpoint, by default 1", () =>
    Effect.gen(function*() {
      const [a, b] = [yield* startInMemory("a"), yield* startInMemory("b")]
      const heavy = { endpoint: Endpoint.withAttributes(a.endpoint, { weight: 3 }) }
      const { make, seen } = watching()
      yield* connectToListed([heavy, b], { balancer: make })
      assert.deepEqual(seen.views.map(({ weight }) => weight), [3, 1])
    }).pipe(onNetwork))
})

describe("an endpoint that starts slowly", () => {
  it.effect("has a tenth of its weight when it is connected, and all of it in the end", () =>
    Effect.gen(function*() {
      const a = yield* startInMemory("a")
      const { make, seen } = watching()
      const { connection } = yield* connectToListed(
        [{ endpoint: Endpoint.withAttributes(a.endpoint, { weight: 2 }) }],
        {
          balancer: make,
          slowStart: "10 seconds"
        }
      )
      const weight = () => Number(seen.views[0]!.weight.toFixed(3))
      assert.equal(weight(), 2)
      yield* ask(connection)
      assert.equal(weight(), 0.2)
      yield* TestClock.adjust("5 seconds")
      assert.equal(weight(), 1)
      yield* TestClock.adjust("5 seconds")
      assert.equal(weight(), 2)
    }).pipe(onNetwork))

  it.effect("starts slowly again when it was lost", () =>
    Effect.gen(function*() {
      const a = yield* startInMemory("a")
      const { make, seen } = watching()
      const { connection } = yield* connectToListed([a], { balancer: make, slowStart: "10 seconds" })
      yield* ask(connection)
      yield* TestClock.adjust("10 seconds")
      assert.equal(seen.views[0]!.weight, 1)
      yield* TestNetwork.fault("a", { cutAfter: { toClient: 0 } })
      yield* untilState(connection, ({ endpoints }) => endpoints[0]?.state === "Idle")
      yield* TestNetwork.heal("a")
      yield* TestClock.adjust("1 second")
      yield* ask(connection)
      assert.equal(seen.views[0]!.weight, 0.1)
    }).pipe(onNetwork))
})

describe("a balancer that picks by weight", () => {
  it.effect("uses the new weights where the resolver lowers those of all endpoints", () =>
    Effect.gen(function*() {
      const replicas = yield* Effect.forEach(["a", "b", "c"], startInMemory)
      const withWeights = (...weights: ReadonlyArray<number>) =>
        replicas.map(({ endpoint }, index) => ({
          endpoint: Endpoint.withAttributes(endpoint, { weight: weights[index] })
        }))
      const { connection, endpoints } = yield* connectToListed(withWeights(100, 100, 100), {
        balancer: Balancer.weighted
      })
      yield* SubscriptionRef.set(endpoints, withWeights(1, 2, 3).map(({ endpoint }) => endpoint))
      yield* settle
      yield* Effect.replicateEffect(ask(connection), 60)
      assert.deepEqual(replicas.map(({ answered }) => answered), [10, 20, 30])
    }).pipe(onNetwork))
})
