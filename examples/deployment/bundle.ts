/**
 * Bundles a typed client and a server with esbuild, lets the bundled client call the bundled server, and compares the
 * start of the client from its bundle with that from `node_modules`.
 *
 * Run it with `npx node examples/deployment/bundle.ts`.
 */
import { NodeRuntime, NodeServices } from "@effect/platform-node"
import { Console, Effect, FileSystem } from "effect"
import { build } from "esbuild"
import * as assert from "node:assert/strict"
import { fileURLToPath, pathToFileURL } from "node:url"
import "../support/closedOutput.ts"
import { startProgram } from "../support/program.ts"

const pathOf = (name: string) => fileURLToPath(new URL(name, import.meta.url))

const bundle = (entry: string, outdir: string) =>
  Effect.promise(() =>
    build({
      entryPoints: [pathOf(entry)],
      outdir,
      bundle: true,
      minify: true,
      platform: "node",
      format: "esm",
      outExtension: { ".js": ".mjs" },
      // What is imported only when it is needed stays a file of its own.
      splitting: true,
      // HTTP servers of @effect/platform-node contain a CommonJS package, which needs a `require`.
      banner: {
        js: `import { createRequire } from "node:module"; const require = createRequire(import.meta.url);`
      },
      metafile: true,
      // In this repository, tsconfig.json says that effect-call is its source. Bundle what users get.
      tsconfigRaw: {}
    })
  )

const kilobytes = (bytes: number) => `${Math.round(bytes / 1024)} KB`

/** Prints the size of what is loaded at the start. What a dynamic import loads has an entry point of its own. */
const report = (name: string, { metafile }: Effect.Success<ReturnType<typeof bundle>>) => {
  const isLater = (entryPoint: string | undefined) => entryPoint?.endsWith("/kubernetes/resolver.js") === true
  const sum = (later: boolean) =>
    Object.values(metafile.outputs)
      .filter(({ entryPoint }) => isLater(entryPoint) === later)
      .reduce((total, { bytes }) => total + bytes, 0)
  return Console.log(`${name}: ${kilobytes(sum(false))}, and ${kilobytes(sum(true))} that only Kubernetes needs`)
}

/** Runs a client three times. Returns the answer, and the least CPU time in milliseconds. */
const run = Effect.fnUntraced(function*(client: string, server: string) {
  const once = Effect.scoped(Effect.gen(function*() {
    const { after, exitCode } = yield* startProgram(pathToFileURL(client), [], { SERVER: server })
    const answer = yield* after("answer: ")
    const cpu = Number(yield* after("CPU: "))
    assert.equal(yield* exitCode, 0)
    return { answer, cpu }
  }))
  const runs = yield* Effect.replicateEffect(once, 3)
  return { answer: runs[0]?.answer, cpu: Math.min(...runs.map(({ cpu }) => cpu)) }
})

const program = Effect.gen(function*() {
  const fs = yield* FileSystem.FileSystem
  const directory = yield* fs.makeTempDirectoryScoped({ prefix: "bundle-" })
  yield* report("client", yield* bundle("bundle/client.ts", `${directory}/client`))
  yield* report("server with HTTP probes", yield* bundle("service/server.ts", `${directory}/server`))

  const program = pathToFileURL(`${directory}/server/server.mjs`)
  const server = yield* startProgram(program, [], { LISTEN: "127.0.0.1:0", PROBE_PORT: "0" })
  const address = yield* server.after("listening on ")
  const bundled = yield* run(`${directory}/client/client.mjs`, address)
  yield* Console.log(`the bundled client called the bundled server: ${bundled.answer}`)
  assert.equal(bundled.answer, "Hello, Ada!")

  const plain = yield* run(pathOf("bundle/client.ts"), address)
  yield* Console.log(`a run of the client: ${plain.cpu} ms of CPU from node_modules, ${bundled.cpu} ms from the bundle`)
})

program.pipe(
  Effect.timeout("60 seconds"),
  Effect.scoped,
  Effect.provide(NodeServices.layer),
  NodeRuntime.runMain
)
