/**
 * Each client gets its own handlers, picked by its certificate. The handlers know who calls, and a client cannot call
 * what is not in its map.
 *
 * Run it with `npx node examples/security/identities.ts`.
 */
import { NodeRuntime } from "@effect/platform-node"
import { Console, Context, Effect, Layer, Schema } from "effect"
import { Component, Connection, Endpoint, HandlerMap, Listener, Resolver, Server } from "effect-call"
import { Rpc, RpcGroup } from "effect/rpc"
import { type Identity, makeAuthority } from "../support/certificates.ts"

const Orders = Component.make("shop/Orders", RpcGroup.make(Rpc.make("Mine", { success: Schema.String })))
const Admin = Component.make("shop/Admin", RpcGroup.make(Rpc.make("Report", { success: Schema.String })))

// ---- The handlers.

class Caller extends Context.Service<Caller, { readonly name: string }>()("shop/Caller") {}

const OrdersHandlers = Orders.group.toLayer(
  Caller.useSync(({ name }) => ({ Mine: () => Effect.succeed(`the orders of ${name}`) }))
)
const AdminHandlers = Admin.group.toLayer({ Report: () => Effect.succeed("all is well") })

/** The handlers for one client. */
const handlersFor = Effect.fnUntraced(function*(name: string) {
  const orders = yield* Component.handlers(
    Orders,
    Layer.provide(OrdersHandlers, Layer.succeed(Caller, { name }))
  )
  return name === "admin" ? HandlerMap.merge(orders, yield* Component.handlers(Admin, AdminHandlers)) : orders
})

const listen = Effect.fnUntraced(function*(tls: Identity & { readonly ca: string }) {
  const names = ["front", "admin"]
  const maps = new Map(
    yield* Effect.forEach(names, (name) => Effect.map(handlersFor(name), (map) => [name, map] as const))
  )
  const pick = ({ certificate }: Listener.Peer) => {
    const name = certificate?.subject.CN // a list if the certificate has several
    // A client that is not in the list has a valid certificate, but may call nothing.
    return (typeof name === "string" ? maps.get(name) : undefined) ?? HandlerMap.empty
  }
  return yield* Listener.mtls(tls, yield* Listener.tcp("127.0.0.1:0", pick))
})

// ---- The clients.

const program = Effect.gen(function*() {
  const authority = yield* makeAuthority()
  const { ca } = authority
  const listener = yield* listen({ ca, ...yield* authority.server() })
  yield* Effect.forkScoped(Server.serve(listener))
  const endpoint = yield* Endpoint.parse(listener.address)

  for (const name of ["front", "admin", "stranger"]) {
    const identity = yield* authority.client({ commonName: name })
    const connection = yield* Connection.make(Resolver.constant(Endpoint.mtls({ ca, ...identity }, endpoint)))
    const context = Context.make(Connection.Connection, connection)
    const orders = yield* Effect.provideContext(Component.client(Orders), context)
    const admin = yield* Effect.provideContext(Component.client(Admin), context)
    for (const [method, call] of [["Orders.Mine", orders.Mine()], ["Admin.Report", admin.Report()]] as const) {
      const answer = yield* Effect.catch(call, (error) => Effect.succeed(`${error._tag}: ${error.message}`))
      yield* Console.log(`${name} calls ${method}: ${answer}`)
    }
  }
})

program.pipe(Effect.scoped, NodeRuntime.runMain)
