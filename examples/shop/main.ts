/**
 * Runs one service of the shop, `node examples/shop/main.ts front`, `orders` or `stock`, until it is told to stop
 * (SIGTERM).
 *
 * Its settings are environment variables: where it listens (`SHOP_FRONT_LISTEN`, `SHOP_ORDERS_LISTEN`,
 * `SHOP_STOCK_LISTEN`), where the service that it calls is (`SHOP_ORDERS_ENDPOINTS`, `SHOP_STOCK_ENDPOINTS`), for stock
 * the name of the warehouse (`SHOP_STOCK_WAREHOUSE`), and those of `telemetry.ts`. Two warehouses:
 *
 * ```sh
 * SHOP_STOCK_LISTEN=tcp://127.0.0.1:4001 SHOP_STOCK_WAREHOUSE=north node examples/shop/main.ts stock
 * SHOP_STOCK_LISTEN=tcp://127.0.0.1:4002 SHOP_STOCK_WAREHOUSE=south node examples/shop/main.ts stock
 *
 * export SHOP_STOCK_ENDPOINTS=tcp://127.0.0.1:4001,tcp://127.0.0.1:4002
 * SHOP_ORDERS_LISTEN=tcp://127.0.0.1:4003 node examples/shop/main.ts orders
 * SHOP_FRONT_LISTEN=tcp://127.0.0.1:4004 SHOP_ORDERS_ENDPOINTS=tcp://127.0.0.1:4003 node examples/shop/main.ts front
 * ```
 */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as NodeStdio from "@effect/platform-node/NodeStdio"
import { Effect, Layer, Schema, Stdio } from "effect"
import { FrontServer } from "./front.ts"
import { Network } from "./network.ts"
import { OrdersServer } from "./orders.ts"
import { StockServer } from "./stock.ts"
import { telemetry } from "./telemetry.ts"

const servers = { front: FrontServer, orders: OrdersServer, stock: StockServer }
const Arguments = Schema.Tuple([Schema.Literals(["front", "orders", "stock"])])

const Main = Stdio.Stdio.use(({ args }) => args).pipe(
  Effect.flatMap(Schema.decodeUnknownEffect(Arguments)),
  // Telemetry is the last to stop: what the others do at their end is exported, too.
  Effect.map(([name]) => Layer.provide(servers[name], telemetry(`shop-${name}`))),
  Layer.unwrap,
  Layer.provide([Network.sockets, NodeStdio.layer])
)

NodeRuntime.runMain(Layer.launch(Main))
