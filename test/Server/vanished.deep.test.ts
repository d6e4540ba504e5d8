/**
 * Clients that vanish from the network without a word: their connections end, their handlers are interrupted, and their
 * places are free. It needs a system that lets its users have networks of their own.
 */
import { describe, it } from "@effect/vitest"
import { Effect } from "effect"
import * as assert from "node:assert/strict"
import { spawn, spawnSync } from "node:child_process"
import { fileURLToPath } from "node:url"
import { clients, type Kind, type Outcome } from "./vanished/world.ts"

const program = fileURLToPath(new URL("vanished/world.ts", import.meta.url))

const outcomeOf = (kind: Kind) =>
  Effect.callback<Outcome>((resume) => {
    const child = spawn("unshare", ["-rn", process.execPath, program, kind], { stdio: ["ignore", "pipe", "inherit"] })
    let output = ""
    child.stdout.on("data", (chunk: Buffer) => output += chunk.toString())
    child.once("close", () => resume(Effect.sync((): Outcome => JSON.parse(output))))
    return Effect.sync(() => void child.kill("SIGKILL"))
  })

const hasNamespaces = spawnSync("unshare", ["-rn", "ip", "link", "set", "lo", "up"]).status === 0

describe.skipIf(!hasNamespaces)("clients that vanish", () => {
  const all = { connections: clients, running: clients }
  const none = { connections: 0, running: 0 }

  it.live("with calls in flight are given up after the interval and the timeout", () =>
    Effect.gen(function*() {
      const { seconds, ...outcome } = yield* outcomeOf("calls")
      assert.deepEqual(outcome, { before: all, after: none, letIn: true })
      assert.ok(seconds < 6, `${seconds} s`)
    }))

  it.live("are given up also where they only asked for the server's health", () =>
    Effect.gen(function*() {
      const { seconds, ...outcome } = yield* outcomeOf("health")
      assert.deepEqual(outcome, { before: { ...all, running: 0 }, after: none, letIn: true })
      assert.ok(seconds < 6, `${seconds} s`)
    }))

  it.live("and know no flags are given up by the system, which asks ten times", () =>
    Effect.gen(function*() {
      const { seconds, ...outcome } = yield* outcomeOf("flagless")
      assert.deepEqual(outcome, { before: all, after: none, letIn: true })
      assert.ok(seconds > 5 && seconds < 20, `${seconds} s`)
    }))
})
