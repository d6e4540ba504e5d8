/**
 * Binary against JSON: how many bytes a call takes in each format, and which values each carries.
 *
 * Run it with `npx node examples/components/formats.ts`.
 */
import { NodeRuntime } from "@effect/platform-node"
import { Array, Console, Effect, Schema } from "effect"
import { Component, Connection } from "effect-call"
import { CallTest } from "effect-call/testing"
import { Rpc, RpcGroup } from "effect/rpc"
import { inspect, isDeepStrictEqual } from "node:util"

const Order = Schema.Struct({
  id: Schema.Int,
  customer: Schema.String,
  items: Schema.Array(Schema.Struct({ name: Schema.String, count: Schema.Int })),
  at: Schema.Date
})
const Echo = Component.make(
  "example/Echo",
  RpcGroup.make(
    Rpc.make("Order", { payload: Order, success: Order }),
    Rpc.make("Bytes", { payload: Schema.Uint8Array, success: Schema.Uint8Array }),
    Rpc.make("Number", { payload: Schema.Number, success: Schema.Number }),
    Rpc.make("Text", { payload: Schema.String, success: Schema.String }),
    Rpc.make("Maybe", { payload: Schema.NullishOr(Schema.Int), success: Schema.NullishOr(Schema.Int) }),
    Rpc.make("Anything", { payload: Schema.Unknown, success: Schema.Unknown })
  )
)
const EchoHandlers = Echo.group.toLayer({
  Order: Effect.succeed,
  Bytes: Effect.succeed,
  Number: Effect.succeed,
  Text: Effect.succeed,
  Maybe: Effect.succeed,
  Anything: Effect.succeed
})

const anOrder = {
  id: 4711,
  customer: "Ada Lovelace",
  items: [{ name: "tea", count: 2 }, { name: "milk", count: 1 }],
  at: new Date(0)
}

/** Calls each method. It gives the size of the arguments, or what happens to a value that arrives changed. */
const resultsIn = Effect.fnUntraced(function*(format: "binary" | "json") {
  const connection = yield* Connection.Connection
  let size = 0
  // A plain object can be a Connection. This one counts the bytes of the arguments.
  const counting: Connection.Connection = {
    ...connection,
    call: (key, args, options) => {
      size = args.length
      return connection.call(key, args, options)
    }
  }
  const echo = yield* Component.client(Echo, { format }).pipe(Effect.provideService(Connection.Connection, counting))
  const send = <A, E>(name: string, value: A, call: (value: A) => Effect.Effect<unknown, E>) =>
    Effect.matchCause(call(value), {
      onFailure: () => ({ name, result: "refused" }),
      onSuccess: (answer) => {
        const isSame = isDeepStrictEqual(answer, value)
        return { name, result: isSame ? `${size} bytes` : `arrives as ${inspect(answer)}` }
      }
    })
  return yield* Effect.all([
    send("an order with two items", anOrder, (order) => echo.Order(order)),
    send("1000 bytes", new Uint8Array(1000), (bytes) => echo.Bytes(bytes)),
    send("NaN", NaN, (number) => echo.Number(number)),
    send("-0", -0, (number) => echo.Number(number)),
    send("undefined, where null is allowed", undefined, (nothing) => echo.Maybe(nothing)),
    send("half of a surrogate pair", "\ud83d", (text) => echo.Text(text)),
    send("a Map in Schema.Unknown", new Map(), (map) => echo.Anything(map))
  ])
})

const program = Effect.gen(function*() {
  const handlers = yield* Component.handlers(Echo, EchoHandlers)
  const [binary, json] = yield* Effect.all([resultsIn("binary"), resultsIn("json")]).pipe(
    Effect.provide(CallTest.layer(handlers))
  )
  const show = (name: string, inBinary: string, inJson: string) =>
    Console.log(`${name.padEnd(34)}${inBinary.padEnd(12)}${inJson}`)
  yield* show("", "binary", "json")
  for (const [one, other] of Array.zip(binary, json)) yield* show(one.name, one.result, other.result)
})

program.pipe(Connection.withOptions({ timeout: "5 seconds" }), Effect.scoped, NodeRuntime.runMain)
