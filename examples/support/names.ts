/**
 * A component whose servers answer with their own name, so that a program can show which server got a call. The
 * programs of `discovery` and `balancing` use it.
 */
import { Effect, type Scope } from "effect"
import { Component, Connection, type HandlerMap, Listener, Server } from "effect-call"
import { Rpc, RpcGroup } from "effect/rpc"
import * as Schema from "effect/Schema"

/** The contract. To ask twice does no harm, so the method is idempotent, and a lost call can be made again. */
export const Names = Component.make(
  "example/Names",
  RpcGroup.make(Rpc.make("Name", { success: Schema.String }).pipe(Component.idempotent))
)

/** The handlers of the server `name`. They run `before`, and then answer. */
export const namesHandlers = (
  name: string,
  before: Effect.Effect<void> = Effect.void
): Effect.Effect<HandlerMap.HandlerMap<never>, never, Scope.Scope> =>
  Component.handlers(Names, Names.group.toLayer({ Name: () => Effect.as(before, name) }))

/** Serves on `address`: `host:port`, or the path of a Unix socket. The server stops when the Scope closes. */
export const serve = Effect.fnUntraced(function*(address: string, handlers: HandlerMap.HandlerMap<never>) {
  const listener = yield* (address.startsWith("/") ? Listener.unix(address, handlers) : Listener.tcp(address, handlers))
  yield* Effect.forkScoped(Server.serve(listener), { startImmediately: true })
  return listener.address
})

/** Makes `calls` calls, one after the other, and returns the names of the servers that answered. */
const ask = Effect.fnUntraced(function*(calls: number) {
  const names = yield* Component.client(Names)
  return yield* Effect.replicateEffect(names.Name(), calls)
})

/** As {@link ask}, over the given Connection. */
export const askOver = (connection: Connection.Connection, calls: number) =>
  Effect.provideService(ask(calls), Connection.Connection, connection)
