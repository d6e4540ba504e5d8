/**
 * Two services, of which one calls the other, and a client of the first one. In this folder they run in one process,
 * over real sockets.
 */
import { Context, Effect, Layer, Schema } from "effect"
import { Balancer, CallError, Component, Connection, Endpoint, Listener, Resolver, Server } from "effect-call"
import { Rpc, RpcGroup } from "effect/rpc"

export class OutOfStock extends Schema.TaggedError<OutOfStock>()("OutOfStock", { item: Schema.String }) {}

const payload = { item: Schema.String }
const Stock = Component.make("shop/Stock", RpcGroup.make(Rpc.make("Take", { payload, error: OutOfStock })))
const Orders = Component.make("shop/Orders", RpcGroup.make(Rpc.make("Place", { payload, error: OutOfStock })))

/** A Connection to the server in the context. A function, since each use makes a Connection of its own. */
const toServer = () => {
  const resolver = Effect.gen(function*() {
    const { address } = yield* Server.Server
    return Resolver.constant(yield* Endpoint.parse(address))
  })
  return Connection.layer().pipe(Layer.provide([Resolver.layer(resolver), Balancer.layer(Balancer.roundRobin)]))
}

/** The server of the stock. There is tea, and nothing else. */
const StockServer = Server.layer(Effect.flatMap(
  Component.handlers(
    Stock,
    Stock.group.toLayer({ Take: ({ item }) => item === "tea" ? Effect.void : Effect.fail(new OutOfStock({ item })) })
  ),
  (handlers) => Listener.tcp("127.0.0.1:0", handlers)
))

/** The server of the orders. It calls the stock. */
const OrdersServer = Server.layer(Effect.gen(function*() {
  const stock = yield* Component.client(Stock)
  const handlers = yield* Component.handlers(
    Orders,
    Orders.group.toLayer({
      Place: ({ item }) =>
        stock.Take({ item }).pipe(Effect.catchIf(CallError.isCallError, (error) => Effect.die(error)))
    })
  )
  return yield* Listener.tcp("127.0.0.1:0", handlers)
}))

/** The client of the orders. */
export class OrdersClient extends Context.Service<OrdersClient, Component.Client<typeof Orders>>()("shop/Orders") {}

/** All of them. Each has the telemetry of its own service. What uses the client has that of the customer. */
export const shop = <E>(telemetry: (service: string) => Layer.Layer<never, E>) =>
  Layer.effect(OrdersClient, Component.client(Orders)).pipe(
    Layer.provide(toServer()),
    Layer.provide(OrdersServer.pipe(Layer.provide(toServer()), Layer.provide(telemetry("orders")))),
    Layer.provide(StockServer.pipe(Layer.provide(telemetry("stock")))),
    Layer.provideMerge(telemetry("customer"))
  )
