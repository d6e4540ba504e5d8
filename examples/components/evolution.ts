/**
 * A contract that changes. An old client calls a new server, and a new client calls an old server, as in every rollout.
 *
 * Run it with `npx node examples/components/evolution.ts`.
 */
import { NodeRuntime } from "@effect/platform-node"
import { Console, Effect, Logger } from "effect"
import { Component, Connection, Endpoint, type HandlerMap, Listener, Resolver, Server } from "effect-call"
import * as New from "./orders/new.ts"
import * as Old from "./orders/old.ts"

/** A Connection to a server of its own. */
const connectTo = Effect.fnUntraced(function*(handlers: HandlerMap.HandlerMap<never>) {
  const listener = yield* Listener.tcp("127.0.0.1:0", handlers)
  yield* Effect.forkScoped(Server.serve(listener))
  return yield* Connection.make(Resolver.constant(yield* Endpoint.parse(listener.address)))
})

/** Makes a call, and prints what the client gets. */
const show = <A, E>(name: string, call: Effect.Effect<A, E>) =>
  call.pipe(
    Effect.match({ onSuccess: (value) => JSON.stringify(value), onFailure: String }),
    Effect.flatMap((text) => Console.log(`${name}: ${text}`))
  )

const oldClient = Effect.gen(function*() {
  yield* Console.log("an old client of a new server")
  const connection = yield* connectTo(yield* Component.handlers(New.Orders, New.OrdersHandlers))
  const orders = yield* Effect.provideService(Component.client(Old.Orders), Connection.Connection, connection)
  yield* show("  fields with a default", orders.Order({ item: "tea" }))
  yield* show("  an error of both", orders.Order({ item: "coal" }))
  yield* show("  a new error", orders.Order({ item: "cake" }))
  yield* show("  a new value", orders.Order({ item: "ice" }))
  yield* show("  another type", orders.Track({ id: 7 }))
})

const newClient = Effect.gen(function*() {
  yield* Console.log("a new client of an old server")
  const connection = yield* connectTo(yield* Component.handlers(Old.Orders, Old.OrdersHandlers))
  const orders = yield* Effect.provideService(Component.client(New.Orders), Connection.Connection, connection)
  yield* show("  new fields", orders.Order({ item: "tea", count: 3, note: "soon" }))
  yield* show("  an error of both", orders.Order({ item: "coal", count: 1 }))
  yield* show("  a new method", orders.Cancel({ id: 7 }))
})

/** Prints log messages in one short line. */
const shortLogs = Logger.layer([
  Logger.make(({ logLevel, message }) => console.log(`  ${logLevel.toUpperCase()}: ${String(message)}`))
])

Effect.all([oldClient, newClient], { discard: true }).pipe(
  Connection.withOptions({ timeout: "5 seconds" }),
  Effect.scoped,
  Effect.provide(shortLogs),
  NodeRuntime.runMain
)
