/** The commands of the guide to TLS, as a reader pastes them, and its first program with what they make. */
import { describe, it } from "@effect/vitest"
import { Effect } from "effect"
import * as assert from "node:assert/strict"
import { spawnSync } from "node:child_process"
import { readFileSync } from "node:fs"
import { temporaryDirectory } from "../support/networks.ts"
import { root } from "../support/pages/page.ts"

const page = readFileSync(`${root}examples/tls/README.md`, "utf8")
const commands = /```sh\n(mkdir [\s\S]*?)```/.exec(page)?.[1]
const hasOpenssl = spawnSync("openssl", ["version"]).status === 0

const run = (directory: string, command: string, ...args: ReadonlyArray<string>) => {
  const { status, stderr, stdout } = spawnSync(command, args, { cwd: directory, encoding: "utf8" })
  return { status, stderr, stdout }
}

describe("the guide to TLS", () => {
  it.live.skipIf(!hasOpenssl)(
    "makes certificates with openssl that its first program takes",
    () =>
      Effect.gen(function*() {
        assert.ok(commands !== undefined, "the page has no commands that make certificates")
        const directory = yield* temporaryDirectory
        const made = run(directory, "sh", "-ec", commands)
        assert.equal(made.status, 0, made.stderr)
        const ended = run(directory, process.execPath, `${root}examples/tls/mtls.ts`, "certs")
        assert.deepEqual([ended.status, ended.stderr], [0, ""])
        assert.match(
          ended.stdout,
          /^the server listens on tcp:\/\/127\.0\.0\.1:\d+\nthe client got: Hello, Ada!\n$/
        )
      })
  )
})
