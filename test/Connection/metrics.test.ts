/**
 * What a Connection counts of its calls: each once, however it ends. metricsOf*.test.ts are for what else it counts.
 */
import { describe, it } from "@effect/vitest"
import { Clock, Effect, Fiber, Schema, SchemaGetter } from "effect"
import { Balancer, Component, Connection, HandlerMap, MethodKey } from "effect-call"
import { TestNetwork } from "effect-call/testing"
import { Rpc, RpcGroup } from "effect/rpc"
import { TestClock } from "effect/testing"
import * as assert from "node:assert/strict"
import { clockThat } from "../support/clock.ts"
import { assertTook, callsOf, durationsOf, metered, meteredInMemory } from "../support/metrics.ts"
import { bytesOf, component, connect, echo, handlers, hang, tcp } from "../support/networks.ts"
import { fork, nothing, open, plug, served, sleep, toA } from "./metricsSupport.ts"
import { elapse, settle } from "./support.ts"

const okay = "1 echo at memory://a: ok"

/** A clock that is a millisecond later each time that it is read. */
const ticking = () => {
  let millis = 0
  return clockThat(() => ++millis)
}

describe("a call that succeeds", () => {
  it.live(
    "is counted once, under its method, and its endpoint's host and port",
    metered(({ histograms }) =>
      Effect.gen(function*() {
        const { endpoint } = yield* tcp.serve(handlers)
        const connection = yield* connect([endpoint])
        yield* connection.call(echo, nothing)
        const [calls, ...others] = histograms("rpc.client.call.duration")
        assert.deepEqual(calls!.attributes, {
          "rpc.system.name": "effect_call",
          "rpc.service": "test/Echo",
          "rpc.method": "echo",
          "server.address": "127.0.0.1",
          "server.port": endpoint.address.slice("tcp://127.0.0.1:".length),
          unit: "seconds"
        })
        assert.equal(calls!.state.count, 1)
        assert.deepEqual(others, [])
      })
    )
  )

  it.effect(
    "has taken as long as the Connection's Clock says",
    meteredInMemory((metrics) =>
      Effect.gen(function*() {
        const connection = yield* open()
        const call = yield* fork(connection.call(sleep, new Uint8Array(3000)))
        yield* elapse(call, 1000)
        assertTook(durationsOf(metrics, "client", { "rpc.method": "sleep" }), 3)
      })
    )
  )

  it.effect(
    "has taken the dial as well, where it had to wait for one",
    meteredInMemory((metrics) =>
      Effect.gen(function*() {
        yield* TestNetwork.listen("a", served)
        yield* TestNetwork.fault("a", { dial: "hang" })
        const connection = yield* toA()
        const call = yield* fork(connection.call(sleep, new Uint8Array(3000)))
        yield* TestClock.adjust("2 seconds")
        yield* TestNetwork.heal("a")
        yield* elapse(call, 1000)
        assertTook(durationsOf(metrics, "client"), 5)
      })
    )
  )

  it.effect(
    "is timed by itself, however many are under way with it",
    meteredInMemory((metrics) =>
      Effect.gen(function*() {
        const connection = yield* open()
        const calls = yield* Effect.forEach(
          Array.from({ length: 20 }, (_, i) => 1000 * (i + 1)),
          (millis) => fork(connection.call(sleep, new Uint8Array(millis)))
        )
        yield* elapse(calls.at(-1)!, 1000)
        const { count, max, min, sum } = durationsOf(metrics, "client", { "rpc.method": "sleep" })
        assert.deepEqual({ count, max, min, sum }, { count: 20, max: 20, min: 1, sum: 210 })
      })
    )
  )

  it.effect(
    "never has a negative duration, also where it was made after another one and given up at once",
    meteredInMemory((metrics) =>
      Effect.gen(function*() {
        const connection = yield* open()
        // Not known at once, so that the call is not sent as directly as the one before it.
        const slowly = yield* Balancer.make((endpoints) => Effect.sync(() => endpoints[0]!))
        const first = yield* fork(connection.call(echo, nothing))
        const second = yield* fork(connection.call(hang, nothing, { balancer: slowly }))
        yield* Fiber.interrupt(second)
        yield* Fiber.join(first)
        const { min, sum } = durationsOf(metrics, "client", { "rpc.method": "hang" })
        assert.ok(min >= 0 && sum < 1, `${sum} s`)
      }).pipe(Effect.provideService(Clock.Clock, ticking()))
    )
  )
})

describe("a call that fails is counted once", () => {
  it.effect(
    "with its handler's error",
    meteredInMemory((metrics) =>
      Effect.gen(function*() {
        const connection = yield* open()
        yield* Effect.flip(connection.call(MethodKey.make(component, "error"), bytesOf("no")))
        assert.deepEqual(callsOf(metrics, "client"), [okay, "1 error at memory://a: RemoteError"])
      })
    )
  )

  it.effect(
    "with its connection, as are all that were in flight on it",
    meteredInMemory((metrics) =>
      Effect.gen(function*() {
        const connection = yield* open()
        const calls = yield* Effect.forEach(Array.from({ length: 10 }), () =>
          fork(Effect.flip(connection.call(hang, nothing))))
        yield* settle
        yield* TestClock.adjust("3 seconds")
        yield* TestNetwork.fault("a", { cutAfter: { toClient: 0 } })
        for (const call of calls) {
          yield* Fiber.join(call)
        }
        assert.deepEqual(callsOf(metrics, "client"), [okay, "10 hang at memory://a: CommunicationError"].toSorted())
        assertTook(durationsOf(metrics, "client", { "rpc.method": "hang" }), 3, 10)
      })
    )
  )

  it.effect(
    "when its Connection closes, and where that was closed before it",
    meteredInMemory((metrics) =>
      Effect.gen(function*() {
        const connection = yield* open()
        const call = yield* fork(Effect.flip(connection.call(hang, nothing)))
        yield* settle
        yield* connection.close
        yield* Fiber.join(call)
        yield* Effect.flip(connection.call(echo, nothing))
        assert.deepEqual(callsOf(metrics, "client"), [
          "1 echo at memory://a: ok",
          "1 echo: CommunicationError",
          "1 hang at memory://a: CommunicationError"
        ])
      })
    )
  )

  it.effect(
    "when its Connection closes while it waits for a dial",
    meteredInMemory((metrics) =>
      Effect.gen(function*() {
        yield* TestNetwork.fault("a", { dial: "hang" })
        const connection = yield* toA()
        const call = yield* fork(Effect.flip(connection.call(echo, nothing)))
        yield* TestClock.adjust("3 seconds")
        yield* connection.close
        yield* Fiber.join(call)
        assert.deepEqual(callsOf(metrics, "client"), ["1 echo: CommunicationError"])
        assertTook(durationsOf(metrics, "client"), 3)
      })
    )
  )

  it.effect(
    "with arguments that are too large, without an endpoint",
    meteredInMemory((metrics) =>
      Effect.gen(function*() {
        const connection = yield* toA({ maxMessageSize: 1024 })
        yield* Effect.flip(connection.call(echo, new Uint8Array(1024)))
        assert.deepEqual(callsOf(metrics, "client"), ["1 echo: CommunicationError"])
      })
    )
  )

  it.effect(
    "with an answer that is too large, or arguments that its server refuses as too large, under its endpoint",
    meteredInMemory((metrics) =>
      Effect.gen(function*() {
        yield* TestNetwork.listen("a", served, { shutdownGrace: 0, maxMessageSize: 4096 })
        const connection = yield* toA({ maxMessageSize: 1024 })
        const large = HandlerMap.set(served, component, "large", () => Effect.succeed(new Uint8Array(2000)))
        yield* TestNetwork.listen("b", large, { shutdownGrace: 0, maxMessageSize: 1024 })
        const toB = yield* connect([yield* TestNetwork.endpoint("b")])
        yield* Effect.flip(connection.call(MethodKey.make(component, "error"), bytesOf("x".repeat(900))))
        yield* Effect.flip(toB.call(echo, new Uint8Array(1024)))
        yield* Effect.flip(toB.call(MethodKey.make(component, "large"), nothing))
        assert.deepEqual(callsOf(metrics, "client"), [
          "1 echo at memory://b: CommunicationError",
          "1 error at memory://a: CommunicationError",
          "1 large at memory://b: CommunicationError"
        ])
        assert.deepEqual(callsOf(metrics, "server"), [
          "1 _OTHER at memory://b: too_large",
          "1 error at memory://a: Error",
          "1 large at memory://b: too_large"
        ])
      })
    )
  )

  it.effect(
    "without an address where no endpoint can be reached",
    meteredInMemory((metrics) =>
      Effect.gen(function*() {
        const connection = yield* toA()
        yield* Effect.flip(connection.call(echo, nothing))
        assert.deepEqual(callsOf(metrics, "client"), ["1 echo: Unreachable"])
      })
    )
  )

  it.effect(
    "with an invalid shard key",
    meteredInMemory((metrics) =>
      Effect.gen(function*() {
        const connection = yield* open()
        yield* Effect.flip(connection.call(echo, nothing, { shardKey: -1n }))
        assert.deepEqual(callsOf(metrics, "client"), [okay, "1 echo: Unreachable"])
      })
    )
  )
})

describe("a call that is tried more than once is counted once, with all the time it took", () => {
  /** The first eligible endpoint. */
  const inOrder = Balancer.make((endpoints, { avoid }) =>
    Effect.succeed(endpoints.find(({ address }) => !avoid.has(address)) ?? endpoints[0]!)
  )

  for (
    const [where, names, balancer, counted] of [
      ["another endpoint", ["a", "b"], inOrder, [okay, "2 echo at memory://b: ok"]],
      ["the same one, on another connection", ["a"], inOrder, ["3 echo at memory://a: ok"]],
      ["the same one, whose balancer picks at once", ["a"], Balancer.roundRobin, ["3 echo at memory://a: ok"]]
    ] as const
  ) {
    it.effect(
      `when its connection was lost before it left, and it was sent to ${where}`,
      meteredInMemory((metrics) =>
        Effect.gen(function*() {
          for (const name of names) yield* TestNetwork.listen(name, served, { shutdownGrace: 0 })
          const connection = yield* connect(yield* Effect.forEach(names, TestNetwork.endpoint), { balancer })
          yield* connection.call(echo, nothing)
          const left = yield* plug(connection)
          // Copied, and sent from where it is.
          const calls = yield* Effect.forEach([0, 100_000], (size) => fork(connection.call(echo, new Uint8Array(size))))
          yield* TestClock.adjust("3 seconds")
          const up = names.length === 1
          yield* TestNetwork.fault("a", { dial: up ? "hang" : "refuse", cutAfter: { toServer: 0 } })
          yield* Fiber.join(left)
          if (up) yield* TestNetwork.heal("a")
          for (const call of calls) yield* Fiber.join(call)
          assert.deepEqual(
            callsOf(metrics, "client"),
            [...counted, "1 hang at memory://a: CommunicationError"].toSorted()
          )
          const { sum } = durationsOf(metrics, "client", {
            "server.address": `memory://${names.at(-1)}`,
            "rpc.method": "echo"
          })
          assert.equal(sum, 6)
        })
      )
    )
  }

  it.effect(
    "when an endpoint could not be dialed, and it was sent to another one",
    meteredInMemory((metrics) =>
      Effect.gen(function*() {
        yield* TestNetwork.listen("b", served)
        const connection = yield* connect(yield* Effect.forEach(["a", "b"], TestNetwork.endpoint), {
          balancer: inOrder
        })
        const call = yield* fork(connection.call(sleep, new Uint8Array(3000)))
        yield* elapse(call, 1000)
        assert.deepEqual(callsOf(metrics, "client"), ["1 sleep at memory://b: ok"])
        assertTook(durationsOf(metrics, "client"), 3)
      })
    )
  )

  it.effect(
    "when it waited until one could be dialed",
    meteredInMemory((metrics) =>
      Effect.gen(function*() {
        const connection = yield* toA({ backoff: { initial: "1 second", factor: 1, jitter: 0 } })
        const call = yield* fork(connection.call(echo, nothing, { waitForReady: true }))
        yield* TestClock.adjust("2500 millis")
        yield* TestNetwork.listen("a", served)
        yield* elapse(call, 500)
        assert.deepEqual(metrics.values("rpc.client.dial.failures"), [3])
        assert.deepEqual(callsOf(metrics, "client"), [okay])
        assertTook(durationsOf(metrics, "client"), 3)
      })
    )
  )
})

class SoldOut extends Schema.TaggedError<SoldOut>()("SoldOut", {}) {}

const millis = { payload: { millis: Schema.Int }, success: Schema.Int }

/** As many milliseconds as it says are needed to decode it. */
const Slowly = Schema.Int.pipe(
  Schema.decode({
    decode: SchemaGetter.transformEffect((millis: number) => Effect.as(Effect.sleep(millis), millis)),
    encode: SchemaGetter.passthrough()
  })
)

const Shop = Component.make(
  "test/Shop",
  RpcGroup.make(Rpc.make("Reserve", { error: SoldOut }), Rpc.make("Stock", millis), Rpc.make("Check", millis))
)

/** As a client has it that is not of the same version. */
const OtherShop = Component.make(
  "test/Shop",
  RpcGroup.make(
    Rpc.make("Reserve", { error: SoldOut }),
    Rpc.make("Stock", { ...millis, success: Schema.Literal(0) }),
    Rpc.make("Check", { ...millis, success: Slowly })
  )
)

/** A client of a shop at `memory://a`. */
const shop = Effect.gen(function*() {
  const handlers = yield* Component.handlers(
    Shop,
    Shop.group.toLayer({
      Reserve: () => Effect.fail(new SoldOut()),
      Stock: ({ millis }) => Effect.succeed(millis),
      Check: ({ millis }) => Effect.succeed(millis)
    })
  )
  yield* TestNetwork.listen("a", handlers)
  return yield* Effect.provideService(Component.client(OtherShop), Connection.Connection, yield* toA())
})

describe("a call of a typed method", () => {
  it.effect(
    "that fails as its method declares is counted once, by the failure's tag",
    meteredInMemory((metrics) =>
      Effect.gen(function*() {
        yield* Effect.flip((yield* shop).Reserve())
        assert.deepEqual(callsOf(metrics, "client"), ["1 Reserve at memory://a: SoldOut"])
      })
    )
  )

  it.effect(
    "whose answer cannot be decoded is counted once, as a failure",
    meteredInMemory((metrics) =>
      Effect.gen(function*() {
        yield* Effect.flip((yield* shop).Stock({ millis: 1 }))
        assert.deepEqual(callsOf(metrics, "client"), ["1 Stock at memory://a: CommunicationError"])
      })
    )
  )

  it.effect(
    "has taken what it takes to decode its answer as well",
    meteredInMemory((metrics) =>
      Effect.gen(function*() {
        const { Check } = yield* shop
        const calls = yield* Effect.forEach([1000, 3000, 7000], (millis) => fork(Check({ millis })))
        yield* elapse(calls.at(-1)!, 1000)
        const { count, max, min, sum } = durationsOf(metrics, "client")
        assert.deepEqual({ count, max, min, sum }, { count: 3, max: 7, min: 1, sum: 11 })
      })
    )
  )

  it.effect(
    "that is given up while its answer is decoded is counted once, as canceled",
    meteredInMemory((metrics) =>
      Effect.gen(function*() {
        const call = yield* fork((yield* shop).Check({ millis: 1000 }))
        yield* settle
        yield* Fiber.interrupt(call)
        assert.deepEqual(callsOf(metrics, "client"), ["1 Check at memory://a: canceled"])
      })
    )
  )
})
