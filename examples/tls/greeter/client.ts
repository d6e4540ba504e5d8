/**
 * The client process: `npx node examples/tls/greeter/client.ts`. It calls the server with mTLS at localhost:4443, or at
 * the endpoint in the environment variable GREETER.
 */
import { NodeRuntime } from "@effect/platform-node"
import { Config, Console, Effect } from "effect"
import { Component, Connection, Endpoint, Resolver } from "effect-call"
import { Greeter } from "./contract.ts"
import { tlsFiles } from "./files.ts"

const program = Effect.gen(function*() {
  const address = yield* Config.String("GREETER").pipe(Config.withDefault("tcp://localhost:4443"))
  const files = yield* tlsFiles("client")
  const tls = Effect.mapError(files, (message) => new Endpoint.DialError({ message }))
  const endpoint = Endpoint.mtls(tls, yield* Endpoint.parse(address))

  const connection = yield* Connection.make(Resolver.constant(endpoint))
  const greeter = yield* Effect.provideService(Component.client(Greeter), Connection.Connection, connection)
  yield* Console.log(yield* greeter.Greet({ name: "Ada" }))
})

program.pipe(Connection.withOptions({ timeout: "5 seconds" }), Effect.scoped, NodeRuntime.runMain)
