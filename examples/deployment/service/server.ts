/**
 * A server as it is deployed: settings from the environment, a readiness and a liveness probe, and a graceful stop.
 *
 * - `LISTEN`: the address for calls. Default: `:7000`.
 * - `PROBE_PORT`: the port for HTTP probes. Default: 8080.
 * - `WARM_UP`: how long it takes until it is ready. Default: `100 millis`.
 * - `SHUTDOWN_GRACE`: how long it waits for calls in flight when it is stopped. Default: `20 seconds`.
 */
import * as NodeHttpServer from "@effect/platform-node/NodeHttpServer"
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import { Config, Console, Duration, Effect, Layer } from "effect"
import { Component, HandlerMap, Health, Listener, Server } from "effect-call"
import { HttpRouter, HttpServerResponse } from "effect/http"
import { createServer } from "node:http"
import { Greeter } from "./contract.ts"

const GreeterHandlers = Greeter.group.toLayer({
  Greet: ({ millis, name }) => Effect.delay(Effect.succeed({ text: `Hello, ${name}!`, process: process.pid }), millis)
})

const GreeterServer = Layer.unwrap(Effect.gen(function*() {
  const address = yield* Config.withDefault(Config.String("LISTEN"), ":7000")
  const shutdownGrace = yield* Config.withDefault(Config.Duration("SHUTDOWN_GRACE"), Duration.seconds(20))
  const listener = Effect.gen(function*() {
    const greeter = yield* Component.handlers(Greeter, GreeterHandlers)
    return yield* Listener.tcp(address, HandlerMap.merge(greeter, yield* Health.handlers))
  })
  return Server.layer(listener, { shutdownGrace })
}))

/** `/ready`: whether it takes calls. `/live`: whether the process answers at all. */
const Probes = Layer.unwrap(Effect.gen(function*() {
  const port = yield* Config.withDefault(Config.Int("PROBE_PORT"), 8080)
  const routes = Layer.merge(
    HttpRouter.add("GET", "/ready", Health.readiness),
    HttpRouter.add("GET", "/live", HttpServerResponse.text("alive\n"))
  )
  return HttpRouter.serve(routes, { disableLogger: true }).pipe(
    Layer.provide(NodeHttpServer.layer(createServer, { port }))
  )
}))

/** What a real server does before calls come: it fills caches, and connects to databases. */
const warmUp = Effect.flatMap(Config.withDefault(Config.Duration("WARM_UP"), Duration.millis(100)), Effect.sleep)

const Ready = Layer.effectDiscard(Effect.gen(function*() {
  const { address } = yield* Server.Server
  yield* Console.log(`listening on ${address}`)
  yield* warmUp
  yield* Health.set("Serving")
  yield* Console.log("ready")
  // The first step of the stop. The server still answers the calls that it has.
  yield* Effect.addFinalizer(() => Effect.andThen(Health.set("NotServing"), Console.log("stopping")))
}))

const Main = Ready.pipe(
  Layer.provide(GreeterServer),
  // The probes are started first and stopped last.
  Layer.provide(Probes),
  Layer.provide(Health.layer("NotServing"))
)

NodeRuntime.runMain(Layer.launch(Main))
