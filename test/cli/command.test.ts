/** The command around its subcommands: help, version, completions, and what it needs. */
import * as NodeServices from "@effect/platform-node/NodeServices"
import { layer } from "@effect/vitest"
import { Console, Effect } from "effect"
import * as assert from "node:assert/strict"
import { cpSync, mkdirSync, readFileSync, symlinkSync } from "node:fs"
import { temporaryDirectory } from "../support/networks.ts"
import { root } from "../support/pages/page.ts"
import { effectCall, program, run, runHere } from "./support.ts"

layer(NodeServices.layer, { excludeTestServices: true, concurrent: true })("effect-call", (it) => {
  it.effect("shows its help where nothing is asked", () =>
    Effect.gen(function*() {
      const ended = yield* effectCall()
      assert.equal(ended.code, 0)
      for (const subcommand of ["call", "resolve", "watch"]) {
        assert.match(ended.text, new RegExp(`^  ${subcommand} +\\w`, "m"))
      }
    }))

  it.effect("has the version of the package", () =>
    Effect.gen(function*() {
      const { version } = JSON.parse(readFileSync(`${root}package.json`, "utf8"))
      const ended = yield* effectCall("--version")
      assert.equal(ended.text, `effect-call v${version}\n`)
    }))

  it.effect("has completions that a shell takes", () =>
    Effect.gen(function*() {
      const printed: Array<string> = []
      const console = { ...globalThis.console, log: (text: string) => printed.push(text) }
      yield* Effect.provideService(runHere(["--completions", "bash"]), Console.Console, console)
      const script = printed.join("\n")
      assert.match(script, /--shard-key/)
      const taken = yield* run("bash", ["-n"], script)
      assert.deepEqual([taken.code, taken.stderr], [0, ""])
    }))

  it.effect("names the package that it needs where that is missing", () =>
    Effect.gen(function*() {
      const directory = yield* temporaryDirectory
      const modules = `${directory}/node_modules`
      mkdirSync(`${modules}/effect-call`, { recursive: true })
      cpSync(`${root}dist`, `${modules}/effect-call/dist`, { recursive: true })
      cpSync(`${root}package.json`, `${modules}/effect-call/package.json`)
      symlinkSync(`${root}node_modules/effect`, `${modules}/effect`)
      const ended = yield* run(process.execPath, [program.replace(root, `${modules}/effect-call/`), "--help"])
      assert.deepEqual([ended.code, ended.text], [2, ""])
      assert.match(
        ended.stderr,
        /^effect-call: the package @effect\/platform-node is missing.*`npm install @effect\/platform-node`.*\n$/
      )
    }))
})
