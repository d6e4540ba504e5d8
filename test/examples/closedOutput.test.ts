/** What a program of the guide leaves behind when its output is closed, as by `| head -1`. */
import { it } from "@effect/vitest"
import * as assert from "node:assert/strict"
import { execFile } from "node:child_process"
import { mkdtempSync, readdirSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { root } from "../support/pages/page.ts"

it("a program whose output is closed ends quietly, and removes its files", async () => {
  const directory = mkdtempSync(join(tmpdir(), "closed-output-"))
  try {
    const stderr = await new Promise<string>((resolve) => {
      const env = { ...process.env, TMPDIR: directory }
      const program = join(root, "examples/errors/retries.ts")
      const child = execFile(process.execPath, [program], { env }, (_, __, text) => resolve(text))
      child.stdout?.once("data", () => child.stdout?.destroy())
    })
    assert.equal(stderr, "")
    assert.deepEqual(readdirSync(directory).filter((name) => name !== "node-compile-cache"), [])
  } finally {
    rmSync(directory, { recursive: true, force: true })
  }
}, 30_000)
