/**
 * Tests of code that makes calls, with fake clients: one whose calls run handlers directly, and one whose calls fail.
 */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Layer } from "effect"
import { CallError } from "effect-call"
import { RpcTest } from "effect/rpc"
import { NoSuchItem, Prices, PricesComponent } from "./prices/contract.ts"
import { priceTag } from "./prices/priceTag.ts"

/** A client whose calls run these handlers, without bytes. */
const FakePrices = Layer.effect(Prices, RpcTest.makeClient(PricesComponent.group)).pipe(
  Layer.provide(PricesComponent.group.toLayer({
    Price: ({ item }) => item === "tea" ? Effect.succeed(3) : Effect.fail(new NoSuchItem({ item })),
    SetPrice: () => Effect.die("the test does not need it")
  }))
)

/** A client whose calls fail with an error of the network. */
const LatePrices = Layer.mock(Prices, {
  Price: () => Effect.fail(new CallError.DeadlineExceeded({ message: "deadline exceeded" }))
})

describe("a price tag", () => {
  it.effect("has the price", () =>
    Effect.gen(function*() {
      assert.strictEqual(yield* priceTag("tea"), "tea: 3 €")
    }).pipe(Effect.provide(FakePrices)))

  it.effect("says that the catalogue does not have the item", () =>
    Effect.gen(function*() {
      assert.strictEqual(yield* priceTag("time"), "time: not in the catalogue")
    }).pipe(Effect.provide(FakePrices)))

  it.effect("has no price if the service does not answer in time", () =>
    Effect.gen(function*() {
      assert.strictEqual(yield* priceTag("tea"), "tea: price on request")
    }).pipe(Effect.provide(LatePrices)))
})
