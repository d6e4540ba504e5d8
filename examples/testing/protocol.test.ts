/**
 * Tests over CallTest: the real client, the real server and the real protocol, in memory. Payloads and results are
 * written as bytes and read again.
 */
import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Fiber, Layer } from "effect"
import { Component } from "effect-call"
import { CallTest } from "effect-call/testing"
import { TestClock } from "effect/testing"
import { Prices, PricesComponent } from "./prices/contract.ts"
import { PricesHandlers } from "./prices/handlers.ts"
import { priceTag } from "./prices/priceTag.ts"
import { inTime } from "./support/time.ts"

/** The client of the price service, over a Connection in memory to these handlers. */
const pricesWith = (handlers: typeof PricesHandlers) =>
  Prices.layer.pipe(
    Layer.provide(Layer.unwrap(Effect.map(Component.handlers(PricesComponent, handlers), CallTest.layer)))
  )

describe("calls over CallTest", () => {
  it.effect("are answered without time on the TestClock", () =>
    Effect.gen(function*() {
      const prices = yield* Prices
      yield* prices.SetPrice({ item: "tea", price: 4 })
    }).pipe(Effect.provide(pricesWith(PricesHandlers))))

  it.effect("have deadlines on the TestClock", () =>
    Effect.gen(function*() {
      const tag = yield* Effect.forkChild(priceTag("tea"))
      yield* TestClock.adjust("2 seconds")
      assert.strictEqual(yield* Fiber.join(tag), "tea: price on request")
    }).pipe(Effect.provide(pricesWith(PricesComponent.group.toLayer({
      Price: () => Effect.never,
      SetPrice: () => Effect.die("the test does not need it")
    })))))

  it.effect("reach a handler that sleeps: start the call immediately, then move the clock", () =>
    Effect.gen(function*() {
      const tag = yield* Effect.forkChild(priceTag("tea"), { startImmediately: true })
      yield* TestClock.adjust("50 millis")
      assert.strictEqual(yield* Fiber.join(tag), "tea: 3 €")
    }).pipe(Effect.provide(pricesWith(PricesHandlers))))

  it.effect("reach a handler that sleeps: wait until it has started, then move the clock", () =>
    Effect.gen(function*() {
      const started = yield* Deferred.make<void>()
      const SlowPrices = pricesWith(PricesComponent.group.toLayer({
        Price: () => Deferred.succeed(started, undefined).pipe(Effect.andThen(Effect.sleep("1 second")), Effect.as(3)),
        SetPrice: () => Effect.die("the test does not need it")
      }))

      const tag = yield* Effect.forkChild(Effect.provide(priceTag("tea"), SlowPrices))
      yield* Deferred.await(started)
      yield* TestClock.adjust("1 second")
      assert.strictEqual(yield* Fiber.join(tag), "tea: 3 €")
    }))

  it.effect("reach a handler that sleeps: move the clock in steps until the call is done", () =>
    Effect.gen(function*() {
      assert.strictEqual(yield* inTime(priceTag("tea")), "tea: 3 €")
    }).pipe(Effect.provide(pricesWith(PricesHandlers))))

  it.live("reach a handler that sleeps: use the real clock", () =>
    Effect.gen(function*() {
      assert.strictEqual(yield* priceTag("tea"), "tea: 3 €")
    }).pipe(Effect.provide(pricesWith(PricesHandlers))))
})
