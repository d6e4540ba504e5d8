/**
 * Runs one service of the shop until SIGTERM. The argument is the service: `front`, `orders` or `stock`, as in
 * `node examples/shop/services/main.ts front`.
 *
 * The settings are environment variables:
 *
 * - The address to listen on: `SHOP_FRONT_LISTEN`, `SHOP_ORDERS_LISTEN`, `SHOP_STOCK_LISTEN`.
 * - The replicas of the service that it calls, for `Resolver.config`: `SHOP_ORDERS_ENDPOINTS`, `SHOP_STOCK_ENDPOINTS`.
 * - The name of the warehouse, for stock: `SHOP_STOCK_WAREHOUSE`.
 * - The settings of `telemetry.ts`.
 *
 * For example, with two warehouses:
 *
 * ```sh
 * main=examples/shop/services/main.ts
 * SHOP_STOCK_LISTEN=tcp://127.0.0.1:4001 SHOP_STOCK_WAREHOUSE=north node $main stock
 * SHOP_STOCK_LISTEN=tcp://127.0.0.1:4002 SHOP_STOCK_WAREHOUSE=south node $main stock
 *
 * export SHOP_STOCK_ENDPOINTS=tcp://127.0.0.1:4001,127.0.0.1:4002
 * SHOP_ORDERS_LISTEN=tcp://127.0.0.1:4003 node $main orders
 * SHOP_FRONT_LISTEN=tcp://127.0.0.1:4004 SHOP_ORDERS_ENDPOINTS=tcp://127.0.0.1:4003 node $main front
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
  // Telemetry stops last, so that it also exports what the servers do while they stop.
  Effect.map(([name]) => Layer.provide(servers[name], telemetry(`shop-${name}`))),
  Layer.unwrap,
  Layer.provide([Network.sockets, NodeStdio.layer])
)

NodeRuntime.runMain(Layer.launch(Main))
