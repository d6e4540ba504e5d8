/** A balancer that says that a shard key has one endpoint only, and what a Connection then asks of it. */
import { describe, it } from "@effect/vitest"
import { Effect, Fiber } from "effect"
import { Balancer, CallError, Connection, Endpoint, Resolver } from "effect-call"
import { TestNetwork } from "effect-call/testing"
import * as assert from "node:assert/strict"
import { ask, elapse, type Replica, startInMemory } from "../Connection/support.ts"

const onNetwork = Effect.provide(TestNetwork.layer)

const startAll = Effect.forEach(["a", "b"], startInMemory)

const withPriorities = (replicas: ReadonlyArray<Replica>) =>
  Resolver.constant(
    ...replicas.map(({ endpoint }, index) => Endpoint.withAttributes(endpoint, { priority: index }))
  )

/** Gives key k the endpoint at index k, and tells what it was asked to avoid. */
const byIndex = (stickiness: Balancer.Balancer["stickiness"]) => {
  const asked: Array<ReadonlyArray<string>> = []
  const balancer = Balancer.make((endpoints, { avoid, shardKey = 0n }) => {
    asked.push([...avoid])
    const endpoint = endpoints[Number(shardKey)]
    return endpoint === undefined || avoid.has(endpoint.address)
      ? Effect.fail(new CallError.Unreachable({ message: "its endpoint is excluded", attempts: [] }))
      : Effect.succeed(endpoint)
  }).pipe(Effect.map((made): Balancer.Balancer => ({ ...made, stickiness })))
  return { asked, balancer }
}

/** Makes seven calls with key 0 to an endpoint that has stopped answering, and tells which endpoints are ejected. */
const ejectedAfterTimeouts = Effect.fnUntraced(function*(connection: Connection.Connection) {
  assert.equal(yield* ask(connection, { shardKey: 0n }), "a")
  yield* TestNetwork.fault("a", { blackHole: "toClient" })
  for (let i = 0; i < 7; i++) {
    const asking = yield* Effect.forkChild(
      Effect.exit(ask(connection, { shardKey: 0n, timeout: "1 second" })),
      { startImmediately: true }
    )
    yield* elapse(asking, 1000)
    yield* Fiber.join(asking)
  }
  const { endpoints } = yield* connection.state
  return endpoints.filter(({ isEjected }) => isEjected).map(({ address }) => address)
})

describe("a balancer of the user's own with stickiness \"key\"", () => {
  it.effect("is not asked to avoid an endpoint of another priority for a key", () =>
    Effect.gen(function*() {
      const { asked, balancer } = byIndex("key")
      const connection = yield* Connection.make(withPriorities(yield* startAll), { balancer })
      assert.equal(yield* ask(connection, { shardKey: 1n }), "b")
      assert.deepEqual(asked, [[]])
    }).pipe(onNetwork))

  it.effect("is asked to avoid it for a call without a key", () =>
    Effect.gen(function*() {
      const { asked, balancer } = byIndex("key")
      const connection = yield* Connection.make(withPriorities(yield* startAll), { balancer })
      assert.equal(yield* ask(connection), "a")
      assert.deepEqual(asked, [["memory://b"]])
    }).pipe(onNetwork))

  it.effect("is asked to avoid an endpoint that cannot be dialed, and is not asked again without it", () =>
    Effect.gen(function*() {
      const replicas = yield* startAll
      yield* TestNetwork.fault("b", { dial: "refuse" })
      const { asked, balancer } = byIndex("key")
      const connection = yield* Connection.make(withPriorities(replicas), { balancer })
      const error = yield* Effect.flip(ask(connection, { shardKey: 1n }))
      assert.equal(error._tag, "Unreachable")
      assert.deepEqual(asked, [[], ["memory://b"]])
      assert.equal(replicas[0]!.answered, 0)
    }).pipe(onNetwork))

  it.effect("has no endpoint ejected", () =>
    Effect.gen(function*() {
      const connection = yield* Connection.make(withPriorities(yield* startAll), byIndex("key"))
      assert.deepEqual(yield* ejectedAfterTimeouts(connection), [])
    }).pipe(onNetwork))

  it.effect("has endpoints ejected where outlierEjection is given", () =>
    Effect.gen(function*() {
      const { balancer } = byIndex("key")
      const connection = yield* Connection.make(withPriorities(yield* startAll), { balancer, outlierEjection: {} })
      assert.deepEqual(yield* ejectedAfterTimeouts(connection), ["memory://a"])
      const error = yield* Effect.flip(ask(connection, { shardKey: 0n }))
      assert.equal(error._tag, "Unreachable")
    }).pipe(onNetwork))

  it.effect("counts for a single call that is given it", () =>
    Effect.gen(function*() {
      const connection = yield* Connection.make(withPriorities(yield* startAll))
      const { asked, balancer } = byIndex("key")
      assert.equal(yield* ask(connection, { balancer: yield* balancer, shardKey: 1n }), "b")
      assert.deepEqual(asked, [[]])
    }).pipe(onNetwork))
})

describe("a balancer of the user's own without stickiness", () => {
  it.effect("is first asked to avoid an endpoint of another priority, and then offered all that can be called", () =>
    Effect.gen(function*() {
      const { asked, balancer } = byIndex(undefined)
      const connection = yield* Connection.make(withPriorities(yield* startAll), { balancer })
      assert.equal(yield* ask(connection, { shardKey: 1n }), "b")
      assert.deepEqual(asked, [["memory://b"], []])
    }).pipe(onNetwork))

  it.effect("has endpoints ejected", () =>
    Effect.gen(function*() {
      const connection = yield* Connection.make(withPriorities(yield* startAll), byIndex(undefined))
      assert.deepEqual(yield* ejectedAfterTimeouts(connection), ["memory://a"])
    }).pipe(onNetwork))
})

describe("of the balancers of this package", () => {
  it.effect("only sharded has stickiness, also after it is copied", () =>
    Effect.gen(function*() {
      const sharded = yield* Balancer.sharded
      assert.equal(sharded.stickiness, "key")
      assert.equal({ ...sharded }.stickiness, "key")
      const others = [
        Balancer.roundRobin,
        Balancer.weighted,
        Balancer.leastPending,
        Balancer.peakEwma,
        Balancer.consistentHash,
        Balancer.make(([first]) => Effect.succeed(first!))
      ]
      for (const make of others) assert.equal((yield* make).stickiness, undefined)
    }))

  it.effect("a balancer that wraps sharded does not inherit its stickiness", () =>
    Effect.gen(function*() {
      assert.equal((yield* Balancer.zoneAware("z", Balancer.sharded)).stickiness, undefined)
      assert.equal((yield* Balancer.subset(1, { client: "c" }, Balancer.sharded)).stickiness, undefined)
    }))
})

describe("a stickiness that is neither \"key\" nor undefined", () => {
  for (const [value, shown] of [["keys", "\"keys\""], [true, "true"], [null, "null"]] as const) {
    const wrong = Effect.map(
      Balancer.roundRobin,
      (balancer): Balancer.Balancer => ({ ...balancer, stickiness: value as never })
    )
    const message = `the stickiness of the balancer: expected "key" or undefined, got ${shown}`

    it.effect(`is a defect of the Connection that names it: ${shown}`, () =>
      Effect.gen(function*() {
        const { endpoint } = yield* startInMemory("a")
        const exit = yield* Effect.exit(Connection.make(Resolver.constant(endpoint), { balancer: wrong }))
        assert.ok(String(exit).includes(message), String(exit))
      }).pipe(onNetwork))

    it.effect(`is a defect of the call that names it: ${shown}`, () =>
      Effect.gen(function*() {
        const connection = yield* Connection.make(Resolver.constant((yield* startInMemory("a")).endpoint))
        const exit = yield* Effect.exit(ask(connection, { balancer: yield* wrong }))
        assert.ok(String(exit).includes(message), String(exit))
        assert.equal(yield* ask(connection), "a")
      }).pipe(onNetwork))

    it.effect(`is a defect of a balancer that asks it: ${shown}`, () =>
      Effect.gen(function*() {
        const exit = yield* Effect.exit(Balancer.zoneAware("z", wrong))
        assert.ok(String(exit).includes(message), String(exit))
      }))
  }
})
