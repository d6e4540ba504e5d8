/**
 * The server process: `npx node examples/first-calls/greeter/server.ts`. It listens on 127.0.0.1:9000, or on the port
 * in the environment variable PORT, and serves until it gets SIGINT (Ctrl+C) or SIGTERM.
 */
import { NodeRuntime } from "@effect/platform-node"
import { Config, Console, Effect, Layer } from "effect"
import { Component, Listener, Server } from "effect-call"
import { Greeter, NotAName } from "./contract.ts"

const GreeterHandlers = Greeter.group.toLayer({
  Greet: ({ name }) => name === "" ? Effect.fail(new NotAName({ text: name })) : Effect.succeed(`Hello, ${name}!`)
})

const GreeterServer = Server.layer(
  Effect.gen(function*() {
    const port = yield* Config.Int("PORT").pipe(Config.withDefault(9000))
    const handlers = yield* Component.handlers(Greeter, GreeterHandlers)
    return yield* Listener.tcp(`127.0.0.1:${port}`, handlers)
  })
)

const Announced = Layer.effectDiscard(Server.Server.use(({ address }) => Console.log(`listening on ${address}`)))

// `Layer.launch` keeps the layers until the process is stopped. Then the server lets calls finish.
Announced.pipe(Layer.provide(GreeterServer), Layer.launch, NodeRuntime.runMain)
