/** Streams that are open for long: idle connections, peers that vanish, deadlines, and servers that leave. */
import { describe, it } from "@effect/vitest"
import { Effect, Exit, Fiber, Stream } from "effect"
import { type Connection, HandlerMap, MethodKey, Server } from "effect-call"
import { TestNetwork } from "effect-call/testing"
import { TestClock } from "effect/testing"
import * as assert from "node:assert/strict"
import { bytesOf, component, connect, textOf } from "../support/networks.ts"
import { settle, until, untilState } from "./support.ts"

const onNetwork = Effect.provide(TestNetwork.layer)
const silent = MethodKey.make(component, "silent")
const feed = MethodKey.make(component, "feed")
const nothing = new Uint8Array()

/** A server whose streams say nothing, or one thing and then nothing until it leaves. */
const serve = Effect.fnUntraced(function*(options: Server.ServerOptions, client: Connection.ClientOptions = {}) {
  const seen = { running: 0 }
  const handlers = HandlerMap.empty.pipe(
    HandlerMap.setStream(component, "silent", () =>
      Stream.suspend(() => {
        seen.running++
        return Stream.ensuring(Stream.never, Effect.sync(() => void seen.running--))
      })),
    HandlerMap.setStream(
      component,
      "feed",
      () => Server.untilLeaving(Stream.concat(Stream.make(bytesOf("one")), Stream.never))
    )
  )
  const server = yield* Effect.forkScoped(Server.serve(yield* TestNetwork.listener("a", handlers), options), {
    startImmediately: true
  })
  const connection = yield* connect([yield* TestNetwork.endpoint("a")], client)
  return { connection, seen, server }
})

const opened = (connection: Connection.Connection) =>
  untilState(connection, ({ endpoints }) => endpoints[0]?.streams === 1)

describe("an open stream that is idle", () => {
  it.effect("keeps its connection from the server's idleTimeout", () =>
    Effect.gen(function*() {
      const { connection, seen } = yield* serve({ idleTimeout: "10 seconds" })
      const running = yield* Effect.forkChild(Stream.runDrain(connection.stream(silent, nothing)))
      yield* opened(connection)
      yield* TestClock.adjust("1 hour")
      assert.deepEqual([running.pollUnsafe(), seen.running], [undefined, 1])
      yield* Fiber.interrupt(running)
      yield* until(() => seen.running === 0)
      // From now on the connection is idle.
      yield* TestClock.adjust("11 seconds")
      yield* untilState(connection, ({ endpoints }) => endpoints[0]?.state === "Idle")
    }).pipe(Effect.scoped, onNetwork))

  for (const who of ["client", "server"] as const) {
    it.effect(`ends when its peer has vanished, by the keepalive of the ${who}`, () =>
      Effect.gen(function*() {
        const times = { interval: "10 seconds", timeout: "5 seconds" } as const
        const { connection, seen } = yield* serve(
          { keepAlive: who === "server" ? times : false, shutdownGrace: 0 },
          { keepAlive: who === "client" ? times : false }
        )
        const running = yield* Effect.forkChild(Effect.exit(Stream.runDrain(connection.stream(silent, nothing))))
        yield* opened(connection)
        yield* until(() => seen.running === 1)
        // Both are there, and answer in between: nothing happens.
        for (let second = 0; second < 60; second++) {
          yield* TestClock.adjust("1 second")
          yield* settle
        }
        assert.deepEqual([running.pollUnsafe(), seen.running], [undefined, 1])
        yield* TestNetwork.fault("a", { blackHole: true })
        for (let second = 0; second < 30; second++) {
          yield* TestClock.adjust("1 second")
          yield* settle
        }
        if (who === "client") {
          const exit = yield* Fiber.join(running)
          assert.ok(Exit.isFailure(exit))
        } else {
          yield* until(() => seen.running === 0)
        }
      }).pipe(Effect.scoped, onNetwork))
  }

  it.effect("fails at its deadline, on both ends, and its connection goes on", () =>
    Effect.gen(function*() {
      const { connection, seen } = yield* serve({})
      const running = yield* Effect.forkChild(
        Effect.flip(Stream.runDrain(connection.stream(silent, nothing, { timeout: "1 minute" })))
      )
      yield* opened(connection)
      yield* until(() => seen.running === 1)
      yield* TestClock.adjust("59 seconds")
      assert.equal(running.pollUnsafe(), undefined)
      yield* TestClock.adjust("1 second")
      assert.equal((yield* Fiber.join(running))._tag, "DeadlineExceeded")
      yield* until(() => seen.running === 0)
      const item = yield* Stream.runHead(connection.stream(feed, nothing))
      assert.ok(item._tag === "Some" && textOf(item.value) === "one")
    }).pipe(Effect.scoped, onNetwork))
})

describe("a stream of a server that leaves", () => {
  it.effect("ends at once where its handler watches for that, with all that came before", () =>
    Effect.gen(function*() {
      const { connection, server } = yield* serve({ shutdownGrace: "1 hour" })
      const got: Array<string> = []
      const running = yield* Effect.forkChild(
        Effect.flip(
          Stream.runForEach(connection.stream(feed, nothing), (item) => Effect.sync(() => got.push(textOf(item))))
        )
      )
      yield* until(() => got.length === 1)
      server.interruptUnsafe()
      const error = yield* Fiber.join(running)
      assert.ok(error._tag === "RemoteError" && error.isLeaving)
      yield* until(() => server.pollUnsafe() !== undefined)
    }).pipe(Effect.scoped, onNetwork))

  it.effect("ends at the end of the grace where its handler goes on", () =>
    Effect.gen(function*() {
      const { connection, seen, server } = yield* serve({ shutdownGrace: "10 seconds" })
      const running = yield* Effect.forkChild(Effect.flip(Stream.runDrain(connection.stream(silent, nothing))))
      yield* until(() => seen.running === 1)
      server.interruptUnsafe()
      yield* TestClock.adjust("9 seconds")
      assert.deepEqual([running.pollUnsafe(), seen.running], [undefined, 1])
      yield* TestClock.adjust("1 second")
      const error = yield* Fiber.join(running)
      assert.ok(error._tag === "RemoteError" && error.isLeaving)
      yield* until(() => seen.running === 0)
    }).pipe(Effect.scoped, onNetwork))
})
