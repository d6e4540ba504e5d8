/**
 * A server and a client, each in a process of its own: this program starts `greeter/server.ts`, then
 * `greeter/client.ts`, and stops the server with SIGTERM, as a supervisor does.
 *
 * Run it with `npx node examples/first-calls/two-processes.ts`.
 */
import { NodeRuntime, NodeServices } from "@effect/platform-node"
import { Console, Deferred, Effect, Fiber, Stream } from "effect"
import { ChildProcess } from "effect/process"
import { fileURLToPath } from "node:url"

const pathOf = (name: string) => fileURLToPath(new URL(`./greeter/${name}.ts`, import.meta.url))

/** Starts a program of the folder `greeter`, and passes on what it prints. It is stopped when the Scope closes. */
const start = Effect.fnUntraced(function*(
  name: string,
  env: Record<string, string>,
  onLine: (line: string) => Effect.Effect<unknown>
) {
  const child = yield* ChildProcess.make(process.execPath, [pathOf(name)], { env, extendEnv: true, stderr: "inherit" })
  const printed = child.stdout.pipe(
    Stream.decodeText(),
    Stream.splitLines,
    Stream.runForEach((line) => Effect.andThen(Console.log(`${name}: ${line}`), onLine(line)))
  )
  // The exit code, after the last line was printed.
  const ended = yield* Effect.forkScoped(Effect.andThen(printed, child.exitCode))
  return { child, ended }
})

const program = Effect.gen(function*() {
  const address = yield* Deferred.make<string>()
  const server = yield* start("server", { PORT: "0" }, (line) => {
    const [, found] = /^listening on (.*)$/.exec(line) ?? []
    return found === undefined ? Effect.void : Deferred.succeed(address, found)
  })

  const client = yield* start("client", { GREETER: yield* Deferred.await(address) }, () => Effect.void)
  yield* Console.log(`the client ended with exit code ${yield* Fiber.join(client.ended)}`)

  yield* server.child.kill({ killSignal: "SIGTERM" })
  yield* Console.log(`the server ended with exit code ${yield* Fiber.join(server.ended)}`)
})

program.pipe(Effect.scoped, Effect.provide(NodeServices.layer), NodeRuntime.runMain)
