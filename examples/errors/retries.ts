/**
 * Calls that are made again: what `retry` repeats, what it does not, and how the budget limits it.
 *
 * Run it with `npx node examples/errors/retries.ts`.
 */
import { NodeRuntime, NodeServices } from "@effect/platform-node"
import { Console, Effect, FileSystem, References, Schedule } from "effect"
import { Component, Connection, Endpoint, Resolver, Server } from "effect-call"
import "../support/closedOutput.ts"
import { BusyServer, runs, serveFlaky, Stock } from "./flaky/server.ts"

// The delays are 20 ms, 40 ms, 80 ms and so on, each changed at random. The timeout limits all tries together.
const patiently = Connection.withOptions({
  timeout: "5 seconds",
  retry: Schedule.exponential("20 millis").pipe(Schedule.jittered)
})

const clientOf = Effect.fnUntraced(function*(endpoint: Endpoint.Endpoint, options?: Connection.ClientOptions) {
  const connection = yield* Connection.make(Resolver.constant(endpoint), options)
  return yield* Effect.provideService(Component.client(Stock), Connection.Connection, connection)
})

/** The server stops during the first call of each method, and starts again. */
const lost = Effect.gen(function*() {
  const fs = yield* FileSystem.FileSystem
  const path = `${yield* fs.makeTempDirectoryScoped()}/stock.sock`
  yield* Effect.forkScoped(serveFlaky(path))
  const stock = yield* clientOf(Endpoint.unix(path))

  const count = yield* patiently(stock.Count())
  yield* Console.log(`Count is idempotent: it ran ${runs.Count} times, and the answer is ${count}.`)

  const error = yield* Effect.flip(patiently(stock.Take()))
  yield* Console.log(`Take is not idempotent: it ran ${runs.Take} time, and the call failed:`)
  yield* Console.log(`  ${error._tag}: ${error.message}`)
})

/** Ten callers at once, and a server that refuses all but one. */
const refused = Effect.fnUntraced(function*(budget: number) {
  const { address } = yield* Server.Server
  const stock = yield* clientOf(yield* Endpoint.parse(address), { retryBudget: { burst: budget, ratio: 0 } })
  const callers = Array.from({ length: 10 }, () => Effect.result(patiently(stock.Count())))
  const results = yield* Effect.all(callers, { concurrency: "unbounded" })
  const answered = results.filter((result) => result._tag === "Success").length
  yield* Console.log(`With a budget of ${budget} retries, ${answered} of 10 calls were answered.`)
})

const program = Effect.gen(function*() {
  yield* lost
  yield* Effect.provide(Effect.andThen(refused(0), refused(1000)), BusyServer)
})

program.pipe(
  Effect.scoped,
  Effect.provide(NodeServices.layer),
  // Without this line, the log has a warning for each connection that is lost.
  Effect.provideService(References.MinimumLogLevel, "Error"),
  NodeRuntime.runMain
)
