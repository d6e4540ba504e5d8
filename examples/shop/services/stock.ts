/**
 * The stock service: it keeps the items of one warehouse in memory. Each replica is a separate warehouse.
 */
import { Config, Context, Effect, Layer } from "effect"
import { OutOfStock, StockComponent, Taken } from "./contracts.ts"
import { serverAt } from "./network.ts"

/** What the handlers need to know about their warehouse. */
export class Warehouse extends Context.Service<Warehouse, { readonly name: string }>()("shop/Warehouse") {
  static readonly layer = (name: string) => Layer.succeed(this, { name })

  static readonly layerConfig = Layer.effect(
    this,
    Effect.map(Config.NonEmptyString("SHOP_STOCK_WAREHOUSE"), (name) => ({ name }))
  )
}

export const StockHandlers = StockComponent.group.toLayer(Effect.gen(function*() {
  const warehouse = yield* Warehouse
  const left = new Map<string, number>()

  return StockComponent.group.of({
    Put: ({ count, item }) => Effect.sync(() => void left.set(item, (left.get(item) ?? 0) + count)),

    Take: Effect.fnUntraced(function*({ count, item }) {
      const before = left.get(item) ?? 0
      if (before < count) return yield* new OutOfStock({ item, left: before })
      left.set(item, before - count)
      return new Taken({ item, count, warehouse: warehouse.name })
    })
  })
}))

export const StockServer = serverAt("SHOP_STOCK_LISTEN", StockComponent, StockHandlers).pipe(
  Layer.provide(Warehouse.layerConfig)
)
