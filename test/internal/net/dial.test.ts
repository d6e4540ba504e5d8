import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Fiber, Scope } from "effect"
import { Endpoint } from "effect-call"
import { TestClock } from "effect/testing"
import * as net from "node:net"
import type { Duplex } from "node:stream"
import { CurrentObstacles, Obstacles } from "../../../src/internal/net/obstacles.ts"
import { until } from "../../Connection/support.ts"
import { fullQueue } from "../../Endpoint/fullQueue.ts"
import { dialedSockets, hasIPv6, plainServer } from "./sockets.ts"

const remoteAddress = (connection: Duplex) => connection instanceof net.Socket ? connection.remoteAddress : undefined

// This host has two addresses: 127.0.0.1, which is tried first, and ::1.
describe.skipIf(!hasIPv6 || process.platform !== "linux")("the dial of a host with several addresses", () => {
  // The system sends the SYN that finds no room again after a second.
  it.live("goes on with a slow address when the other one refuses", () =>
    Effect.gen(function*() {
      const slow = yield* fullQueue({ host: "127.0.0.1" })
      const obstacles = new Obstacles()
      const dialing = yield* Effect.forkChild(
        Effect.provideService(Endpoint.tcp(`:${slow.port}`).dial, CurrentObstacles, obstacles),
        { startImmediately: true }
      )
      yield* until(() => obstacles.text.includes(`connect ECONNREFUSED ::1:${slow.port}`))
      yield* slow.goOn
      const socket = yield* Fiber.join(dialing)
      assert.isFalse(socket.destroyed)
      yield* until(() => slow.counts().accepted === 1)
    }))

  it.effect("tries the second address 250 ms after the first, takes the one that connects, and drops the other", () =>
    Effect.gen(function*() {
      const silent = yield* fullQueue({ host: "127.0.0.1" })
      const server = yield* plainServer({ port: silent.port, host: "::1" })
      const sockets = yield* dialedSockets
      const dialing = yield* Effect.forkChild(Endpoint.tcp(`:${silent.port}`).dial, { startImmediately: true })
      yield* TestClock.adjust(249)
      assert.strictEqual(sockets.length, 1)
      yield* TestClock.adjust(1)
      assert.strictEqual(remoteAddress(yield* Fiber.join(dialing)), "::1")
      yield* until(() => server.sockets.length === 1)
      assert.deepStrictEqual(sockets.map(({ destroyed }) => destroyed), [true, false])
    }))

  it.effect("tries the second at once when the first refuses", () =>
    Effect.gen(function*() {
      const server = yield* plainServer({ port: 0, host: "::1" })
      // No time passes here.
      assert.strictEqual(remoteAddress(yield* Endpoint.tcp(`:${server.port}`).dial), "::1")
    }))

  it.effect("leaves no socket when it is interrupted while it tries both", () =>
    Effect.gen(function*() {
      const [silent, other] = [yield* fullQueue({ host: "127.0.0.1" }), yield* Scope.make()]
      const alsoSilent = yield* fullQueue({ host: "::1", port: silent.port })
      assert.strictEqual(alsoSilent.port, silent.port)
      const sockets = yield* dialedSockets
      const dialing = yield* Effect.forkChild(Endpoint.tcp(`:${silent.port}`).dial.pipe(Scope.provide(other)), {
        startImmediately: true
      })
      yield* TestClock.adjust(250)
      assert.deepStrictEqual(sockets.map(({ connecting }) => connecting), [true, true])
      yield* Fiber.interrupt(dialing)
      // Its Scope is still open: nothing but the interruption has closed them.
      assert.deepStrictEqual(sockets.map(({ destroyed }) => destroyed), [true, true])
      yield* Scope.close(other, Exit.void)
    }))

  it.effect("ends with the address that connects also where it cannot be interrupted", () =>
    Effect.gen(function*() {
      const silent = yield* fullQueue({ host: "127.0.0.1" })
      yield* plainServer({ port: silent.port, host: "::1" })
      const dialing = yield* Effect.forkChild(Effect.uninterruptible(Endpoint.tcp(`:${silent.port}`).dial), {
        startImmediately: true
      })
      yield* TestClock.adjust(250)
      assert.strictEqual(remoteAddress(yield* Fiber.join(dialing)), "::1")
    }))
})
