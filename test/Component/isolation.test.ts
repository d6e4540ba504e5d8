/** Several components, with methods of the same names: on one server, over one Connection, or over one each. */
import { describe, it } from "@effect/vitest"
import { Context, Effect, Layer, Schema } from "effect"
import { Balancer, Component, Connection, Endpoint, HandlerMap, Listener, Resolver, Server } from "effect-call"
import { CallTest, TestNetwork } from "effect-call/testing"
import { Rpc, RpcGroup } from "effect/rpc"
import * as assert from "node:assert/strict"
import { connect, memory } from "../support/networks.ts"
import { clientOver } from "./support.ts"

const group = RpcGroup.make(Rpc.make("Get", { success: Schema.String }))
const Users = Component.make("test/Users", group)
const Carts = Component.make("test/Carts", group)
const getting = (text: string) => group.toLayer({ Get: () => Effect.succeed(text) })

describe("two components with a method of the same name", () => {
  it.effect("have their own handlers on one server, over one Connection", () =>
    Effect.gen(function*() {
      const users = yield* Component.handlers(Users, getting("a user"))
      const carts = yield* Component.handlers(Carts, getting("a cart"))
      const { endpoint } = yield* memory.serve(HandlerMap.merge(users, carts))
      const connection = yield* connect([endpoint])
      assert.equal(yield* (yield* clientOver(connection, Users)).Get(), "a user")
      assert.equal(yield* (yield* clientOver(connection, Carts)).Get(), "a cart")
    }).pipe(Effect.scoped))

  it.effect("have them also where handlers of the same name stand in the context", () =>
    Effect.gen(function*() {
      // As effect/rpc has them: the later one is in the place of the earlier.
      const users = yield* Component.handlers(Users, getting("a user")).pipe(Effect.provide(getting("somebody else's")))
      const carts = yield* Component.handlers(Carts, getting("a cart")).pipe(
        Effect.provide([getting("a user"), getting("somebody else's")])
      )
      const { endpoint } = yield* memory.serve(HandlerMap.merge(carts, users))
      const connection = yield* connect([endpoint])
      assert.equal(yield* (yield* clientOver(connection, Users)).Get(), "a user")
      assert.equal(yield* (yield* clientOver(connection, Carts)).Get(), "a cart")
    }).pipe(Effect.scoped))

  it.effect("do not serve each other", () =>
    Effect.gen(function*() {
      const { endpoint } = yield* memory.serve(yield* Component.handlers(Users, getting("a user")))
      const carts = yield* clientOver(yield* connect([endpoint]), Carts)
      const error = yield* Effect.flip(carts.Get())
      assert.ok(error._tag === "RemoteError" && error.isUnknownMethod)
    }).pipe(Effect.scoped))
})

describe("one component", () => {
  it.effect("may be served by different handlers at different servers", () =>
    Effect.gen(function*() {
      const clients = yield* Effect.forEach(["a", "b"], (name) =>
        Effect.gen(function*() {
          const { endpoint } = yield* memory.serve(yield* Component.handlers(Users, getting(name)))
          return yield* clientOver(yield* connect([endpoint]), Users)
        }))
      assert.deepEqual(yield* Effect.forEach(clients, (client) => client.Get()), ["a", "b"])
    }).pipe(Effect.scoped))

  it.effect("is served by the handlers that are merged last", () =>
    Effect.gen(function*() {
      const first = yield* Component.handlers(Users, getting("first"))
      const last = yield* Component.handlers(Users, getting("last"))
      const connection = yield* connect([(yield* memory.serve(HandlerMap.merge(first, last))).endpoint])
      assert.equal(yield* (yield* clientOver(connection, Users)).Get(), "last")
    }).pipe(Effect.scoped))

  it.effect("can be served together with handlers of bytes", () =>
    Effect.gen(function*() {
      const users = yield* Component.handlers(Users, getting("a user"))
      const map = HandlerMap.set(users, "test/Bytes", "Get", (args) => Effect.succeed(args))
      const connection = yield* connect([(yield* memory.serve(map)).endpoint])
      assert.equal(yield* (yield* clientOver(connection, Users)).Get(), "a user")
      const key = [...map.entries.values()].find(({ key }) => key.component === "test/Bytes")!.key
      assert.deepEqual(yield* connection.call(key, Uint8Array.of(1, 2)), Uint8Array.of(1, 2))
    }).pipe(Effect.scoped))
})

/** Clients as services, which know nothing of each other. */
class UsersClient extends Context.Service<UsersClient, Component.Client<typeof Users>>()("UsersClient") {
  static readonly layer = Layer.effect(this, Component.client(Users))
}
class CartsClient extends Context.Service<CartsClient, Component.Client<typeof Carts>>()("CartsClient") {
  static readonly layer = Layer.effect(this, Component.client(Carts))
}

const askBoth = Effect.gen(function*() {
  return [yield* (yield* UsersClient).Get(), yield* (yield* CartsClient).Get()]
})

describe("clients as layers", () => {
  it.effect("share the Connection that they are provided with together", () =>
    Effect.gen(function*() {
      const map = HandlerMap.merge(
        yield* Component.handlers(Users, getting("a user")),
        yield* Component.handlers(Carts, getting("a cart"))
      )
      const clients = Layer.merge(UsersClient.layer, CartsClient.layer).pipe(Layer.provide(CallTest.layer(map)))
      assert.deepEqual(yield* Effect.provide(askBoth, clients), ["a user", "a cart"])
    }).pipe(Effect.scoped))

  it.effect("have separate Connections where each is provided with its own", () =>
    Effect.gen(function*() {
      const both = (name: string) =>
        Effect.all([
          Component.handlers(Users, getting(`a user of ${name}`)),
          Component.handlers(Carts, getting(`a cart of ${name}`))
        ]).pipe(Effect.map(([users, carts]) => HandlerMap.merge(users, carts)))
      yield* TestNetwork.listen("users", yield* both("users"), { shutdownGrace: 0 })
      yield* TestNetwork.listen("carts", yield* both("carts"), { shutdownGrace: 0 })
      const to = (name: string) =>
        Connection.layer().pipe(
          Layer.provide(
            Resolver.layer(Effect.map(TestNetwork.endpoint(name), (endpoint) => Resolver.constant(endpoint)))
          ),
          Layer.provide(Balancer.layer(Balancer.roundRobin))
        )
      const clients = Layer.merge(
        UsersClient.layer.pipe(Layer.provide(to("users"))),
        CartsClient.layer.pipe(Layer.provide(to("carts")))
      )
      assert.deepEqual(yield* Effect.provide(askBoth, clients), ["a user of users", "a cart of carts"])
    }).pipe(Effect.scoped, Effect.provide(TestNetwork.layer)))

  it.live("are served by one server's layer, over a socket", () => {
    const server = Server.layer(Effect.gen(function*() {
      const users = yield* Component.handlers(Users, getting("a user"))
      const carts = yield* Component.handlers(Carts, getting("a cart"))
      return yield* Listener.tcp("127.0.0.1:0", HandlerMap.merge(users, carts))
    }))
    const connection = Connection.layer().pipe(
      Layer.provide(Resolver.layer(
        Server.Server.use(({ address }) => Endpoint.parse(address)).pipe(
          Effect.map((endpoint) => Resolver.constant(endpoint))
        )
      )),
      Layer.provide(Balancer.layer(Balancer.roundRobin)),
      Layer.provideMerge(server)
    )
    const clients = Layer.merge(UsersClient.layer, CartsClient.layer).pipe(Layer.provide(connection))
    return Effect.gen(function*() {
      assert.deepEqual(yield* askBoth, ["a user", "a cart"])
    }).pipe(Effect.provide(clients))
  })
})
