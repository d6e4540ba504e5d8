/**
 * Step 1 of the shop: one service, the stock of a warehouse. Its server and its client are in this process, and talk
 * over TCP.
 *
 * Run it with `node examples/shop/step-1-stock.ts`.
 */
import { NodeRuntime } from "@effect/platform-node"
import { Console, Effect, Layer } from "effect"
import { Stock } from "./services/clients.ts"
import { StockComponent } from "./services/contracts.ts"
import { localServer } from "./services/local.ts"
import { StockHandlers, Warehouse } from "./services/stock.ts"

const program = Effect.gen(function*() {
  const stock = yield* Stock
  yield* stock.Put({ item: "tea", count: 3 })

  const taken = yield* stock.Take({ item: "tea", count: 2 })
  yield* Console.log(`took ${taken.count} ${taken.item} from ${taken.warehouse}`)

  yield* stock.Take({ item: "tea", count: 2 }).pipe(
    Effect.catchTag("OutOfStock", (error) => Console.log(`${error._tag}: ${error.message}`))
  )
})

const StockInThisProcess = Stock.layer.pipe(
  Layer.provide(localServer(StockComponent, StockHandlers)),
  Layer.provide(Warehouse.layer("north"))
)

program.pipe(Effect.provide(StockInThisProcess), NodeRuntime.runMain)
