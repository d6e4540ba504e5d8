/**
 * A client in CommonJS that loads effect-call with `require`, and calls a server.
 *
 * Run it with `npx node examples/deployment/commonjs.ts`.
 */
import { NodeRuntime, NodeServices } from "@effect/platform-node"
import { Console, Effect } from "effect"
import * as assert from "node:assert/strict"
import { startProgram } from "../support/program.ts"

const program = Effect.gen(function*() {
  const server = yield* startProgram(new URL("service/server.ts", import.meta.url), [], {
    LISTEN: "127.0.0.1:0",
    PROBE_PORT: "0"
  })
  const SERVER = yield* server.after("listening on ")
  const client = yield* startProgram(new URL("commonjs/client.cjs", import.meta.url), [], { SERVER })
  const answer = yield* client.after("answer: ")
  yield* Console.log(`client.cjs got: ${answer}`)
  assert.deepEqual([answer, yield* client.exitCode], ["Hello, Ada!", 0])
})

program.pipe(
  Effect.timeout("40 seconds"),
  Effect.scoped,
  Effect.provide(NodeServices.layer),
  NodeRuntime.runMain
)
