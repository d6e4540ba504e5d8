/**
 * Everything that a call can fail with. A real server causes each error on purpose, and the program prints it.
 *
 * Run it with `npx node examples/errors/errors.ts`.
 */
import { NodeRuntime } from "@effect/platform-node"
import { Cause, Console, Effect, Exit, Fiber, Layer, Logger, Schedule, Scope } from "effect"
import { type CallError, Component, Connection, Endpoint, Resolver, Server } from "effect-call"
import { BankServer, type InsufficientFunds, NewBank } from "./bank/server.ts"

/** What an error says to a caller who wants to know whether the call can be made again. */
const hasItRun = (error: CallError.CallError | InsufficientFunds): string => {
  switch (error._tag) {
    case "Unreachable":
      return "it has not run"
    case "CommunicationError":
      return `${error.reason._tag}, ${error.maybeExecuted ? "it may have run" : "it has not run"}`
    case "DeadlineExceeded":
      return "it may have run"
    case "RemoteError":
      return error.isOverloaded || error.isUnknownMethod ? "it has not run" : "it may have run"
    case "InsufficientFunds":
      return "it has run"
  }
}

/** Makes a call that fails, and prints its error. */
const show = <A, R>(what: string, call: Effect.Effect<A, CallError.CallError | InsufficientFunds, R>) =>
  Effect.flatMap(
    Effect.flip(call),
    (error) => Console.log(`${what}\n  ${error._tag} (${hasItRun(error)}): ${error.message}`)
  )

/** The log of server and client, in short lines. */
const ShortLog = Logger.layer([
  Logger.make(({ cause, message }) => {
    const defect = cause.reasons.length === 0 ? "" : `: ${String(Cause.squash(cause))}`
    console.log(`  the log: ${String([message].flat()[0])}${defect}`)
  })
])

const program = Effect.gen(function*() {
  // The server has a Scope of its own, so that it can be stopped before the client.
  const scope = yield* Scope.make()
  const { address } = yield* Server.Server.pipe(
    Effect.provide(yield* Layer.buildWithScope(BankServer, scope))
  )
  const connection = yield* Connection.make(Resolver.constant(yield* Endpoint.parse(address)), { maxMessageSize: 4096 })
  const bank = yield* Effect.provideService(Component.client(NewBank), Connection.Connection, connection)

  yield* show("An error of the method's contract:", bank.Withdraw({ amount: 142 }))
  yield* show("A handler with a bug:", bank.Report())
  yield* show("An answer that the client cannot read:", bank.Note({ text: "rent" }))
  yield* show("A method that the server does not have:", bank.Transfer())
  yield* show("An answer that takes too long:", Connection.withOptions(bank.Audit(), { timeout: "100 millis" }))
  // The server interrupts that handler at the deadline, too. As long as it runs, this server refuses other calls: this
  // call is made again until it is taken.
  yield* Connection.withOptions(bank.Withdraw({ amount: 1 }), { retry: Schedule.spaced("10 millis") })
  yield* show("Arguments that are too large:", bank.Note({ text: "a".repeat(10_000) }))

  const audit = yield* Effect.forkScoped(bank.Audit(), { startImmediately: true })
  yield* show("A server that has enough to do:", bank.Note({ text: "one call too many" }))
  yield* Effect.forkScoped(Scope.close(scope, Exit.void))
  yield* show("A server that stops while it works:", Fiber.join(audit))
  yield* show("A server that is gone:", bank.Withdraw({ amount: 1 }))

  yield* connection.close
  yield* show("A Connection that was closed:", bank.Withdraw({ amount: 1 }))
})

program.pipe(Effect.scoped, Effect.provide(ShortLog), NodeRuntime.runMain)
