/**
 * What happens to calls when a server gets SIGTERM. Two servers run as processes, and a client calls both.
 *
 * Run it with `npx node examples/deployment/stop.ts`.
 */
import { NodeRuntime, NodeServices } from "@effect/platform-node"
import { Clock, Console, Effect, Fiber, Stream } from "effect"
import { Component, Connection, Endpoint, Resolver } from "effect-call"
import * as assert from "node:assert/strict"
import { startProgram } from "../support/program.ts"
import { Greeter } from "./service/contract.ts"

/** Starts a server, and waits until it listens. */
const startServer = Effect.fnUntraced(function*(grace: string) {
  const server = yield* startProgram(new URL("service/server.ts", import.meta.url), [], {
    LISTEN: "127.0.0.1:0",
    PROBE_PORT: "0",
    SHUTDOWN_GRACE: grace
  })
  return { server, endpoint: yield* Endpoint.parse(yield* server.after("listening on ")) }
})

const program = Effect.gen(function*() {
  const [old, other] = yield* Effect.all([startServer("20 seconds"), startServer("1 second")], { concurrency: 2 })
  const connection = yield* Connection.make(Resolver.constant(old.endpoint, other.endpoint))
  const { Greet } = yield* Effect.provideService(Component.client(Greeter), Connection.Connection, connection)
  const greetBoth = Effect.replicateEffect(Greet({ name: "Bob", millis: 0 }), 2)

  const slow = yield* Effect.forEach(
    Array.from({ length: 8 }),
    () => Effect.forkChild(Greet({ name: "Ada", millis: 1000 }), { startImmediately: true })
  )
  // A connection carries requests in their order: when these are answered, the servers have all of the slow ones.
  yield* greetBoth
  yield* old.server.signal("SIGTERM")
  const stoppedAt = yield* Clock.currentTimeMillis
  yield* Console.log("one of two servers gets SIGTERM while each has 4 calls in flight")

  yield* connection.changes.pipe(
    Stream.filter(({ endpoints }) => endpoints.some(({ state }) => state === "Draining")),
    Stream.runHead
  )
  const fresh = yield* Effect.replicateEffect(Greet({ name: "Bob", millis: 0 }), 50)
  const moved = fresh.filter(({ process }) => process === other.server.pid).length
  yield* Console.log(`${moved} of 50 new calls go to the other server`)

  const answers = yield* Fiber.joinAll(slow)
  const answered = answers.filter(({ process }) => process === old.server.pid).length
  yield* Console.log(`the server that stops has answered its ${answered} calls`)
  const code = yield* old.server.exitCode
  const took = (yield* Clock.currentTimeMillis) - stoppedAt
  yield* Console.log(`its process ends with exit code ${code}, long before its grace of 20 seconds is over`)
  assert.deepEqual([moved, answered, code, took < 10_000], [50, 4, 130, true])

  yield* Console.log("\nthe other server has a grace of 1 second, and a call that takes a minute")
  const long = yield* Effect.forkChild(Effect.flip(Greet({ name: "Eve", millis: 60_000 })), { startImmediately: true })
  yield* Greet({ name: "Bob", millis: 0 })
  yield* other.server.signal("SIGTERM")
  const error = yield* Fiber.join(long)
  yield* Console.log(`after the grace, the call fails with ${error._tag}: ${error.message}`)
  yield* Console.log(`the process ends with exit code ${yield* other.server.exitCode}`)
})

program.pipe(
  Effect.timeout("40 seconds"),
  Effect.scoped,
  Effect.provide(NodeServices.layer),
  NodeRuntime.runMain
)
