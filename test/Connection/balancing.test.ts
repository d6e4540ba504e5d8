import { describe, it } from "@effect/vitest"
import { Cause, Effect, Exit, Layer, SubscriptionRef } from "effect"
import { Balancer, CallError, Connection, type Endpoint, Resolver } from "effect-call"
import { TestNetwork } from "effect-call/testing"
import { TestClock } from "effect/testing"
import * as assert from "node:assert/strict"
import { eachNetwork, tcp, unix } from "../support/networks.ts"
import { ask, askSlowly, counted, settle, startInMemory, startOn, until, untilState } from "./support.ts"

const onNetwork = Effect.provide(TestNetwork.layer)

const connectTo = (endpoints: ReadonlyArray<Endpoint.Endpoint>, options?: Connection.ClientOptions) =>
  Connection.make(Resolver.constant(...endpoints), options)

const startAll = (...names: ReadonlyArray<string>) => Effect.forEach(names, startInMemory)
const endpointsOf = (replicas: ReadonlyArray<{ readonly endpoint: Endpoint.Endpoint }>) =>
  replicas.map(({ endpoint }) => endpoint)

const askTimes = (connection: Connection.Connection, times: number, options?: Connection.CallOptions) =>
  Effect.replicateEffect(ask(connection, options), times)

/** What a fiber that died, died of. */
const defectOf = <A, E>(exit: Exit.Exit<A, E>): unknown => {
  assert.ok(Exit.isFailure(exit), "it has not failed")
  return Cause.squash(exit.cause)
}

describe("round robin", () => {
  eachNetwork((network) => {
    for (const count of [1, 2, 3, 5]) {
      it.live(`takes ${count} endpoints in turn, in the resolver's order, from the first call on`, () =>
        Effect.gen(function*() {
          const names = ["e", "d", "c", "b", "a"].slice(0, count)
          const connection = yield* connectTo(endpointsOf(yield* Effect.forEach(names, startOn(network))))
          // The first round dials, the others find the connections open.
          assert.deepEqual(yield* askTimes(connection, 4 * count), [...names, ...names, ...names, ...names])
        }))
    }

    it.live("spreads concurrent calls evenly, also while nothing is connected yet", () =>
      Effect.gen(function*() {
        const replicas = yield* Effect.forEach(["a", "b", "c"], startOn(network))
        const connection = yield* connectTo(endpointsOf(replicas))
        yield* Effect.all(Array.from({ length: 30 }, () => ask(connection)), { concurrency: "unbounded" })
        assert.deepEqual(replicas.map(({ answered }) => answered), [10, 10, 10])
      }))
  })

  it.live("takes TCP and Unix sockets in turn", () =>
    Effect.gen(function*() {
      const replicas = [yield* startOn(tcp)("a"), yield* startOn(unix)("b"), yield* startOn(tcp)("c")]
      const connection = yield* connectTo(endpointsOf(replicas))
      assert.deepEqual(yield* askTimes(connection, 7), ["a", "b", "c", "a", "b", "c", "a"])
    }))

  it.effect("has a turn of its own in each Connection that a layer's factory serves", () =>
    Effect.gen(function*() {
      const endpoints = endpointsOf(yield* startAll("a", "b"))
      const connect = Layer.build(Layer.fresh(Connection.layer())).pipe(
        Effect.map((context) => context.mapUnsafe.get(Connection.Connection.key) as Connection.Connection)
      )
      yield* Effect.gen(function*() {
        const first = yield* connect
        const second = yield* connect
        assert.equal(yield* ask(first), "a")
        assert.equal(yield* ask(second), "a")
        assert.equal(yield* ask(first), "b")
        assert.equal(yield* ask(second), "b")
      }).pipe(Effect.provide([Resolver.layer(Resolver.constant(...endpoints)), Balancer.layer(Balancer.roundRobin)]))
    }).pipe(onNetwork))
})

describe("sharding", () => {
  const sharded = { balancer: Balancer.sharded }

  eachNetwork((network) => {
    const startReplica = startOn(network)

    it.live("sends key k to endpoint k mod n, over all of u64", () =>
      Effect.gen(function*() {
        const names = ["a", "b", "c"]
        const connection = yield* connectTo(endpointsOf(yield* Effect.forEach(names, startReplica)), sharded)
        const keys = [
          0n,
          1n,
          2n,
          3n,
          4n,
          2n ** 32n,
          2n ** 53n - 1n,
          2n ** 53n,
          2n ** 53n + 1n,
          2n ** 53n + 2n,
          2n ** 63n,
          2n ** 64n - 1n
        ]
        // Twice: with and without a connection that is open.
        for (const shardKey of [...keys, ...keys]) {
          assert.equal(yield* ask(connection, { shardKey }), names[Number(shardKey % 3n)], `key ${shardKey}`)
        }
      }))

    it.live("spreads calls without a key over all endpoints", () =>
      Effect.gen(function*() {
        const replicas = yield* Effect.forEach(["a", "b", "c"], startReplica)
        const connection = yield* connectTo(endpointsOf(replicas), sharded)
        yield* Effect.all(Array.from({ length: 300 }, () => ask(connection)), { concurrency: "unbounded" })
        // Each misses fewer than 50 of 300 once in a hundred million runs.
        for (const { answered, name } of replicas) assert.ok(answered > 50, `${name} got ${answered} of 300 calls`)
      }))

    it.live("never moves a call with a key to another endpoint, and names the one that is down", () =>
      Effect.gen(function*() {
        const [a, b] = yield* Effect.forEach(["a", "b"], startReplica)
        yield* b!.stop
        const connection = yield* connectTo(endpointsOf([a!, b!]), sharded)
        // Dialed now, and then in backoff.
        for (let i = 0; i < 3; i++) {
          const error = yield* Effect.flip(ask(connection, { shardKey: 1n }))
          assert.ok(error._tag === "Unreachable", error._tag)
          assert.deepEqual(error.attempts.map(({ endpoint }) => endpoint), [b!.endpoint.address])
          assert.match(error.attempts[0]!.message, /ECONNREFUSED|ENOENT|connection refused/)
        }
        assert.equal(yield* ask(connection, { shardKey: 2n }), "a")
        assert.equal(a!.answered, 1)
      }))
  })

  it.effect("moves a call without a key to an endpoint that is up", () =>
    Effect.gen(function*() {
      const endpoints = endpointsOf(yield* startAll("a", "b", "c"))
      yield* TestNetwork.fault("a", { dial: "refuse" })
      yield* TestNetwork.fault("b", { dial: "refuse" })
      const connection = yield* connectTo(endpoints, sharded)
      assert.deepEqual(yield* askTimes(connection, 20), Array.from({ length: 20 }, () => "c"))
    }).pipe(onNetwork))

  it.effect("the keys of a region reach calls that give none, and a call's own key comes first", () =>
    Effect.gen(function*() {
      const connection = yield* connectTo(endpointsOf(yield* startAll("a", "b", "c")), sharded)
      const both = Effect.all([
        ask(connection),
        ask(connection, { shardKey: 2n }),
        ask(connection, { timeout: "1 second" })
      ])
      assert.deepEqual(yield* Connection.withOptions(both, { shardKey: 1n }), ["b", "c", "b"])
    }).pipe(onNetwork))
})

describe("a shard key outside u64", () => {
  for (const shardKey of [-1n, 2n ** 64n, -(2n ** 64n)]) {
    for (const [name, balancer] of [["sharded", Balancer.sharded], ["roundRobin", Balancer.roundRobin]] as const) {
      it.effect(`${shardKey} is refused with ${name}, before anything is dialed`, () =>
        Effect.gen(function*() {
          const endpoint = counted((yield* startInMemory("a")).endpoint)
          const connection = yield* connectTo([endpoint], { balancer })
          const error = yield* Effect.flip(ask(connection, { shardKey, waitForReady: true }))
          assert.equal(error._tag, "Unreachable")
          assert.ok(error.message.includes(`${shardKey} `), error.message)
          assert.match(error.message, /18446744073709551615/)
          assert.equal(endpoint.dials, 0)
        }).pipe(onNetwork))
    }
  }
})

describe("a call's own balancer", () => {
  eachNetwork((network) => {
    const startReplica = startOn(network)

    it.live("is given the current endpoints before its pick, and does not change the Connection's", () =>
      Effect.gen(function*() {
        const [a, b, c] = endpointsOf(yield* Effect.forEach(["a", "b", "c"], startReplica))
        const endpoints = yield* SubscriptionRef.make<ReadonlyArray<Endpoint.Endpoint>>([a!, b!])
        const connection = yield* Connection.make(Resolver.fromSubscriptionRef(endpoints))
        const names = new Map([[a!, "a"], [b!, "b"], [c!, "c"]])
        const events: Array<string> = []
        let last: Endpoint.Endpoint | undefined
        const balancer: Balancer.Balancer = {
          update: (current) => {
            events.push(`update ${current.map((endpoint) => names.get(endpoint)).join("")}`)
            last = current.at(-1)
          },
          pick: () => {
            events.push("pick")
            return Effect.succeed(last!)
          }
        }
        assert.equal(yield* ask(connection), "a")
        assert.equal(yield* ask(connection, { balancer }), "b")
        // This one finds the connection open.
        assert.equal(yield* ask(connection, { balancer }), "b")
        assert.deepEqual(events, ["update ab", "pick", "update ab", "pick"])
        assert.equal(yield* ask(connection), "b")

        yield* SubscriptionRef.set(endpoints, [a!, b!, c!])
        yield* untilState(connection, ({ endpoints }) => endpoints.length === 3)
        assert.equal(yield* ask(connection, { balancer }), "c")
        assert.deepEqual(events.slice(4), ["update abc", "pick"])
      }))

    it.live("keeps its state from call to call", () =>
      Effect.gen(function*() {
        const connection = yield* connectTo(endpointsOf(yield* Effect.forEach(["a", "b", "c"], startReplica)), {
          balancer: Balancer.sharded
        })
        const balancer = yield* Balancer.roundRobin
        assert.deepEqual(yield* askTimes(connection, 4, { balancer }), ["a", "b", "c", "a"])
      }))
  })

  it.effect("fails over as the Connection's does", () =>
    Effect.gen(function*() {
      const connection = yield* connectTo(endpointsOf(yield* startAll("a", "b")), { balancer: Balancer.sharded })
      yield* TestNetwork.fault("a", { dial: "refuse" })
      const balancer = yield* Balancer.roundRobin
      assert.deepEqual(yield* askTimes(connection, 3, { balancer }), ["b", "b", "b"])
    }).pipe(onNetwork))
})

describe("a user's balancer", () => {
  it.effect("made from a function picks for every call, and sees the key and the excluded endpoints", () =>
    Effect.gen(function*() {
      const seen: Array<readonly [bigint | undefined, ReadonlyArray<string>]> = []
      const balancer = Balancer.make((endpoints, { avoid, shardKey }) => {
        seen.push([shardKey, [...avoid]])
        const free = endpoints.filter(({ address }) => !avoid.has(address))
        const last = free.at(-1)
        return last === undefined
          ? Effect.fail(new CallError.Unreachable({ message: "nothing is left", attempts: [] }))
          : Effect.succeed(last)
      })
      const connection = yield* connectTo(endpointsOf(yield* startAll("a", "b")), { balancer })
      assert.equal(yield* ask(connection, { shardKey: 7n }), "b")
      yield* TestNetwork.fault("b", { dial: "refuse", cutAfter: { toServer: 0 } })
      yield* until(() => false).pipe(Effect.raceFirst(settle))
      assert.equal(yield* ask(connection), "a")
      assert.equal(yield* ask(connection), "a")
      assert.deepEqual(seen, [[7n, []], [undefined, []], [undefined, ["memory://b"]], [undefined, ["memory://b"]]])
    }).pipe(onNetwork))

  it.effect("is given the same set of excluded endpoints until it changes, and then a new one", () =>
    Effect.gen(function*() {
      const seen: Array<ReadonlySet<string>> = []
      const balancer = Balancer.make((endpoints, { avoid }) => {
        seen.push(avoid)
        return Effect.succeed(endpoints.find(({ address }) => !avoid.has(address))!)
      })
      const connection = yield* connectTo(endpointsOf(yield* startAll("a", "b", "c")), {
        balancer,
        backoff: { initial: "1 second", jitter: 0 }
      })
      yield* TestNetwork.fault("a", { dial: "refuse" })
      assert.equal(yield* ask(connection), "b")
      yield* TestClock.adjust("500 millis")
      yield* TestNetwork.fault("b", { dial: "refuse", cutAfter: { toServer: 0 } })
      yield* settle
      assert.equal(yield* ask(connection), "c")
      yield* TestNetwork.heal("a")
      yield* TestNetwork.heal("b")

      seen.length = 0
      assert.deepEqual(yield* askTimes(connection, 3), ["c", "c", "c"])
      yield* TestClock.adjust("499 millis")
      assert.deepEqual(yield* askTimes(connection, 1), ["c"])
      assert.equal(new Set(seen).size, 1)
      // The first backoff ends, then the other one.
      yield* TestClock.adjust("1 millis")
      assert.deepEqual(yield* askTimes(connection, 2), ["a", "a"])
      yield* TestClock.adjust("500 millis")
      assert.deepEqual(yield* askTimes(connection, 2), ["a", "a"])
      assert.deepEqual([...new Set(seen)].map((avoid) => [...avoid]), [
        ["memory://a", "memory://b"],
        ["memory://b"],
        []
      ])
    }).pipe(onNetwork))

  it.effect("may pick asynchronously", () =>
    Effect.gen(function*() {
      const balancer = Balancer.make((endpoints) => Effect.as(settle, endpoints[1]!))
      const connection = yield* connectTo(endpointsOf(yield* startAll("a", "b")), { balancer })
      assert.deepEqual(yield* askTimes(connection, 2), ["b", "b"])
    }).pipe(onNetwork))

  it.effect("is asked again where its pick has failed while it was picking", () =>
    Effect.gen(function*() {
      yield* startAll("a", "b")
      yield* TestNetwork.fault("a", { dial: "refuse" })
      const endpoints = [yield* TestNetwork.endpoint("a"), yield* TestNetwork.endpoint("b")]
      const connection = yield* connectTo(endpoints, { backoff: { initial: 0 } })
      const first = Balancer.make((endpoints, { avoid }) =>
        Effect.succeed(endpoints.find(({ address }) => !avoid.has(address))!)
      )
      const slow = yield* Balancer.make(([a, b], { avoid }) => {
        if (avoid.size > 0) return Effect.succeed(b!)
        // Another call dials the one that it picks, which fails; that one goes on to the other.
        return Effect.as(Effect.orDie(ask(connection, { balancer: Effect.runSync(first) })), a!)
      })
      assert.equal(yield* ask(connection, { balancer: slow }), "b")
    }).pipe(onNetwork))

  it.effect("fails a call with its own Unreachable where nothing was tried", () =>
    Effect.gen(function*() {
      const balancer = Balancer.make(() =>
        Effect.fail(new CallError.Unreachable({ message: "not on a Sunday", attempts: [] }))
      )
      const connection = yield* connectTo(endpointsOf(yield* startAll("a")), { balancer })
      const error = yield* Effect.flip(ask(connection))
      assert.equal(error._tag, "Unreachable")
      assert.equal(error.message, "not on a Sunday")
    }).pipe(onNetwork))

  it.effect("that returns an endpoint it was not given is a defect that says so, and the Connection lives", () =>
    Effect.gen(function*() {
      const [a] = endpointsOf(yield* startAll("a", "b"))
      const stranger = counted(yield* TestNetwork.endpoint("b"))
      const connection = yield* connectTo([a!])
      for (
        const balancer of [
          yield* Balancer.make(() => Effect.succeed(stranger)),
          { update: () => {}, pick: () => Effect.succeed(stranger) },
          { update: () => {}, pick: () => Effect.as(settle, stranger) }
        ]
      ) {
        const defect = defectOf(yield* Effect.exit(ask(connection, { balancer, waitForReady: true })))
        assert.ok(defect instanceof Error)
        assert.match(defect.message, /the balancer picked memory:\/\/b, which is none of the 1 endpoints it was given/)
      }
      assert.equal(stranger.dials, 0)
      assert.equal(yield* ask(connection), "a")
    }).pipe(onNetwork))

  it.effect("that returns an endpoint it was given before, and which still drains, is such a defect too", () =>
    Effect.gen(function*() {
      const [a, b] = yield* startAll("a", "b")
      const endpoints = yield* SubscriptionRef.make<ReadonlyArray<Endpoint.Endpoint>>(endpointsOf([a!, b!]))
      const connection = yield* Connection.make(Resolver.fromSubscriptionRef(endpoints))
      const held = yield* Effect.forkChild(askSlowly(connection), { startImmediately: true })
      yield* until(() => a!.holding === 1)
      yield* SubscriptionRef.set(endpoints, [b!.endpoint])
      yield* settle
      const stale: Balancer.Balancer = { update: () => {}, pick: () => Effect.succeed(a!.endpoint) }
      assert.match(String(defectOf(yield* Effect.exit(ask(connection, { balancer: stale })))), /picked memory:\/\/a/)
      assert.equal(a!.answered, 0)
      assert.equal(held.pollUnsafe(), undefined)
    }).pipe(onNetwork))

  it.effect("that throws is a defect of the call, and the Connection lives", () =>
    Effect.gen(function*() {
      const connection = yield* connectTo(endpointsOf(yield* startAll("a")))
      const thrown = new Error("no such luck")
      const throws = (): never => {
        throw thrown
      }
      for (
        const balancer of [
          { update: () => {}, pick: throws },
          { update: throws, pick: throws },
          yield* Balancer.make(throws)
        ]
      ) {
        assert.equal(defectOf(yield* Effect.exit(ask(connection, { balancer }))), thrown)
      }
      assert.equal(yield* ask(connection), "a")
    }).pipe(onNetwork))

  it.effect("that always picks the same endpoint costs one dial a call where that is down, and none in its backoff", () =>
    Effect.gen(function*() {
      const [a, b] = yield* startAll("a", "b")
      yield* TestNetwork.fault("a", { dial: "refuse" })
      const first = counted(a!.endpoint)
      const balancer = Balancer.make((endpoints) => Effect.succeed(endpoints[0]!))
      const connection = yield* connectTo([first, b!.endpoint], { balancer })
      for (let i = 0; i < 3; i++) {
        const error = yield* Effect.flip(ask(connection))
        assert.ok(error._tag === "Unreachable", error._tag)
        assert.deepEqual(error.attempts.map(({ endpoint }) => endpoint), ["memory://a"])
        assert.equal(first.dials, 1)
      }
    }).pipe(onNetwork))
})
