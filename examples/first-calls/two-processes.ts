/**
 * A server and a client, each in a process of its own: this program starts `greeter/server.ts`, then
 * `greeter/client.ts`, and stops the server with SIGTERM, as a supervisor does.
 *
 * Run it with `npx node examples/first-calls/two-processes.ts`.
 */
import { NodeRuntime, NodeServices } from "@effect/platform-node"
import { Console, Effect } from "effect"
import { startProgram } from "../support/program.ts"

const program = Effect.gen(function*() {
  const server = yield* startProgram(new URL("greeter/server.ts", import.meta.url), [], { PORT: "0" })
  const address = yield* server.after("listening on ")
  yield* Console.log(`server: listening on ${address}`)

  const client = yield* startProgram(new URL("greeter/client.ts", import.meta.url), [], { GREETER: address })
  yield* Console.log(`client: ${yield* client.after("")}`)
  yield* Console.log(`client: ${yield* client.after("")}`)
  yield* Console.log(`the client ended with exit code ${yield* client.exitCode}`)

  yield* server.signal("SIGTERM")
  yield* Console.log(`the server ended with exit code ${yield* server.exitCode}`)
})

program.pipe(Effect.scoped, Effect.provide(NodeServices.layer), NodeRuntime.runMain)
