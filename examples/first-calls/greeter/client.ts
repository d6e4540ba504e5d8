/**
 * The client process: `npx node examples/first-calls/greeter/client.ts`. It calls the server at tcp://127.0.0.1:9000,
 * or at the endpoint in the environment variable GREETER, and ends.
 */
import { NodeRuntime } from "@effect/platform-node"
import { Config, Console, Effect, Layer } from "effect"
import { Balancer, Component, Connection, Endpoint, Resolver } from "effect-call"
import { Greeter } from "./contract.ts"

const program = Effect.gen(function*() {
  const greeter = yield* Component.client(Greeter)
  yield* Console.log(yield* greeter.Greet({ name: "Ada" }))

  const error = yield* Effect.flip(greeter.Greet({ name: "" }))
  yield* Console.log(`without a name: ${error._tag}`)
})

// Where the servers are. A Connection to them is opened when it is first needed, and closed when the program ends.
const Servers = Resolver.layer(
  Effect.gen(function*() {
    const text = yield* Config.String("GREETER").pipe(Config.withDefault("tcp://127.0.0.1:9000"))
    return Resolver.constant(yield* Endpoint.parse(text))
  })
)

program.pipe(
  Connection.withOptions({ timeout: "5 seconds" }),
  Effect.provide(Connection.layer().pipe(Layer.provide([Servers, Balancer.layer(Balancer.roundRobin)]))),
  NodeRuntime.runMain
)
