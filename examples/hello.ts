/**
 * One server and one client, over TCP.
 *
 * Run it with `node examples/hello.ts`.
 */
import { NodeRuntime } from "@effect/platform-node"
import { Console, Effect } from "effect"
import { Connection, Endpoint, HandlerMap, Listener, MethodKey, Resolver, Server } from "effect-call"
import * as assert from "node:assert/strict"

const bytes = (text: string) => new TextEncoder().encode(text)
const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes)

// The server has a handler for each method, and an address to listen on. With port 0 the system picks a free port.
const handlers = HandlerMap.empty.pipe(
  HandlerMap.set("example/Greeter", "greet", (name) => Effect.succeed(bytes(`Hello, ${text(name)}!`)))
)
const GreeterServer = Server.layer(Listener.tcp("127.0.0.1:0", handlers))

// The client identifies a method by the component's name and the method's name.
const greet = MethodKey.make("example/Greeter", "greet")

const program = Effect.gen(function*() {
  const { address } = yield* Server.Server
  yield* Console.log(`the server listens on ${address}`)

  const connection = yield* Connection.make(Resolver.constant(yield* Endpoint.parse(address)))
  const answer = yield* connection.call(greet, bytes("Ada"), { timeout: "1 second" })
  yield* Console.log(`the client got: ${text(answer)}`)
  assert.equal(text(answer), "Hello, Ada!")
})

// When the program ends, the connection closes first, and then the server.
program.pipe(Effect.scoped, Effect.provide(GreeterServer), NodeRuntime.runMain)
