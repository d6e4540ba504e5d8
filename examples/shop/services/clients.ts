/**
 * The clients of the services. Each client is an Effect service with two layers: `layer` uses the Connection that it is
 * given, and `layerConfig` makes a Connection to the replicas that a setting names.
 */
import { Context, Layer } from "effect"
import { Balancer, Component } from "effect-call"
import { FrontComponent, OrdersComponent, StockComponent } from "./contracts.ts"
import { connectionTo } from "./network.ts"

export class Stock extends Context.Service<Stock, Component.Client<typeof StockComponent>>()("shop/Stock") {
  static readonly layer = Layer.effect(this, Component.client(StockComponent))

  /** All calls for an item go to the same warehouse. */
  static readonly layerConfig = this.layer.pipe(
    Layer.provide(connectionTo("SHOP_STOCK_ENDPOINTS", Balancer.sharded))
  )
}

export class Orders extends Context.Service<Orders, Component.Client<typeof OrdersComponent>>()("shop/Orders") {
  static readonly layer = Layer.effect(this, Component.client(OrdersComponent))

  static readonly layerConfig = this.layer.pipe(
    Layer.provide(connectionTo("SHOP_ORDERS_ENDPOINTS", Balancer.roundRobin))
  )
}

export class Front extends Context.Service<Front, Component.Client<typeof FrontComponent>>()("shop/Front") {
  static readonly layer = Layer.effect(this, Component.client(FrontComponent))

  static readonly layerConfig = this.layer.pipe(
    Layer.provide(connectionTo("SHOP_FRONT_ENDPOINTS", Balancer.roundRobin))
  )
}
