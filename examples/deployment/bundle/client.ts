/**
 * A typed client, to be bundled. It calls the address in `SERVER`, and prints the answer and the CPU time that its
 * process has taken.
 */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import { Config, Console, Effect } from "effect"
import { Component, Connection, Endpoint, Resolver } from "effect-call"
import { Greeter } from "../service/contract.ts"

const program = Effect.gen(function*() {
  const endpoint = yield* Endpoint.parse(yield* Config.String("SERVER"))
  const connection = yield* Connection.make(Resolver.constant(endpoint))
  const { Greet } = yield* Effect.provideService(Component.client(Greeter), Connection.Connection, connection)
  const { text } = yield* Greet({ name: "Ada", millis: 0 })
  yield* Console.log(`answer: ${text}`)
  const { system, user } = process.cpuUsage()
  yield* Console.log(`CPU: ${Math.round((system + user) / 1000)}`)
})

program.pipe(Effect.scoped, NodeRuntime.runMain)
