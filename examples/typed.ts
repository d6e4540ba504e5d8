/**
 * The smallest typed program: a contract, its server and its client.
 *
 * Run it with `node examples/typed.ts`.
 */
import { NodeRuntime } from "@effect/platform-node"
import { Console, Effect, Schema } from "effect"
import { Component, Connection, Endpoint, Listener, Resolver, Server } from "effect-call"
import { Rpc, RpcGroup } from "effect/rpc"
import * as assert from "node:assert/strict"

// The contract defines the payload, the result and the errors of each method.
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

// The server has a handler for each method, and an address to listen on. With port 0 the system picks a free port.
const CalculatorHandlers = Calculator.group.toLayer({
  Divide: ({ dividend, divisor }) =>
    divisor === 0 ? Effect.fail(new DivisionByZero({ dividend })) : Effect.succeed(dividend / divisor)
})

const CalculatorServer = Server.layer(
  Effect.flatMap(
    Component.handlers(Calculator, CalculatorHandlers),
    (handlers) => Listener.tcp("127.0.0.1:0", handlers)
  )
)

// The client has each method of the contract. A method fails with its own errors or a CallError.
const program = Effect.gen(function*() {
  const { address } = yield* Server.Server
  const connection = yield* Connection.make(Resolver.constant(yield* Endpoint.parse(address)))
  const calculator = yield* Effect.provideService(Component.client(Calculator), Connection.Connection, connection)

  const quotient = yield* calculator.Divide({ dividend: 6, divisor: 3 })
  yield* Console.log(`6 / 3 = ${quotient}`)
  assert.equal(quotient, 2)

  const infinite = yield* calculator.Divide({ dividend: 6, divisor: 0 }).pipe(
    Effect.catchTag("DivisionByZero", ({ dividend }) => Effect.succeed(dividend * Infinity))
  )
  yield* Console.log(`6 / 0 = ${infinite}`)
  assert.equal(infinite, Infinity)

  yield* connection.close
  const error = yield* Effect.flip(calculator.Divide({ dividend: 6, divisor: 3 }))
  yield* Console.log(`without a connection: ${error._tag}: ${error.message}`)
  assert.equal(error._tag, "CommunicationError")
})

program.pipe(Effect.scoped, Effect.provide(CalculatorServer), NodeRuntime.runMain)
