import * as NodeServices from "@effect/platform-node/NodeServices"
import { describe, it, layer } from "@effect/vitest"
import { Context, Effect, Layer, Path } from "effect"
import * as assert from "node:assert/strict"
import { docBlocks, fileOf, goTable, promisedOutput, readmeBlocks, root, run, writeBlocks } from "./support/readme.ts"

/** The folder that the code blocks have been written to. */
class Blocks extends Context.Service<Blocks, { readonly directory: string }>()("Blocks") {
  static readonly layer = Layer.effect(
    this,
    Effect.map(writeBlocks([...readmeBlocks, ...docBlocks]), (directory) => ({ directory }))
  ).pipe(Layer.provideMerge(NodeServices.layer))
}

// Side by side: each test waits for a process of its own.
layer(Blocks.layer, { excludeTestServices: true, concurrent: true })("the documentation's code", (it) => {
  it.effect("compiles, that of the README and that of the doc comments", () =>
    Effect.gen(function*() {
      const path = yield* Path.Path
      const { directory } = yield* Blocks
      const tsc = path.join(root, "node_modules/typescript/bin/tsc")
      const { code, stdout } = yield* run(process.execPath, tsc, "-p", directory)
      assert.equal(stdout, "")
      assert.equal(code, 0)
      // A compiler and a process for each block, on a machine that may be busy.
    }), 60_000)

  for (const block of readmeBlocks) {
    it.effect(`runs and prints what it says: README.md, line ${block.line}`, () =>
      Effect.gen(function*() {
        const path = yield* Path.Path
        const { directory } = yield* Blocks
        const { code, stderr, stdout } = yield* run(process.execPath, path.join(directory, fileOf(block)))
        assert.equal(stderr, "")
        assert.equal(code, 0)
        const lines = stdout.split("\n").filter((line) => line !== "")
        assert.deepEqual(lines, promisedOutput(block))
      }), 60_000)
  }
})

describe("the README", () => {
  it("has an example for everything that is there to be run", () => {
    assert.ok(readmeBlocks.length >= 5)
    assert.ok(docBlocks.length >= 20)
  })

  it("has each name of the Go package in its table", () => {
    const missing = goNames.filter((name) => !goTable().has(name))
    assert.deepEqual(missing, [])
  })
})

/** What the Go package exports: constants, variables, functions, types, their fields and methods. */
const goNames = [
  "CommunicationError",
  "Unreachable",
  "Missing",
  "RoundRobin",
  "Serve",
  "ServeOn",
  "Balancer",
  "Update",
  "Pick",
  "BalancerFunc",
  "Sharded",
  "CallOptions",
  "ShardKey",
  "ClientOptions",
  "ClientOptions.Balancer",
  "ClientOptions.Logger",
  "ClientOptions.OptimisticSpinDuration",
  "ClientOptions.WriteFlattenLimit",
  "Connection",
  "Call",
  "Close",
  "Connect",
  "Endpoint",
  "Dial",
  "Address",
  "MTLS",
  "Handler",
  "HandlerMap",
  "Set",
  "Listener",
  "Accept",
  "Addr",
  "MethodKey",
  "MakeMethodKey",
  "NetEndpoint",
  "Net",
  "String",
  "ParseNetEndpoint",
  "TCP",
  "Unix",
  "Resolver",
  "IsConstant",
  "Resolve",
  "NewConstantResolver",
  "NewFileResolver",
  "ServerOptions",
  "ServerOptions.Logger",
  "ServerOptions.Tracer",
  "ServerOptions.InlineHandlerDuration",
  "ServerOptions.WriteFlattenLimit",
  "Version",
  "Opaque"
]
