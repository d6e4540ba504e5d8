/**
 * The clients of the services. Each client is an Effect service, and its layer connects to the remote service.
 */
import { Context, Layer } from "effect"
import { Balancer, Component } from "effect-call"
import { FrontComponent, OrdersComponent, StockComponent } from "./contracts.ts"
import { connectionTo } from "./network.ts"

export class Stock extends Context.Service<Stock, Component.Client<typeof StockComponent>>()("shop/Stock") {
  /** All calls for an item go to the same warehouse. */
  static readonly layer = Layer.effect(this, Component.client(StockComponent)).pipe(
    Layer.provide(connectionTo("SHOP_STOCK_ENDPOINTS", Balancer.sharded))
  )
}

export class Orders extends Context.Service<Orders, Component.Client<typeof OrdersComponent>>()("shop/Orders") {
  static readonly layer = Layer.effect(this, Component.client(OrdersComponent)).pipe(
    Layer.provide(connectionTo("SHOP_ORDERS_ENDPOINTS", Balancer.roundRobin))
  )
}

export class Front extends Context.Service<Front, Component.Client<typeof FrontComponent>>()("shop/Front") {
  static readonly layer = Layer.effect(this, Component.client(FrontComponent)).pipe(
    Layer.provide(connectionTo("SHOP_FRONT_ENDPOINTS", Balancer.roundRobin))
  )
}
