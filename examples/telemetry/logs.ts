/**
 * What clients and servers log when a handler dies, when a server stops while it serves a call, and when nothing
 * listens any more.
 *
 * Run it with `npx node examples/telemetry/logs.ts`.
 */
import { NodeRuntime } from "@effect/platform-node"
import { Cause, Console, Effect, Exit, Fiber, Layer, Logger, References, Scope } from "effect"
import { Connection, Endpoint, HandlerMap, Listener, MethodKey, Resolver, Server } from "effect-call"

const component = "example/Slow"
const ready = MethodKey.make(component, "ready")
const never = MethodKey.make(component, "never")
const broken = MethodKey.make(component, "broken")
const nothing = new Uint8Array()

const handlers = HandlerMap.empty.pipe(
  HandlerMap.set(component, "ready", () => Effect.succeed(nothing)),
  HandlerMap.set(component, "never", () => Effect.never),
  HandlerMap.set(component, "broken", () => Effect.die("a bug"))
)

/** Prints a log as one line, without its time. */
const logger = Logger.make(({ cause, fiber, logLevel, message }) => {
  const annotations = Object.entries(fiber.getRef(References.CurrentLogAnnotations))
  const words = annotations.map(([name, value]) => `${name}=${String(value)}`)
  if (cause.reasons.length > 0) words.push(`cause=${String(Cause.squash(cause))}`)
  console.log([`${logLevel}:`, message, ...words].join(" "))
})

const program = Effect.gen(function*() {
  const scope = yield* Scope.make()
  const layer = Server.layer(Listener.tcp("127.0.0.1:0", handlers), { shutdownGrace: "100 millis" })
  const server = yield* Layer.buildWithScope(layer, scope)
  const { address } = yield* Effect.provideContext(Server.Server, server)
  const resolver = Resolver.constant(yield* Endpoint.parse(address))
  const connection = yield* Connection.make(resolver)

  yield* Console.log("-- a handler dies")
  yield* Effect.flip(connection.call(broken, nothing))

  yield* Console.log("-- the server stops, and a call is in flight")
  const call = yield* Effect.forkChild(Effect.flip(connection.call(never, nothing)), { startImmediately: true })
  yield* connection.call(ready, nothing)
  yield* Scope.close(scope, Exit.void)
  yield* Fiber.join(call)

  const callThreeTimes = (connection: Connection.Connection) =>
    Effect.replicateEffect(Effect.flip(connection.call(ready, nothing)), 3)

  yield* Console.log("-- another Connection makes three calls, and nothing listens")
  yield* Effect.scoped(Effect.flatMap(Connection.make(resolver), callThreeTimes))

  yield* Console.log("-- the same with a Connection that logs errors only")
  const quiet = Connection.make(resolver).pipe(Effect.provideService(References.MinimumLogLevel, "Error"))
  yield* Effect.scoped(Effect.flatMap(quiet, callThreeTimes))
  yield* Console.log("-- the end")
})

program.pipe(
  Effect.scoped,
  Effect.provide(Logger.layer([logger])),
  Effect.provideService(References.MinimumLogLevel, "Debug"),
  Effect.timeout("20 seconds"),
  NodeRuntime.runMain
)
