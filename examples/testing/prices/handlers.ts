/**
 * The handlers of the price service. It takes 50 ms to look up a price.
 */
import { Effect } from "effect"
import { NoSuchItem, PricesComponent } from "./contract.ts"

export const PricesHandlers = PricesComponent.group.toLayer(Effect.gen(function*() {
  const prices = yield* Effect.sync(() => new Map([["tea", 3]]))

  return PricesComponent.group.of({
    Price: Effect.fnUntraced(function*({ item }) {
      yield* Effect.sleep("50 millis")
      const price = prices.get(item)
      if (price === undefined) return yield* new NoSuchItem({ item })
      return price
    }),
    SetPrice: ({ item, price }) => Effect.sync(() => void prices.set(item, price))
  })
}))
