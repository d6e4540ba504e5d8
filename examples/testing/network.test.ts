/**
 * Tests over TestNetwork: several servers in memory, and faults between them and their clients.
 */
import { assert, describe, it } from "@effect/vitest"
import { Clock, Effect, Fiber, Layer } from "effect"
import { Component, Connection, Resolver } from "effect-call"
import { TestNetwork } from "effect-call/testing"
import { TestClock } from "effect/testing"
import { Prices, PricesComponent } from "./prices/contract.ts"
import { priceTag } from "./prices/priceTag.ts"
import { inTime } from "./support/time.ts"

/** Starts a server whose tea has this price. It ends with the Scope. */
const startServer = Effect.fnUntraced(function*(name: string, price: number) {
  const handlers = yield* Component.handlers(
    PricesComponent,
    PricesComponent.group.toLayer({ Price: () => Effect.succeed(price), SetPrice: () => Effect.void })
  )
  // Without a grace: a call in flight at the end of a test would wait for time that no longer passes.
  yield* TestNetwork.listen(name, handlers, { shutdownGrace: 0 })
})

/** The client of the price service, over a Connection to the servers `a` and `b`. */
const TwoServers = Prices.layer.pipe(
  Layer.provide(Layer.effect(
    Connection.Connection,
    Effect.gen(function*() {
      const endpoints = yield* Effect.forEach(["a", "b"], (name) => TestNetwork.endpoint(name))
      return yield* Connection.make(Resolver.constant(...endpoints))
    })
  )),
  Layer.provideMerge(TestNetwork.layer)
)

describe("a price tag", () => {
  it.effect("comes from the other server if one cannot be reached (failover)", () =>
    Effect.gen(function*() {
      yield* startServer("a", 3)
      yield* startServer("b", 4)
      yield* TestNetwork.fault("a", { dial: "refuse" })
      assert.strictEqual(yield* priceTag("tea"), "tea: 4 €")
    }).pipe(Effect.provide(TwoServers)))

  it.effect("comes as soon as a server can be reached (retry)", () =>
    Effect.gen(function*() {
      const tag = yield* Effect.forkChild(priceTag("tea"))
      yield* TestClock.adjust("1 second")
      assert.isUndefined(tag.pollUnsafe())
      yield* startServer("a", 3)
      assert.strictEqual(yield* inTime(Fiber.join(tag)), "tea: 3 €")
    }).pipe(Effect.provide(TwoServers)))

  it.effect("has no price if no server answers within two seconds (deadline)", () =>
    Effect.gen(function*() {
      yield* startServer("a", 3)
      yield* TestNetwork.fault("a", { blackHole: true })
      assert.strictEqual(yield* inTime(priceTag("tea")), "tea: price on request")
      assert.strictEqual(yield* Clock.currentTimeMillis, 2000)
    }).pipe(Effect.provide(TwoServers)))

  it.effect("comes from the other server if a replica dies during the call (retry)", () =>
    Effect.gen(function*() {
      yield* startServer("a", 3)
      // The server gets the call, but its answer does not arrive.
      yield* TestNetwork.fault("a", { blackHole: "toClient" })
      const tag = yield* Effect.forkChild(priceTag("tea"), { startImmediately: true })
      yield* startServer("b", 4)
      // The replica dies: its connections break, and it cannot be dialed any more.
      yield* TestNetwork.fault("a", { dial: "refuse", cutAfter: { toServer: 0 } })
      assert.strictEqual(yield* inTime(Fiber.join(tag)), "tea: 4 €")
    }).pipe(Effect.provide(TwoServers)))

  it.effect("takes longer on a slow network (delay)", () =>
    Effect.gen(function*() {
      yield* startServer("a", 3)
      yield* TestNetwork.fault("a", { delay: "100 millis" })
      assert.strictEqual(yield* inTime(priceTag("tea")), "tea: 3 €")
      // The version messages and the call: once to the server and once back, twice.
      assert.isAtLeast(yield* Clock.currentTimeMillis, 200)
    }).pipe(Effect.provide(TwoServers)))
})

describe("a method that is not idempotent", () => {
  it.effect("is not called again if its connection was lost", () =>
    Effect.gen(function*() {
      yield* startServer("a", 3)
      const prices = yield* Prices
      yield* prices.SetPrice({ item: "tea", price: 4 })
      // The connection breaks at the first byte of the answer.
      yield* TestNetwork.fault("a", { cutAfter: { toClient: 1 } })
      const error = yield* Effect.flip(prices.SetPrice({ item: "tea", price: 5 }))
      assert.isTrue(error._tag === "CommunicationError" && error.maybeExecuted)
    }).pipe(Effect.provide(TwoServers)))
})
