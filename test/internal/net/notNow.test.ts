import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber } from "effect"
import { Connection, Endpoint, Resolver } from "effect-call"
import { TestClock } from "effect/testing"
import { spawnSync } from "node:child_process"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { CurrentObstacles, Obstacles } from "../../../src/internal/net/obstacles.ts"
import { ask, until } from "../../Connection/support.ts"
import { fullQueue } from "../../Endpoint/fullQueue.ts"
import { temporaryDirectory } from "./sockets.ts"

describe.skipIf(process.platform !== "linux")("the dial of a Unix socket whose queue is full", () => {
  const full = Effect.flatMap(temporaryDirectory, (directory) => {
    const path = join(directory, "full.sock")
    return Effect.map(fullQueue({ path }), (server) => ({ ...server, path }))
  })

  it.effect("tries again after 10 ms, 20 ms and so on, until there is room", () =>
    Effect.gen(function*() {
      const { goOn, counts, path } = yield* full
      const obstacles = new Obstacles()
      const dialing = yield* Effect.forkChild(
        Effect.provideService(Endpoint.unix(path).dial, CurrentObstacles, obstacles),
        { startImmediately: true }
      )
      const failed = until(() => obstacles.text === ` (up to now: connect EAGAIN ${path})`)
      yield* failed
      // Both tries find it full.
      for (const wait of [10, 20]) {
        obstacles.clear()
        yield* TestClock.adjust(wait - 1)
        assert.strictEqual(obstacles.text, "")
        yield* TestClock.adjust(1)
        yield* failed
      }
      yield* goOn
      yield* until(() => counts().accepted === 0)
      yield* TestClock.adjust(40)
      assert.isFalse((yield* Fiber.join(dialing)).destroyed)
      yield* until(() => counts().accepted === 1)
      assert.strictEqual(obstacles.text, "")
    }))

  it.effect("ends at the dial timeout, and the call's error says why", () =>
    Effect.gen(function*() {
      const { path } = yield* full
      const connection = yield* Connection.make(Resolver.constant(Endpoint.unix(path)), { dialTimeout: "1 second" })
      const call = yield* Effect.forkChild(Effect.flip(ask(connection)), { startImmediately: true })
      // So that each try has its answer before its time is up.
      for (let i = 0; i < 10; i++) {
        yield* TestClock.adjust(100)
        yield* Effect.promise(() => new Promise(setImmediate))
      }
      const why = `no connection and version message within 1s (up to now: connect EAGAIN ${path})`
      assert.strictEqual((yield* Fiber.join(call)).message, `unreachable: unix://${path}: ${why}`)
    }))
})

describe.skipIf(process.platform === "win32")("the dial of a process that has no file descriptor left", () => {
  it("goes on until one is free, over TCP, to a name, and to a Unix socket", () => {
    const program = fileURLToPath(new URL("programs/withoutDescriptors.ts", import.meta.url))
    const { stdout, stderr } = spawnSync("sh", ["-c", "ulimit -n 100; exec \"$@\"", "sh", process.execPath, program], {
      encoding: "utf8"
    })
    assert.deepStrictEqual([stdout.trim().split("\n"), stderr], [
      [
        "exhausted: EMFILE",
        "still dialing: tcp, name, unix",
        "connected: tcp",
        "connected: name",
        "connected: unix"
      ],
      ""
    ])
  })
})
