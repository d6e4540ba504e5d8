/**
 * The exit codes of programs that run under `NodeRuntime.runMain`, each seen on a real process.
 *
 * Run it with `npx node examples/deployment/exit-codes.ts`.
 */
import { NodeRuntime, NodeServices } from "@effect/platform-node"
import { Console, Effect } from "effect"
import * as assert from "node:assert/strict"
import { startProgram } from "../support/program.ts"

const start = (ending: string) => startProgram(new URL("endings/program.ts", import.meta.url), [ending])

/** Runs a program until it ends by itself. */
const run = (ending: string) => Effect.flatMap(start(ending), ({ exitCode }) => exitCode)

/** Runs a server, and sends it signals when it serves. */
const stop = Effect.fnUntraced(function*(ending: string, ...signals: ReadonlyArray<NodeJS.Signals>) {
  const server = yield* start(ending)
  yield* server.after("serving")
  yield* Effect.forEach(signals, server.signal)
  // Its finalizers have run.
  yield* server.after("closed")
  return yield* server.exitCode
})

const cases = [
  ["the effect succeeds", 0, run("success")],
  ["the effect fails, or a layer does", 1, run("failure")],
  ["it fails with an error that has a `Runtime.errorExitCode`", 3, run("failure with a code")],
  ["it dies", 1, run("defect")],
  ["the port of `Server.layer` is in use", 1, run("port in use")],
  ["SIGTERM", 130, stop("signal", "SIGTERM")],
  ["SIGINT, which Ctrl+C sends", 130, stop("signal", "SIGINT")],
  ["SIGTERM, and once more while it stops", 130, stop("signal", "SIGTERM", "SIGTERM")],
  ["SIGTERM, with a `teardown` that makes it 0", 0, stop("signal, with a teardown", "SIGTERM")]
] as const

const program = Effect.gen(function*() {
  const codes = yield* Effect.forEach(cases, ([, , code]) => Effect.scoped(code), { concurrency: 3 })
  for (const [i, [what, expected]] of cases.entries()) {
    yield* Console.log(`${String(codes[i]).padStart(3)}  ${what}`)
    assert.equal(codes[i], expected)
  }
})

program.pipe(
  Effect.timeout("40 seconds"),
  Effect.scoped,
  Effect.provide(NodeServices.layer),
  NodeRuntime.runMain
)
