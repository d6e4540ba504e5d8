/**
 * What is left when it is over: no handler, no session, no socket, no timer, and no memory.
 */
import { describe, it } from "@effect/vitest"
import { Effect, Exit, Fiber, Logger, Scope } from "effect"
import { Connection, type Endpoint, HandlerMap, MethodKey, Resolver } from "effect-call"
import * as assert from "node:assert/strict"
import { spawn } from "node:child_process"
import type { Duplex } from "node:stream"
import { fileURLToPath } from "node:url"
import * as v8 from "node:v8"
import * as vm from "node:vm"
import * as Networks from "../support/networks.ts"
import { message, rawPeer, request, until, untilEffect, version } from "./wire.ts"

const component = "test/Leaks"
const hang = MethodKey.make(component, "hang")
const slow = MethodKey.make(component, "slow")

/** Handlers that say when they begin and end, and hold something of their own in between. */
const makeHandlers = () => {
  const state = { begun: 0, ended: 0, held: 0 }
  const counted = <A, E>(effect: Effect.Effect<A, E>) =>
    Effect.suspend(() => {
      state.begun++
      return effect
    }).pipe(Effect.onExit(() => Effect.sync(() => void state.ended++)))
  const holding = Effect.acquireRelease(
    Effect.sync(() => void state.held++),
    () => Effect.sync(() => void state.held--)
  )
  const handlers = HandlerMap.empty.pipe(
    HandlerMap.set(component, "hang", () => Effect.andThen(holding, counted(Effect.never))),
    HandlerMap.set(component, "slow", (args) => Effect.andThen(holding, counted(Effect.as(Effect.sleep(2), args))))
  )
  return { handlers, state }
}

/** What keeps the event loop alive, but for what the test runner has. Timers come and go there. */
const resources = (): Record<string, number> => {
  const counts: Record<string, number> = {}
  for (const name of process.getActiveResourcesInfo()) {
    if (name !== "Timeout" && name !== "Immediate") counts[name] = (counts[name] ?? 0) + 1
  }
  return counts
}

/** An endpoint whose latest socket can be taken hold of. */
const watched = (endpoint: Endpoint.Endpoint) => {
  const watch: { socket: Duplex | undefined; dials: number } = { socket: undefined, dials: 0 }
  const dial = Effect.tap(endpoint.dial, (duplex) =>
    Effect.sync(() => {
      watch.socket = duplex
      watch.dials++
    }))
  return { watch, endpoint: { address: endpoint.address, dial } }
}

describe("nothing is left", () => {
  Networks.eachNetwork((network) => {
    it.live("of calls that were answered, interrupted, late, lost and closed, of their server and of hostile clients", () =>
      Effect.gen(function*() {
        const sockets = () => process.getActiveResourcesInfo().filter((name) => /TCP|Server/.test(name)).length
        const socketsBefore = sockets()
        // What the process keeps from now on, such as a thread for names, is there already.
        yield* Effect.scoped(Effect.flatMap(network.serve(Networks.handlers), ({ endpoint }) => endpoint.dial))
        yield* until(
          "the first connection to be gone",
          () => sockets() <= socketsBefore
        )
        const before = resources()
        const { handlers, state } = makeHandlers()
        yield* Effect.scoped(Effect.gen(function*() {
          const served = yield* network.serve(handlers, { maxConcurrentCalls: 50 })
          const { endpoint, watch } = watched(served.endpoint)
          const connection = yield* Networks.connect([endpoint])
          const call = (key: MethodKey.MethodKey, options?: Connection.CallOptions) =>
            Effect.exit(connection.call(key, new Uint8Array(10), options))
          const many = <A>(count: number, effect: Effect.Effect<A>) =>
            Effect.forkScoped(
              Effect.forEach(Array.from({ length: count }), () => effect, { concurrency: "unbounded" }),
              {
                startImmediately: true
              }
            )
          const idle = untilEffect(
            "no call to be in flight",
            Effect.map(connection.state, ({ endpoints }) => endpoints.every(({ callsInFlight }) => callsInFlight === 0))
          )

          // Answered, late, given up while they run and while they wait for their turn.
          yield* Fiber.join(yield* many(100, call(slow)))
          yield* Fiber.join(yield* many(20, call(hang, { timeout: 5 })))
          const hanging = yield* many(100, call(hang))
          yield* until("50 to run", () => state.held === 50)
          yield* Fiber.interrupt(hanging)
          yield* idle
          yield* until("the handlers to have ended", () => state.held === 0 && state.begun === state.ended)

          // Lost with calls in flight, and hostile company.
          const lost = yield* many(100, call(hang))
          yield* until("50 to run", () => state.held === 50)
          watch.socket!.destroy()
          yield* Fiber.join(lost)
          yield* idle
          const [state1] = (yield* connection.state).endpoints
          assert.equal(state1!.state, "Idle")
          yield* until("the handlers to have ended", () => state.held === 0 && state.begun === state.ended)
          for (const bytes of [version, request(1, hang), message(1, 77), request(1, hang).subarray(0, 30)]) {
            const peer = yield* rawPeer(served.endpoint)
            yield* peer.send(bytes)
          }

          // Closed with calls in flight.
          const closed = yield* many(30, call(hang))
          yield* until("31 to run", () => state.held === 31)
          yield* connection.close
          yield* Fiber.join(closed)
          yield* until("the closed ones to have ended", () => state.held === 1)
          assert.ok((yield* connection.state).endpoints.every(({ callsInFlight }) => callsInFlight === 0))
        }))
        assert.equal(state.held, 0)
        assert.equal(state.begun, state.ended)
        yield* until(`${JSON.stringify(before)}, and nothing else`, () => {
          const now = resources()
          return Object.keys(now).every((name) => now[name]! <= (before[name] ?? 0))
        })
      }).pipe(Effect.provide(Logger.layer([]))))
  })

  it.live("that keeps a process alive, however the process ends", () =>
    Effect.gen(function*() {
      const program = fileURLToPath(new URL("endings.ts", import.meta.url))
      const { code, output } = yield* Effect.callback<{ readonly code: number | null; readonly output: string }>(
        (resume) => {
          let output = ""
          const child = spawn(process.execPath, [program], { stdio: ["ignore", "pipe", "pipe"], timeout: 12_000 })
          child.stdout.on("data", (chunk: Buffer) => void (output += chunk.toString()))
          child.stderr.on("data", (chunk: Buffer) => void (output += chunk.toString()))
          child.on("close", (code) => resume(Effect.succeed({ code, output })))
          return Effect.sync(() => child.kill())
        }
      )
      assert.equal(code, 0, `the last scenario of these has left something:\n${output}`)
      const lines = output.trim().split("\n").map((line): { name: string; millis: number | null } => JSON.parse(line))
      assert.equal(lines.length, 13, output)
      // Not a number where the loop ran empty before the scenario was over.
      for (const { millis, name } of lines) assert.ok(millis !== null && millis < 1000, `${name}: ${millis} ms`)
    }))
})

describe("memory", () => {
  v8.setFlagsFromString("--expose-gc")
  const collect: () => void = vm.runInNewContext("gc")

  /** The bytes in use after a collection, once they do not go down any more. */
  const heap = Effect.gen(function*() {
    let least = Infinity
    for (let unchanged = 0; unchanged < 3;) {
      yield* Effect.sleep(5)
      collect()
      const { arrayBuffers, heapUsed } = process.memoryUsage()
      const used = heapUsed + arrayBuffers
      unchanged = used < least - 10_000 ? 0 : unchanged + 1
      least = Math.min(least, used)
    }
    return least
  })

  const grownBy = Effect.fnUntraced(function*(once: Effect.Effect<void>, warmUp: number, times: number) {
    for (let i = 0; i < warmUp; i++) yield* once
    const before = yield* heap
    for (let i = 0; i < times; i++) yield* once
    return (yield* heap) - before
  })

  it.live("is where it was after 20 000 calls", () =>
    Effect.gen(function*() {
      const { endpoint } = yield* Networks.tcp.serve(Networks.handlers)
      const connection = yield* Networks.connect([endpoint])
      const calls = Array.from({ length: 100 }, (_, i) => {
        const call = connection.call(Networks.echo, new Uint8Array(i), i % 2 === 0 ? { timeout: "1 minute" } : {})
        return i % 10 === 0
          ? Effect.andThen(call, Effect.exit(connection.call(Networks.hang, new Uint8Array(1), { timeout: 1 })))
          : call
      })
      const grown = yield* grownBy(
        Effect.orDie(Effect.all(calls, { concurrency: "unbounded", discard: true })),
        40,
        200
      )
      assert.ok(grown < 1_000_000, `${grown} bytes more after 20 000 calls: ${grown / 20_000} bytes a call`)
    }).pipe(Effect.scoped))

  it.live("is where it was after 2 000 connections, lost or closed", () =>
    Effect.gen(function*() {
      const served = yield* Networks.unix.serve(Networks.handlers)
      const { endpoint, watch } = watched(served.endpoint)
      const connection = yield* Networks.connect([endpoint])
      const reconnect = Effect.gen(function*() {
        // Lost, with a call in flight, and dialed again.
        const lost = yield* Effect.forkChild(Effect.exit(connection.call(Networks.hang, new Uint8Array(1))), {
          startImmediately: true
        })
        yield* connection.call(Networks.echo, new Uint8Array(1), { waitForReady: true })
        watch.socket!.destroy()
        yield* Fiber.join(lost)
        // And a Connection of its own, closed.
        const scope = yield* Scope.make()
        const other = yield* Scope.provide(Effect.orDie(Connection.make(Resolver.constant(served.endpoint))), scope)
        yield* Effect.orDie(other.call(Networks.echo, new Uint8Array(1)))
        yield* Scope.close(scope, Exit.void)
      }).pipe(Effect.orDie)
      const grown = yield* grownBy(reconnect, 100, 1000)
      assert.ok(watch.dials >= 1000)
      // V8 keeps about 800 kB more once it has optimised all this, however often it runs.
      assert.ok(grown < 1_600_000, `${grown} bytes more after 2 000 connections: ${grown / 2000} bytes each`)
    }).pipe(Effect.scoped))
})
