/** Endpoints that are used only where those with a better priority cannot be. */
import { describe, it } from "@effect/vitest"
import { Effect, SubscriptionRef } from "effect"
import { Balancer, Connection, Endpoint, Resolver } from "effect-call"
import { TestNetwork } from "effect-call/testing"
import * as assert from "node:assert/strict"
import { ask, connectToListed, type Replica, settle, startInMemory, untilState } from "./support.ts"

const onNetwork = Effect.provide(TestNetwork.layer)

const withPriority = ({ endpoint }: Replica, priority: number) => ({
  endpoint: Endpoint.withAttributes(endpoint, { priority })
})

const startAll = Effect.forEach(["a", "b", "c"], startInMemory)

const whoAnswers = Effect.fnUntraced(function*(connection: Connection.Connection, calls = 6) {
  const answers = yield* Effect.replicateEffect(ask(connection), calls)
  return [...new Set(answers)].toSorted().join(" ")
})

describe("calls", () => {
  it.effect("go to the endpoints with the lowest number", () =>
    Effect.gen(function*() {
      const [a, b, c] = yield* startAll
      const { connection } = yield* connectToListed([withPriority(a!, 1), withPriority(b!, 0), withPriority(c!, 0)])
      assert.equal(yield* whoAnswers(connection), "b c")
    }).pipe(onNetwork))

  it.effect("go to the next ones where none of those can be reached, and back when one can be", () =>
    Effect.gen(function*() {
      const [a, b, c] = yield* startAll
      const { connection } = yield* connectToListed([withPriority(a!, 0), withPriority(b!, 1), withPriority(c!, 2)], {
        eager: true,
        backoff: { initial: 1, factor: 1, jitter: 0 }
      })
      yield* untilState(connection, ({ endpoints }) => endpoints.every(({ state }) => state === "Active"))
      assert.equal(yield* whoAnswers(connection), "a")
      yield* TestNetwork.fault("a", { dial: "refuse", cutAfter: { toClient: 0 } })
      yield* untilState(connection, ({ endpoints }) => endpoints[0]?.state !== "Active")
      assert.equal(yield* whoAnswers(connection), "b")
    }).pipe(onNetwork))

  it.effect("fail over to the next ones in one call", () =>
    Effect.gen(function*() {
      const [a, b] = yield* startAll
      yield* TestNetwork.fault("a", { dial: "refuse" })
      const { connection } = yield* connectToListed([withPriority(a!, 0), withPriority(b!, 1)])
      assert.equal(yield* ask(connection), "b")
    }).pipe(onNetwork))

  it.effect("go elsewhere when the resolver gives an endpoint another priority", () =>
    Effect.gen(function*() {
      const [a, b] = yield* startAll
      const { connection, endpoints } = yield* connectToListed([withPriority(a!, 0), withPriority(b!, 1)])
      assert.equal(yield* whoAnswers(connection), "a")
      yield* SubscriptionRef.set(endpoints, [withPriority(a!, 2).endpoint, withPriority(b!, 1).endpoint])
      yield* settle
      assert.equal(yield* whoAnswers(connection), "b")
    }).pipe(onNetwork))

  it.effect("with a shard key go to its endpoint, with any priority", () =>
    Effect.gen(function*() {
      const [a, b] = yield* startAll
      const { connection } = yield* connectToListed([withPriority(a!, 0), withPriority(b!, 1)], {
        balancer: Balancer.sharded
      })
      assert.deepEqual(
        yield* Effect.forEach([0n, 1n], (shardKey) => ask(connection, { shardKey })),
        ["a", "b"]
      )
    }).pipe(onNetwork))
})

describe("attributes that make no sense", () => {
  for (
    const [attributes, message] of [
      [{ priority: -1 }, "the priority of tcp://a:1: expected a whole number, 0 or more, got -1"],
      [{ priority: 0.5 }, "the priority of tcp://a:1: expected a whole number, 0 or more, got 0.5"],
      [{ weight: 0 }, "the weight of tcp://a:1: expected a number above 0, got 0"],
      [{ weight: NaN }, "the weight of tcp://a:1: expected a number above 0, got NaN"],
      [{ weight: Infinity }, "the weight of tcp://a:1: expected a number above 0, got Infinity"]
    ] as const
  ) {
    it.effect(`are a defect: ${message}`, () =>
      Effect.gen(function*() {
        const endpoint = Endpoint.withAttributes(Endpoint.tcp("a:1"), attributes)
        const exit = yield* Effect.exit(Connection.make(Resolver.constant(endpoint)))
        assert.ok(exit._tag === "Failure")
        const [reason] = exit.cause.reasons
        assert.ok(reason?._tag === "Die" && reason.defect instanceof RangeError)
        assert.equal(reason.defect.message, message)
      }))
  }
})
