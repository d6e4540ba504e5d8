/**
 * The smallest typed program: a contract, a server and a client, all in one process.
 *
 * Run it with `npx node examples/first-calls/first.ts`.
 */
import { NodeRuntime } from "@effect/platform-node"
import { Console, Effect, Layer, Schema } from "effect"
import { Component, Connection, Endpoint, Listener, Resolver, Server } from "effect-call"
import { Rpc, RpcGroup } from "effect/rpc"

// The contract: a name, and the payload, the result and the errors of each method.
class DivisionByZero extends Schema.TaggedError<DivisionByZero>()("DivisionByZero", { dividend: Schema.Finite }) {}

const Calculator = Component.make(
  "example/Calculator",
  RpcGroup.make(
    Rpc.make("Divide", {
      payload: { dividend: Schema.Finite, divisor: Schema.Finite },
      success: Schema.Finite,
      error: DivisionByZero
    })
  )
)

// The server: a handler for each method, and an address to listen on. With port 0 the system picks a free port.
const CalculatorHandlers = Calculator.group.toLayer({
  Divide: ({ dividend, divisor }) =>
    divisor === 0 ? Effect.fail(new DivisionByZero({ dividend })) : Effect.succeed(dividend / divisor)
})
const CalculatorServer = Server.layer(
  Effect.gen(function*() {
    const handlers = yield* Component.handlers(Calculator, CalculatorHandlers)
    return yield* Listener.tcp("127.0.0.1:0", handlers)
  })
)

// The client: a Connection to the endpoints of the server. Here the server is in the same program, so we ask it.
const ToCalculator = Layer.effect(
  Connection.Connection,
  Effect.gen(function*() {
    const { address } = yield* Server.Server // such as tcp://127.0.0.1:43211
    return yield* Connection.make(Resolver.constant(yield* Endpoint.parse(address)))
  })
)

const program = Effect.gen(function*() {
  const calculator = yield* Component.client(Calculator)

  const quotient = yield* calculator.Divide({ dividend: 6, divisor: 3 })
  yield* Console.log(`6 / 3 = ${quotient}`)

  // A method fails with its own errors or with a CallError. Both are typed.
  const infinite = yield* calculator.Divide({ dividend: 6, divisor: 0 }).pipe(
    Effect.catchTag("DivisionByZero", ({ dividend }) => Effect.succeed(dividend * Infinity))
  )
  yield* Console.log(`6 / 0 = ${infinite}`)
})

program.pipe(
  Connection.withOptions({ timeout: "5 seconds" }), // there is no time limit unless you set one
  Effect.provide(ToCalculator.pipe(Layer.provide(CalculatorServer))),
  NodeRuntime.runMain
)
