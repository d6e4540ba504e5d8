/**
 * Calls without a contract: a method takes bytes and gives bytes. One server and one client, over TCP.
 *
 * Run it with `npx node examples/first-calls/bytes.ts`.
 */
import { NodeRuntime } from "@effect/platform-node"
import { Console, Effect } from "effect"
import { Connection, Endpoint, HandlerMap, Listener, MethodKey, Resolver, Server } from "effect-call"

const toBytes = (text: string) => new TextEncoder().encode(text)
const fromBytes = (bytes: Uint8Array) => new TextDecoder().decode(bytes)

// The server: a handler for each method, and an address to listen on.
const handlers = HandlerMap.empty.pipe(
  HandlerMap.set("example/Greeter", "greet", (name) => Effect.succeed(toBytes(`Hello, ${fromBytes(name)}!`)))
)
const GreeterServer = Server.layer(Listener.tcp("127.0.0.1:0", handlers))

// The client: it identifies a method by the names of the component and the method.
const greet = MethodKey.make("example/Greeter", "greet")
const missing = MethodKey.make("example/Greeter", "goodbye")

const program = Effect.gen(function*() {
  const { address } = yield* Server.Server
  const connection = yield* Connection.make(Resolver.constant(yield* Endpoint.parse(address)))

  const answer = yield* connection.call(greet, toBytes("Ada"), { timeout: "5 seconds" })
  yield* Console.log(`the client got: ${fromBytes(answer)}`)

  const error = yield* Effect.flip(connection.call(missing, toBytes("Ada"), { timeout: "5 seconds" }))
  yield* Console.log(`a method that the server does not have: ${error._tag}: ${error.message}`)
})

// When the program ends, the Connection closes first, and then the server.
program.pipe(Effect.scoped, Effect.provide(GreeterServer), NodeRuntime.runMain)
