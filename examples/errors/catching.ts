/**
 * Handling errors: by tag, by reason, and by the identity of a remote error.
 *
 * Run it with `npx node examples/errors/catching.ts`.
 */
import { NodeRuntime } from "@effect/platform-node"
import { Console, Effect } from "effect"
import { Component, Connection, Endpoint, HandlerMap, Listener, MethodKey, Resolver, Server } from "effect-call"
import { BankServer, NewBank } from "./bank/server.ts"

const connect = Effect.gen(function*() {
  const { address } = yield* Server.Server
  return yield* Connection.make(Resolver.constant(yield* Endpoint.parse(address)))
})

const typed = Effect.gen(function*() {
  const bank = yield* Effect.provideService(Component.client(NewBank), Connection.Connection, yield* connect)

  const withdraw = (amount: number) =>
    bank.Withdraw({ amount }).pipe(
      Connection.withOptions({ timeout: "5 seconds" }),
      Effect.map((left) => `withdrawn, ${left} are left`),
      Effect.catchTags({
        InsufficientFunds: ({ missing }) => Effect.succeed(`refused, ${missing} are missing`),
        Unreachable: () => Effect.succeed("not withdrawn: try again later"),
        DeadlineExceeded: () => Effect.succeed("perhaps withdrawn: look at the account")
      }),
      Effect.catchReason("CommunicationError", "Lost", () => Effect.succeed("perhaps withdrawn: look at the account"))
      // A RemoteError, and the other reasons of a CommunicationError, are still in the type: they go to the caller.
    )
  yield* Console.log(yield* withdraw(30))
  yield* Console.log(yield* withdraw(142))
})

// A handler of bytes fails with any error. Its callers get the error and its causes as texts.
const orders = HandlerMap.set(
  HandlerMap.empty,
  "example/Orders",
  "order",
  () => Effect.fail(new Error("cannot order tea", { cause: new Error("no funds") }))
)

const remote = Effect.gen(function*() {
  const connection = yield* connect
  const call = connection.call(MethodKey.make("example/Orders", "order"), new Uint8Array(), { timeout: "5 seconds" })
  const error = yield* Effect.flip(call)
  if (error._tag !== "RemoteError") return yield* error
  yield* Console.log(`${error.message}, because of: ${error.chain[1]?.message}`)
  // An identity is the text of an error, as Go writes it.
  const noFunds = "(:&errors.errorString{s:\"no funds\"})"
  yield* Console.log(`Is it for lack of funds? ${error.is(noFunds) ? "yes" : "no"}`)
})

const OrdersServer = Server.layer(Listener.tcp("127.0.0.1:0", orders))

// Each part closes its Connection before its server stops.
Effect.provide(Effect.scoped(typed), BankServer).pipe(
  Effect.andThen(Effect.provide(Effect.scoped(remote), OrdersServer)),
  NodeRuntime.runMain
)
