/**
 * What the probes of an orchestrator are told while a server warms up, serves, and stops.
 *
 * Run it with `npx node examples/deployment/probes.ts`.
 */
import { NodeRuntime, NodeServices } from "@effect/platform-node"
import { Console, Effect, Fiber } from "effect"
import { Component, Connection, Endpoint, Resolver } from "effect-call"
import { FetchHttpClient, HttpClient } from "effect/http"
import * as assert from "node:assert/strict"
import { startProgram } from "../support/program.ts"
import { Greeter } from "./service/contract.ts"

const program = Effect.gen(function*() {
  const server = yield* startProgram(new URL("service/server.ts", import.meta.url), [], {
    LISTEN: "127.0.0.1:0",
    PROBE_PORT: "0",
    WARM_UP: "2 seconds"
  })
  const port = (yield* server.after("Listening on ")).split(":").at(-1)
  const endpoint = yield* Endpoint.parse(yield* server.after("listening on "))

  /** Asks both probes, and prints the status codes of their answers. */
  const probe = Effect.fnUntraced(function*(phase: string, ready: number) {
    const ask = (path: string) => Effect.map(HttpClient.get(`http://127.0.0.1:${port}${path}`), ({ status }) => status)
    const codes = [yield* ask("/ready"), yield* ask("/live")]
    yield* Console.log(`${phase.padEnd(10)}  /ready ${codes[0]}  /live ${codes[1]}`)
    assert.deepEqual(codes, [ready, 200])
  })

  yield* probe("warming up", 503)
  yield* server.after("ready")
  yield* probe("serving", 200)

  const connection = yield* Connection.make(Resolver.constant(endpoint))
  const { Greet } = yield* Effect.provideService(Component.client(Greeter), Connection.Connection, connection)
  const call = yield* Effect.forkChild(Greet({ name: "Ada", millis: 1000 }), { startImmediately: true })
  yield* Greet({ name: "Bob", millis: 0 })
  yield* server.signal("SIGTERM")
  yield* server.after("stopping")
  yield* probe("stopping", 503)
  yield* Console.log(`the call in flight was answered: ${(yield* Fiber.join(call)).text}`)
  assert.equal(yield* server.exitCode, 130)
})

program.pipe(
  Effect.timeout("40 seconds"),
  Effect.scoped,
  Effect.provide([NodeServices.layer, FetchHttpClient.layer]),
  NodeRuntime.runMain
)
