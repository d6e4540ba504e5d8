/**
 * Tests of handlers alone: RpcTest of effect/rpc calls them directly, without bytes.
 */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber } from "effect"
import { RpcTest } from "effect/rpc"
import { TestClock } from "effect/testing"
import { NoSuchItem, PricesComponent } from "./prices/contract.ts"
import { PricesHandlers } from "./prices/handlers.ts"

describe("the price service", () => {
  it.effect("looks up a price in 50 ms", () =>
    Effect.gen(function*() {
      const prices = yield* RpcTest.makeClient(PricesComponent.group)
      const looking = yield* Effect.forkChild(prices.Price({ item: "tea" }))
      yield* TestClock.adjust("50 millis")
      assert.strictEqual(yield* Fiber.join(looking), 3)
    }).pipe(Effect.provide(PricesHandlers)))

  it.effect("knows no price of time", () =>
    Effect.gen(function*() {
      const prices = yield* RpcTest.makeClient(PricesComponent.group)
      const looking = yield* Effect.forkChild(Effect.flip(prices.Price({ item: "time" })))
      yield* TestClock.adjust("50 millis")
      assert.deepStrictEqual(yield* Fiber.join(looking), new NoSuchItem({ item: "time" }))
    }).pipe(Effect.provide(PricesHandlers)))
})
