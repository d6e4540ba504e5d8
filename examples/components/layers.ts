/**
 * A component as layers: handlers that need a service, and a client as a service of its own. Calls go by a shard key,
 * so each item always has the same replica.
 *
 * Run it with `npx node examples/components/layers.ts`.
 */
import { NodeRuntime } from "@effect/platform-node"
import { Console, Context, Effect, Layer, Schema } from "effect"
import { Balancer, Component, Connection, Endpoint, Listener, Resolver, Server } from "effect-call"
import { Rpc, RpcGroup } from "effect/rpc"

const StockComponent = Component.make(
  "example/Stock",
  RpcGroup.make(
    Rpc.make("Count", { payload: { item: Schema.String }, success: Schema.String }).pipe(
      Component.shardBy(({ item }) => item)
    )
  )
)

// ---- The server: its layer needs what the handlers need.

class Warehouse extends Context.Service<Warehouse, {
  readonly name: string
  readonly count: (item: string) => number
}>()("example/Warehouse") {
  static readonly layer = (name: string) => Layer.succeed(this, { name, count: (item) => item.length })
}

const StockHandlers = StockComponent.group.toLayer(Effect.gen(function*() {
  const warehouse = yield* Warehouse // once, when the layer is built
  return { Count: ({ item }) => Effect.succeed(`${warehouse.count(item)} in ${warehouse.name}`) }
}))

const StockServer = Server.layer(
  Effect.gen(function*() {
    return yield* Listener.tcp("127.0.0.1:0", yield* Component.handlers(StockComponent, StockHandlers))
  }),
  { shutdownGrace: "10 seconds" }
)

// ---- The client: a service that is made from the component, over a Connection of its own.

class Stock extends Context.Service<Stock, Component.Client<typeof StockComponent>>()("example/Stock") {
  static readonly layer = Layer.effect(this, Component.client(StockComponent)).pipe(
    Layer.provide(Connection.layer({ dialTimeout: "2 seconds" })),
    Layer.provide(Balancer.layer(Balancer.sharded))
  )
}

// ---- The code that uses it knows only the service.

const program = Effect.gen(function*() {
  const stock = yield* Stock
  for (const item of ["tea", "milk", "tea"]) {
    yield* Console.log(`${item}: ${yield* stock.Count({ item })}`)
  }
})

// ---- Where the replicas are. Here they are two servers in this program.

const Replicas = Resolver.layer(
  Effect.gen(function*() {
    const endpoints = yield* Effect.forEach(["Oslo", "Rome"], (name) =>
      Effect.gen(function*() {
        const server = yield* Layer.build(Layer.fresh(StockServer).pipe(Layer.provide(Warehouse.layer(name))))
        return yield* Endpoint.parse(Context.get(server, Server.Server).address)
      }))
    return Resolver.constant(...endpoints)
  })
)

program.pipe(
  Connection.withOptions({ timeout: "5 seconds" }),
  Effect.provide(Stock.layer.pipe(Layer.provide(Replicas))),
  NodeRuntime.runMain
)
