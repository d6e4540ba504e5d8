/**
 * Several components on one server. How their layers are composed decides whether their clients share one Connection or
 * have one each.
 *
 * Run it with `npx node examples/components/several.ts`.
 */
import { NodeRuntime } from "@effect/platform-node"
import { Console, Context, Effect, Layer, Schema } from "effect"
import { Component, Connection, Endpoint, HandlerMap, Listener, Resolver, Server } from "effect-call"
import { Rpc, RpcGroup } from "effect/rpc"

// Methods of two components can have the same name.
const UsersComponent = Component.make(
  "example/Users",
  RpcGroup.make(Rpc.make("Get", { payload: { id: Schema.Int }, success: Schema.String }))
)
const CartsComponent = Component.make(
  "example/Carts",
  RpcGroup.make(Rpc.make("Get", { payload: { user: Schema.Int }, success: Schema.Array(Schema.String) }))
)

const UsersHandlers = UsersComponent.group.toLayer({ Get: ({ id }) => Effect.succeed(id === 1 ? "Ada" : "unknown") })
const CartsHandlers = CartsComponent.group.toLayer({ Get: ({ user }) => Effect.succeed(user === 1 ? ["tea"] : []) })

// ---- Both on one server.

/** How many connections the server has accepted. */
let accepted = 0

const BothServer = Server.layer(Effect.gen(function*() {
  const users = yield* Component.handlers(UsersComponent, UsersHandlers)
  const carts = yield* Component.handlers(CartsComponent, CartsHandlers)
  const both = HandlerMap.merge(users, carts)
  // To pass `both` would be enough. A function in its place is called for each new connection, and gives its handlers.
  return yield* Listener.tcp("127.0.0.1:0", () => {
    accepted++
    return both
  })
}))

// ---- Their clients. Each is its own service, and uses the Connection that its layer is given.

class Users extends Context.Service<Users, Component.Client<typeof UsersComponent>>()("example/Users") {
  static readonly layer = Layer.effect(this, Component.client(UsersComponent))
}
class Carts extends Context.Service<Carts, Component.Client<typeof CartsComponent>>()("example/Carts") {
  static readonly layer = Layer.effect(this, Component.client(CartsComponent))
}

const connection = Layer.effect(
  Connection.Connection,
  Effect.gen(function*() {
    const { address } = yield* Server.Server
    return yield* Connection.make(Resolver.constant(yield* Endpoint.parse(address)))
  })
)

/** Both clients use one Connection: a layer is built once, even if several layers need it. */
const OverOne = Layer.merge(Users.layer, Carts.layer).pipe(Layer.provide(connection))

/** Each client uses its own Connection. Here both connect to the same server. Servers and options could also differ. */
const OverTwo = Layer.merge(
  Users.layer.pipe(Layer.provide(Layer.fresh(connection))),
  Carts.layer.pipe(Layer.provide(Layer.fresh(connection)))
)

// ---- The code that uses the clients is the same in both cases.

const page = Effect.gen(function*() {
  const users = yield* Users
  const carts = yield* Carts
  const name = yield* users.Get({ id: 1 })
  const items = yield* carts.Get({ user: 1 })
  return `${name} has ${items.join(", ")}`
})

const show = Effect.fnUntraced(function*(how: string, clients: typeof OverOne) {
  const before = accepted
  const text = yield* Effect.provide(page, clients)
  yield* Console.log(`${how}: "${text}", connections: ${accepted - before}`)
})

const program = Effect.gen(function*() {
  yield* show("both clients over one Connection", OverOne)
  yield* show("each client over its own", OverTwo)
})

program.pipe(Connection.withOptions({ timeout: "5 seconds" }), Effect.provide(BothServer), NodeRuntime.runMain)
