/**
 * Step 2 of the shop: a service that calls another service. The handlers of the orders service use the client of the
 * stock service.
 *
 * Run it with `node examples/shop/step-2-orders.ts`.
 */
import { NodeRuntime } from "@effect/platform-node"
import { Console, Effect, Layer } from "effect"
import { Orders, Stock } from "./services/clients.ts"
import { OrdersComponent, StockComponent } from "./services/contracts.ts"
import { localServer } from "./services/local.ts"
import { OrdersHandlers } from "./services/orders.ts"
import { StockHandlers, Warehouse } from "./services/stock.ts"

const program = Effect.gen(function*() {
  const stock = yield* Stock
  const orders = yield* Orders
  yield* stock.Put({ item: "tea", count: 3 })
  yield* stock.Put({ item: "salt", count: 1 })

  const order = yield* orders.Place({ customer: "Ada", lines: [{ item: "tea", count: 2 }, { item: "salt", count: 1 }] })
  const taken = order.taken.map(({ count, item, warehouse }) => `${count} ${item} from ${warehouse}`)
  yield* Console.log(`order ${order.number} of ${order.customer}: ${taken.join(", ")}`)
})

const StockInThisProcess = Stock.layer.pipe(
  Layer.provide(localServer(StockComponent, StockHandlers)),
  Layer.provide(Warehouse.layer("north"))
)

const OrdersInThisProcess = Orders.layer.pipe(
  Layer.provide(localServer(OrdersComponent, OrdersHandlers)),
  Layer.provide(StockInThisProcess)
)

// Both use `StockInThisProcess`. It is built once, so there is one stock.
program.pipe(Effect.provide([OrdersInThisProcess, StockInThisProcess]), NodeRuntime.runMain)
