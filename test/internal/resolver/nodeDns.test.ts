import { afterAll, beforeAll, describe, it } from "@effect/vitest"
import * as assert from "node:assert/strict"
import { spawnSync } from "node:child_process"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { fileURLToPath } from "node:url"

const script = fileURLToPath(new URL("../../support/nameServersChange.ts", import.meta.url))

/** Runs a command in a network and with an /etc of its own. */
const inside = (etc: string, ...command: ReadonlyArray<string>) =>
  spawnSync("unshare", [
    "-rmn",
    "sh",
    "-c",
    `ip link set lo up && mount --bind "$0" /etc && exec "$@"`,
    etc,
    ...command
  ], { encoding: "utf8", timeout: 60_000 })

const etc = mkdtempSync(join(tmpdir(), "etc-"))
const { status } = inside(etc, "true")
const isPossible = status === 0
if (!isPossible) {
  process.stderr.write(
    "\n!! SKIPPED: name servers that change. This system gives us no namespaces of our own (unshare, ip).\n\n"
  )
}

describe.skipIf(!isPossible)("the name servers of the system", () => {
  let found: ReadonlyMap<string, string> = new Map()
  let printed = ""
  beforeAll(() => {
    const { stderr, stdout } = inside(etc, process.execPath, script)
    found = new Map(
      stdout.trimEnd().split("\n").map((line) => {
        const [step = "", addresses = ""] = line.split(": ")
        return [step, addresses]
      })
    )
    printed = stdout + stderr
    // It compiles all of the sources, which takes a while on a busy machine.
  }, 60_000)
  afterAll(() => rmSync(etc, { recursive: true }))

  const check = (expected: Readonly<Record<string, string>>) => {
    for (const [step, addresses] of Object.entries(expected)) assert.equal(found.get(step), addresses, printed)
  }

  it("are the current ones, whether their file was written anew or another one took its place", () =>
    check({ "at first": "10.0.0.3", "a link to another file": "10.0.0.4", "written anew": "10.0.0.3" }))

  it("stay in use while their file is empty or away for a moment", () =>
    check({ "an empty file": "10.0.0.4", "no file for a moment": "10.0.0.3" }))

  it("are none where their file stays away, which asks this host, until there are some again", () =>
    check({ "no file for longer": "10.0.0.1", "a file again": "10.0.0.4" }))

  it("are asked again for what others were being asked", () => check({ "what was under way": "10.0.0.3" }))

  it("are not asked where the options name some", () => check({ "those of the options": "10.0.0.3" }))
})
