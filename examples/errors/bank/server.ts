/**
 * The contract of a bank, and its server.
 */
import { Effect, Schema } from "effect"
import { Component, Listener, Server } from "effect-call"
import { Rpc, RpcGroup } from "effect/rpc"

/** An error of the application: it is part of the contract, so callers get it with its type and its fields. */
export class InsufficientFunds extends Schema.TaggedError<InsufficientFunds>()("InsufficientFunds", {
  missing: Schema.Int
}) {
  override get message() {
    return `${this.missing} are missing`
  }
}

const Withdraw = Rpc.make("Withdraw", {
  payload: { amount: Schema.Int },
  success: Schema.Int,
  error: InsufficientFunds
})
const Audit = Rpc.make("Audit", { success: Schema.String })
const Report = Rpc.make("Report", { success: Schema.String })
const note = { text: Schema.String }

const Bank = Component.make(
  "example/Bank",
  RpcGroup.make(Withdraw, Audit, Report, Rpc.make("Note", { payload: note, success: Schema.Void }))
)

/** A later version of the contract, which the server does not have yet: one method is new, and one answers more. */
export const NewBank = Component.make(
  "example/Bank",
  RpcGroup.make(Withdraw, Audit, Report, Rpc.make("Note", { payload: note, success: Schema.Int }), Rpc.make("Transfer"))
)

const BankHandlers = Bank.group.toLayer({
  Withdraw: ({ amount }) =>
    amount <= 100 ? Effect.succeed(100 - amount) : Effect.fail(new InsufficientFunds({ missing: amount - 100 })),
  // It takes a minute.
  Audit: () => Effect.as(Effect.sleep("1 minute"), "all is well"),
  Note: () => Effect.void,
  // A bug.
  Report: () => Effect.die(new TypeError("the rate is undefined"))
})

/** The server runs one call at a time, and has no queue. */
export const BankServer = Server.layer(
  Effect.flatMap(Component.handlers(Bank, BankHandlers), (handlers) => Listener.tcp("127.0.0.1:0", handlers)),
  { maxConcurrentCalls: 1, maxQueuedCalls: 0, shutdownGrace: 0 }
)
