/**
 * Step 4 of the shop: configuration. The services read where they listen, and where other services are, from Effect's
 * `Config`. Here the settings are in this file. In production they are environment variables.
 *
 * Run it with `node examples/shop/step-4-configuration.ts`.
 */
import { NodeRuntime, NodeServices } from "@effect/platform-node"
import { ConfigProvider, Console, Effect, FileSystem, Layer } from "effect"
import "../support/closedOutput.ts"
import { Front, Stock } from "./services/clients.ts"
import { FrontServer } from "./services/front.ts"
import { Network } from "./services/network.ts"
import { OrdersServer } from "./services/orders.ts"
import { StockServer } from "./services/stock.ts"

const settings = (values: Readonly<Record<string, string>>) =>
  ConfigProvider.layer(ConfigProvider.fromEnvRecord(values))

/** A server of the stock with its own settings. Fresh: this process has two of them. */
const warehouse = (name: string, directory: string) =>
  Layer.fresh(StockServer).pipe(Layer.provide(settings({
    SHOP_STOCK_WAREHOUSE: name,
    SHOP_STOCK_LISTEN: `unix://${directory}/${name}`
  })))

/** Four servers, and the clients of a customer. */
const shopIn = (directory: string) =>
  Layer.mergeAll(Front.layerConfig, Stock.layerConfig, FrontServer, OrdersServer).pipe(
    Layer.provide([warehouse("north", directory), warehouse("south", directory)]),
    Layer.provide(settings({
      SHOP_STOCK_ENDPOINTS: `unix://${directory}/north,unix://${directory}/south`,
      SHOP_ORDERS_LISTEN: `unix://${directory}/orders`,
      SHOP_ORDERS_ENDPOINTS: `unix://${directory}/orders`,
      SHOP_FRONT_LISTEN: `unix://${directory}/front`,
      SHOP_FRONT_ENDPOINTS: `unix://${directory}/front`
    })),
    Layer.provide(Network.sockets)
  )

const shopping = Effect.gen(function*() {
  const stock = yield* Stock
  const front = yield* Front
  for (const item of ["tea", "bread", "salt", "honey"]) {
    yield* stock.Put({ item, count: 1 })
    const { taken } = yield* front.Buy({ customer: "Ada", lines: [{ item, count: 1 }] })
    yield* Console.log(`${item} is in the ${taken[0]?.warehouse}`)
  }
})

/** What the orders service says about its settings. */
const problem = (values: Readonly<Record<string, string>>) =>
  Layer.build(OrdersServer).pipe(
    Effect.scoped,
    Effect.provide([Network.sockets, settings({ SHOP_ORDERS_LISTEN: "tcp://127.0.0.1:0", ...values })]),
    Effect.flip,
    Effect.flatMap((error) => Console.log(`${error._tag}: ${error.message}`))
  )

Effect.gen(function*() {
  const fs = yield* FileSystem.FileSystem
  const directory = yield* fs.makeTempDirectoryScoped({ prefix: "shop-" })
  yield* Effect.provide(shopping, shopIn(directory))
  yield* problem({ SHOP_STOCK_ENDPOINTS: "tcp://10.0.0.1" })
  yield* problem({})
}).pipe(Effect.scoped, Effect.provide(NodeServices.layer), NodeRuntime.runMain)
