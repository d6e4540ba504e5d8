/**
 * The server process: `npx node examples/tls/greeter/server.ts`. It listens with mTLS on port 4443, or on the port in
 * the environment variable PORT.
 */
import { NodeRuntime } from "@effect/platform-node"
import { Config, Console, Effect, Layer } from "effect"
import { Component, Listener, Server } from "effect-call"
import { Greeter } from "./contract.ts"
import { tlsFiles } from "./files.ts"

const GreeterHandlers = Greeter.group.toLayer({
  Greet: ({ name }) => Effect.succeed(`Hello, ${name}!`)
})

const GreeterServer = Server.layer(Effect.gen(function*() {
  const port = yield* Config.Int("PORT").pipe(Config.withDefault(4443))
  const handlers = yield* Component.handlers(Greeter, GreeterHandlers)
  const files = yield* tlsFiles("server")
  const tls = Effect.mapError(files, (message) => new Listener.ListenerError({ message }))
  return yield* Listener.mtls(tls, yield* Listener.tcp(`127.0.0.1:${port}`, handlers))
}))

const Announced = Layer.effectDiscard(Server.Server.use(({ address }) => Console.log(`listening on ${address}`)))

Announced.pipe(Layer.provide(GreeterServer), Layer.launch, NodeRuntime.runMain)
