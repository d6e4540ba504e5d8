/**
 * The code of the manual: the modules on its pages and in doc comments compile, those on pages print what they say, and
 * the pages' links lead somewhere in the package that users get. `pages.test.ts` has the quick checks.
 */
import * as NodeServices from "@effect/platform-node/NodeServices"
import { describe, it, layer } from "@effect/vitest"
import { Context, Effect, FileSystem, Layer, Path } from "effect"
import * as assert from "node:assert/strict"
import { commentBlocks, fileOf, goTable, pageBlocks, promisedOutput, run, writeBlocks } from "./support/pages/blocks.ts"
import { checkLinks } from "./support/pages/links.ts"
import { unpacked } from "./support/pages/packed.ts"
import { markdownPages, root } from "./support/pages/page.ts"
import { show } from "./support/pages/problem.ts"
import { topics } from "./support/pages/shape.ts"
import { treeOf } from "./support/pages/tree.ts"

/** The folder that the code blocks have been written to. */
class Blocks extends Context.Service<Blocks, { readonly directory: string }>()("Blocks") {
  static readonly layer = Layer.effect(
    this,
    Effect.map(writeBlocks([...pageBlocks, ...commentBlocks]), (directory) => ({ directory }))
  ).pipe(Layer.provideMerge(NodeServices.layer))
}

/** The compiler's messages with the lines of the pages in place of those of the files that were compiled. */
const atPages = (messages: string): string =>
  [...pageBlocks, ...commentBlocks].reduce(
    (text, block) =>
      text.replaceAll(
        new RegExp(String.raw`^.*\b${fileOf(block)}\((\d+),\d+\)`, "gm"),
        (_, line: string) => `${block.page}:${block.line + Number(line)}`
      ),
    messages
  )

/** The blocks that say what they print. */
const printingBlocks = [...pageBlocks, ...commentBlocks.filter((block) => promisedOutput(block).length > 0)]

/** The other blocks of doc comments, without tests and without what only the types are said of. */
const silentBlocks = commentBlocks.filter((block) =>
  promisedOutput(block).length === 0 && !/^declare |"@effect\/vitest"/m.test(block.code)
)

// Side by side: each test waits for a process of its own.
layer(Blocks.layer, { excludeTestServices: true, concurrent: true })("the documentation's code", (it) => {
  it.effect("compiles, that of the pages and that of the doc comments", () =>
    Effect.gen(function*() {
      const path = yield* Path.Path
      const { directory } = yield* Blocks
      const tsc = path.join(root, "node_modules/typescript/bin/tsc")
      const { code, stdout } = yield* run(process.execPath, tsc, "-p", directory)
      assert.equal(atPages(stdout), "")
      assert.equal(code, 0)
      // A compiler and a process for each block, on a machine that may be busy.
    }), 60_000)

  it.effect("loads without an error, that of the doc comments", () =>
    Effect.gen(function*() {
      const fs = yield* FileSystem.FileSystem
      const path = yield* Path.Path
      const { directory } = yield* Blocks
      const main = path.join(directory, "load.mjs")
      const lines = silentBlocks.map((block) =>
        `await import("./${fileOf(block)}").catch((error) => console.log("${block.page}:${block.line}:", error))`
      )
      yield* fs.writeFileString(main, lines.join("\n"))
      const { code, stderr, stdout } = yield* run(process.execPath, main)
      assert.equal(stdout, "")
      assert.equal(stderr, "")
      assert.equal(code, 0)
    }), 60_000)

  for (const block of printingBlocks) {
    it.effect(`runs and prints what it says: ${block.page}, line ${block.line}`, () =>
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

  it.effect("links only to what is there, in the package that users get", () =>
    Effect.gen(function*() {
      const folder = yield* unpacked
      const pages = markdownPages(folder)
      const names = new Set(pages.map(({ name }) => name))
      assert.deepEqual(topics.filter((topic) => !names.has(`examples/${topic}/README.md`)), [], "not in the package")
      const broken = pages.flatMap((page) => checkLinks(page, treeOf(folder), "in the unpacked package", folder))
      assert.equal(broken.map(show).join("\n"), "")
    }), 60_000)
})

describe("the manual", () => {
  it("has modules on its pages and in doc comments", () => {
    assert.ok(pageBlocks.length >= 2)
    assert.ok(commentBlocks.length >= 20)
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
