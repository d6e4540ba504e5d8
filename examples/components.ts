/**
 * Several components: on one server, and called over one Connection or over several, by how layers are put together.
 *
 * Run it with `node examples/components.ts`.
 */
import { NodeRuntime } from "@effect/platform-node"
import { Console, Context, Effect, Layer, Schema } from "effect"
import { Component, Connection, Endpoint, HandlerMap, Listener, Resolver, Server } from "effect-call"
import { Rpc, RpcGroup } from "effect/rpc"
import * as assert from "node:assert/strict"

// Two components may well have methods of the same name.
const UsersComponent = Component.make(
  "example/Users",
  RpcGroup.make(Rpc.make("Get", { payload: { id: Schema.Int }, success: Schema.String }))
)
const CartsComponent = Component.make(
  "example/Carts",
  RpcGroup.make(Rpc.make("Get", { payload: { user: Schema.Int }, success: Schema.Array(Schema.String) }))
)

const UsersHandlers = UsersComponent.group.toLayer({ Get: ({ id }) => Effect.succeed(id === 1 ? "Ada" : "nobody") })
const CartsHandlers = CartsComponent.group.toLayer({ Get: ({ user }) => Effect.succeed(user === 1 ? ["tea"] : []) })

// ---- Both on one server.

/** How many clients have connected to it. */
let arrivals = 0

const BothServer = Server.layer(Effect.gen(function*() {
  const users = yield* Component.handlers(UsersComponent, UsersHandlers)
  const carts = yield* Component.handlers(CartsComponent, CartsHandlers)
  const both = HandlerMap.merge(users, carts)
  // `both` alone would do. A function is asked for the handlers of each client that connects.
  return yield* Listener.tcp("127.0.0.1:0", () => {
    arrivals++
    return both
  })
}))

// ---- Their clients, each a service of its own, over the Connection that its layer is given.

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

/** Both over one Connection: a layer is built once, however many need it. */
const OverOne = Layer.merge(Users.layer, Carts.layer).pipe(Layer.provide(connection))

/** Each over its own. Here both lead to the same server; they could be to different ones, with different options. */
const OverTwo = Layer.merge(
  Users.layer.pipe(Layer.provide(Layer.fresh(connection))),
  Carts.layer.pipe(Layer.provide(Layer.fresh(connection)))
)

// ---- What uses them does not know the difference.

const page = Effect.gen(function*() {
  const users = yield* Users
  const carts = yield* Carts
  const name = yield* users.Get({ id: 1 })
  const items = yield* carts.Get({ user: 1 })
  return `${name} has ${items.join(", ")}`
})

const show = Effect.fnUntraced(function*(how: string, clients: typeof OverOne) {
  const before = arrivals
  const text = yield* Effect.provide(page, clients)
  yield* Console.log(`${how}: "${text}", and the server saw ${arrivals - before} arrive`)
  assert.equal(text, "Ada has tea")
  return arrivals - before
})

const program = Effect.gen(function*() {
  assert.equal(yield* show("two components over one Connection", OverOne), 1)
  assert.equal(yield* show("each over its own", OverTwo), 2)
})

program.pipe(Effect.timeout("10 seconds"), Effect.provide(BothServer), NodeRuntime.runMain)
