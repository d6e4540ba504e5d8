/**
 * Step 3 of the shop: errors. A customer gets the error of a service that is two calls away, with its type. An order
 * that fails leaves nothing behind.
 *
 * Run it with `node examples/shop/step-3-errors.ts`.
 */
import { NodeRuntime } from "@effect/platform-node"
import { Console, Effect, Layer, Logger } from "effect"
import { Balancer, Connection, Endpoint, Resolver } from "effect-call"
import { Front, Orders, Stock } from "./services/clients.ts"
import { FrontComponent, OrdersComponent, StockComponent } from "./services/contracts.ts"
import { FrontHandlers } from "./services/front.ts"
import { localServer } from "./services/local.ts"
import { OrdersHandlers } from "./services/orders.ts"
import { StockHandlers, Warehouse } from "./services/stock.ts"

const StockInThisProcess = Stock.layer.pipe(
  Layer.provide(localServer(StockComponent, StockHandlers)),
  Layer.provide(Warehouse.layer("north"))
)

/** A stock that does not run: nothing listens on this port. */
const MissingStock = Stock.layer.pipe(
  Layer.provide(Connection.layer()),
  Layer.provide([
    Resolver.layer(Resolver.constant(Endpoint.tcp("127.0.0.1:1"))),
    Balancer.layer(Balancer.roundRobin)
  ])
)

/** The front and the orders service over a stock. Fresh: each use makes new servers. */
const shopOver = <E>(stock: Layer.Layer<Stock, E>) =>
  Layer.fresh(Front.layer).pipe(
    Layer.provide(localServer(FrontComponent, FrontHandlers)),
    Layer.provide(Layer.fresh(Orders.layer)),
    Layer.provide(localServer(OrdersComponent, OrdersHandlers)),
    Layer.provideMerge(stock)
  )

const tooMuch = Effect.gen(function*() {
  const stock = yield* Stock
  const front = yield* Front
  yield* stock.Put({ item: "bread", count: 10 })
  yield* stock.Put({ item: "tea", count: 1 })

  const error = yield* Effect.flip(
    front.Buy({ customer: "Bob", lines: [{ item: "bread", count: 10 }, { item: "tea", count: 2 }] })
  )
  yield* Console.log(`too much tea: ${error._tag}: ${error.message}`)

  const order = yield* front.Buy({ customer: "Bob", lines: [{ item: "bread", count: 10 }] })
  yield* Console.log(`the bread was put back: order ${order.number} has ${order.taken[0]?.count} of it`)
})

const withoutStock = Effect.gen(function*() {
  const front = yield* Front
  const error = yield* Effect.flip(front.Buy({ customer: "Eve", lines: [{ item: "tea", count: 1 }] }))
  yield* Console.log(`without a stock: ${error._tag}: ${error.message}`)
})

Effect.gen(function*() {
  yield* Effect.provide(tooMuch, shopOver(StockInThisProcess))
  // No loggers: the warning that the endpoint could not be dialed is expected.
  yield* Effect.provide(withoutStock, Layer.provide(shopOver(MissingStock), Logger.layer([])))
}).pipe(NodeRuntime.runMain)
