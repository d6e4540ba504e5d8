/**
 * What clients and servers log when a server stops while a call is in flight, and when nothing listens any more.
 *
 * Run it with `npx node examples/telemetry/logs.ts`.
 */
import { NodeRuntime } from "@effect/platform-node"
import { Console, Effect, Exit, Fiber, Layer, Logger, References, Scope } from "effect"
import { Connection, Endpoint, HandlerMap, Listener, MethodKey, Resolver, Server } from "effect-call"

const component = "example/Slow"
const started = MethodKey.make(component, "started")
const never = MethodKey.make(component, "never")

const handlers = HandlerMap.empty.pipe(
  HandlerMap.set(component, "started", () => Effect.succeed(new Uint8Array())),
  HandlerMap.set(component, "never", () => Effect.never)
)

/** One line for each log, without its time. */
const logger = Logger.make(({ fiber, logLevel, message }) => {
  const annotations = Object.entries(fiber.getRef(References.CurrentLogAnnotations))
  console.log([`${logLevel}:`, message, ...annotations.map(([name, value]) => `${name}=${String(value)}`)].join(" "))
})

const program = Effect.gen(function*() {
  const scope = yield* Scope.make()
  const layer = Server.layer(Listener.tcp("127.0.0.1:0", handlers), { shutdownGrace: "100 millis" })
  const server = yield* Layer.buildWithScope(layer, scope)
  const { address } = yield* Effect.provideContext(Server.Server, server)
  const connection = yield* Connection.make(Resolver.constant(yield* Endpoint.parse(address)))

  yield* Console.log("-- a call is in flight, and the server stops")
  const call = yield* Effect.forkChild(Effect.flip(connection.call(never, new Uint8Array())), {
    startImmediately: true
  })
  yield* connection.call(started, new Uint8Array())
  yield* Scope.close(scope, Exit.void)
  yield* Fiber.join(call)

  yield* Console.log("-- three calls to an endpoint where nothing listens")
  yield* Effect.replicateEffect(Effect.flip(connection.call(started, new Uint8Array())), 3)
})

program.pipe(
  Effect.scoped,
  Effect.provide(Logger.layer([logger])),
  Effect.provideService(References.MinimumLogLevel, "Debug"),
  Effect.timeout("20 seconds"),
  NodeRuntime.runMain
)
