/**
 * How a method fails: with an error of its contract, with a defect, or where its caller does not wait for the answer.
 *
 * Run it with `npx node examples/components/failures.ts`.
 */
import { NodeRuntime } from "@effect/platform-node"
import { Cause, Console, Effect, Layer, Logger, Queue, Schema } from "effect"
import { Component, Connection, Endpoint, Listener, Resolver, Server } from "effect-call"
import { Rpc, RpcGroup } from "effect/rpc"

class Declined extends Schema.TaggedError<Declined>()("Declined", { reason: Schema.String }) {}

const Payments = Component.make(
  "example/Payments",
  RpcGroup.make(
    Rpc.make("Pay", { payload: { amount: Schema.Int }, success: Schema.String, error: Declined }),
    Rpc.make("Remind", { payload: { customer: Schema.String }, error: Declined })
  )
)

const PaymentsHandlers = Payments.group.toLayer({
  Pay: ({ amount }) => {
    if (amount > 100) return Effect.fail(new Declined({ reason: "too much" }))
    if (amount < 0) throw new RangeError("the secret ledger has no negative amounts") // a defect
    return Effect.succeed("paid")
  },
  Remind: ({ customer }) => Effect.fail(new Declined({ reason: `${customer} has no address` }))
})

const ToPayments = Layer.effect(
  Connection.Connection,
  Effect.gen(function*() {
    const listener = yield* Listener.tcp("127.0.0.1:0", yield* Component.handlers(Payments, PaymentsHandlers))
    yield* Effect.forkScoped(Server.serve(listener))
    return yield* Connection.make(Resolver.constant(yield* Endpoint.parse(listener.address)))
  })
)

const showFailures = Effect.fn("showFailures")(function*(serverLog: Queue.Dequeue<string>) {
  const payments = yield* Component.client(Payments)

  // An error of the contract arrives as it was.
  const declined = yield* Effect.flip(payments.Pay({ amount: 500 }))
  yield* Console.log(declined._tag === "Declined" ? `declined: ${declined.reason}` : declined.message)

  // A defect is logged by the server. The caller gets no details.
  const defect = yield* Effect.flip(payments.Pay({ amount: -1 }))
  yield* Console.log(`${defect._tag}: ${defect.message}`)
  yield* Console.log(`the server logged ${yield* Queue.take(serverLog)}`)

  // A payload that does not fit its schema is a defect of the caller. Nothing is sent.
  const misuse = yield* Effect.sandbox(payments.Pay({ amount: 0.5 })).pipe(Effect.flip)
  yield* Console.log(Cause.prettyErrors(misuse).map(({ message }) => message).join())

  // With `discard` the call succeeds as soon as the handler has started. The server logs how the handler fails.
  yield* payments.Remind({ customer: "Ada" }, { discard: true })
  yield* Console.log("the reminder is on its way")
  yield* Console.log(`the server logged ${yield* Queue.take(serverLog)}`)
})

const program = Effect.gen(function*() {
  const serverLog = yield* Queue.unbounded<string>()
  const logger = Logger.make(({ logLevel, message }) => {
    Queue.offerUnsafe(serverLog, `${logLevel.toUpperCase()}: ${String(message)}`)
  })
  yield* showFailures(serverLog).pipe(Effect.provide(ToPayments), Effect.provide(Logger.layer([logger])))
})

program.pipe(Connection.withOptions({ timeout: "5 seconds" }), NodeRuntime.runMain)
