/**
 * A client that starts before its server: `waitForReady` waits for the server, up to the call's deadline.
 *
 * Run it with `npx node examples/errors/waiting.ts`.
 */
import { NodeRuntime, NodeServices } from "@effect/platform-node"
import { Console, Effect, Fiber, FileSystem, Layer, References } from "effect"
import { Connection, Endpoint, HandlerMap, Listener, MethodKey, Resolver, Server } from "effect-call"
import "../support/closedOutput.ts"

const handlers = HandlerMap.empty.pipe(
  HandlerMap.set("example/Echo", "echo", (args) => Effect.succeed(args))
)
const echo = MethodKey.make("example/Echo", "echo")
const hello = new TextEncoder().encode("hello")

const program = Effect.gen(function*() {
  const fs = yield* FileSystem.FileSystem
  const path = `${yield* fs.makeTempDirectoryScoped()}/echo.sock`
  const connection = yield* Connection.make(Resolver.constant(Endpoint.unix(path)))

  // There is no server at this path yet.
  const unreachable = yield* Effect.flip(connection.call(echo, hello, { timeout: "10 seconds" }))
  yield* Console.log(`without waitForReady, at once: ${unreachable.message}`)

  const late = yield* Effect.flip(connection.call(echo, hello, { timeout: "300 millis", waitForReady: true }))
  yield* Console.log(`with it, after 300 ms: ${late.message}`)

  const call = connection.call(echo, hello, { timeout: "10 seconds", waitForReady: true })
  const waiting = yield* Effect.forkScoped(call, { startImmediately: true })
  yield* Layer.build(Server.layer(Listener.unix(path, handlers)))
  yield* Console.log("now the server has started")
  const answer = yield* Fiber.join(waiting)
  yield* Console.log(`the call that has waited for it got: ${new TextDecoder().decode(answer)}`)
})

program.pipe(
  Effect.scoped,
  Effect.provide(NodeServices.layer),
  // Without this line, the log has a warning for each dial that fails.
  Effect.provideService(References.MinimumLogLevel, "Error"),
  NodeRuntime.runMain
)
