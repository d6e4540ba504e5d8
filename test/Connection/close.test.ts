/**
 * Closing a Connection, and what is left then: nothing.
 */
import { describe, it } from "@effect/vitest"
import { Deferred, Effect, Exit, Fiber, Scope } from "effect"
import { type CallError, Connection, type Endpoint, HandlerMap, MethodKey, Resolver } from "effect-call"
import { TestNetwork } from "effect-call/testing"
import * as assert from "node:assert/strict"
import { spawn } from "node:child_process"
import { fileURLToPath } from "node:url"
import { bytesOf, component, connect, eachNetwork, eachWay, echo, handlers, memory } from "../support/networks.ts"
import { patience } from "../support/patience.ts"
import { settle } from "./support.ts"

const nothing = new Uint8Array()
const wait = MethodKey.make(component, "wait")

const isClosed = (error: CallError.CallError, maybeExecuted: boolean) => {
  assert.ok(error._tag === "CommunicationError", error.message)
  assert.equal(error.reason._tag, "Closed")
  assert.equal(error.message, "the Connection was closed")
  assert.equal(error.maybeExecuted, maybeExecuted)
}

/** A handler that never ends, with what became of it. */
const waiting = Effect.gen(function*() {
  const started = yield* Deferred.make<void>()
  const interrupted = yield* Deferred.make<void>()
  return {
    started: Deferred.await(started),
    interrupted: Deferred.await(interrupted),
    handlers: HandlerMap.set(
      handlers,
      wait.component,
      wait.method,
      () =>
        Effect.andThen(Deferred.succeed(started, undefined), Effect.never).pipe(
          Effect.onInterrupt(() => Deferred.succeed(interrupted, undefined))
        )
    )
  }
})

/** An endpoint whose dial hangs, with what became of it. */
const hanging = Effect.gen(function*() {
  const dialing = yield* Deferred.make<void>()
  const calledOff = yield* Deferred.make<void>()
  const endpoint: Endpoint.Endpoint = {
    address: "test://hangs",
    dial: Effect.andThen(Deferred.succeed(dialing, undefined), Effect.never).pipe(
      Effect.onInterrupt(() => Deferred.succeed(calledOff, undefined))
    )
  }
  return { endpoint, dialing: Deferred.await(dialing), calledOff: Deferred.await(calledOff) }
})

describe("close", () => {
  eachWay((way) => {
    it.live("fails calls in flight, and later ones at once; it can be repeated", () =>
      Effect.gen(function*() {
        const { handlers, interrupted, started } = yield* waiting
        const connection = yield* way.open(handlers)
        const calling = yield* Effect.forkChild(connection.call(wait, nothing))
        yield* started
        yield* connection.close
        isClosed(yield* Effect.flip(Fiber.join(calling)), true)
        isClosed(yield* Effect.flip(connection.call(echo, nothing)), false)
        yield* interrupted
        yield* connection.close
        isClosed(yield* Effect.flip(connection.call(echo, nothing, { waitForReady: true })), false)
        assert.deepEqual(yield* connection.state, { closed: true, endpoints: [] })
      }).pipe(Effect.scoped))

    it.live("happens at the end of the Scope", () =>
      Effect.gen(function*() {
        const { handlers, interrupted, started } = yield* waiting
        const scope = yield* Scope.make()
        const connection = yield* Scope.provide(way.open(handlers), scope)
        const calling = yield* Effect.forkChild(connection.call(wait, nothing))
        yield* started
        yield* Scope.close(scope, Exit.void)
        isClosed(yield* Effect.flip(Fiber.join(calling)), true)
        isClosed(yield* Effect.flip(connection.call(echo, nothing)), false)
        yield* interrupted
        assert.equal((yield* connection.state).closed, true)
        yield* connection.close
      }))
  })

  eachNetwork((network) => {
    it.live("a call that was not sent yet was not executed, and says so", () =>
      Effect.gen(function*() {
        let executed = 0
        const { endpoint } = yield* network.serve(HandlerMap.set(handlers, component, "count", (args) => {
          executed++
          return Effect.succeed(args)
        }))
        const connection = yield* connect([endpoint])
        yield* connection.call(echo, nothing)
        const count = (size: number) =>
          Effect.forkChild(connection.call(MethodKey.make(component, "count"), new Uint8Array(size)), {
            startImmediately: true
          })
        // In this turn of the event loop nothing is written yet.
        const small = yield* count(1)
        const large = yield* count(20_000)
        yield* connection.close
        isClosed(yield* Effect.flip(Fiber.join(small)), false)
        isClosed(yield* Effect.flip(Fiber.join(large)), false)
        yield* (yield* connect([endpoint])).call(echo, nothing)
        assert.equal(executed, 0)
      }).pipe(Effect.scoped))

    it.live("may be called by the fiber of a call that has just been answered", () =>
      Effect.gen(function*() {
        const { endpoint } = yield* network.serve(handlers)
        const connection = yield* connect([endpoint])
        const results = yield* Effect.forEach(
          Array.from({ length: 20 }, (_, i) => i),
          (i) =>
            Effect.exit(
              Effect.tap(connection.call(echo, bytesOf(String(i))), () => i === 7 ? connection.close : Effect.void)
            ),
          { concurrency: "unbounded" }
        )
        assert.ok(Exit.isSuccess(results[7]!))
        for (const exit of results) {
          if (Exit.isFailure(exit)) isClosed(yield* Effect.flip(exit), true)
        }
      }).pipe(Effect.scoped))
  })

  it.effect("fails calls that wait for a dial, and calls the dial off", () =>
    Effect.gen(function*() {
      const { calledOff, dialing, endpoint } = yield* hanging
      const connection = yield* connect([endpoint])
      const calls = yield* Effect.forEach([1, 2, 3], () => Effect.forkChild(connection.call(echo, nothing)))
      yield* dialing
      yield* connection.close
      yield* calledOff
      for (const calling of calls) isClosed(yield* Effect.flip(Fiber.join(calling)), false)
    }).pipe(Effect.scoped))

  it.effect("waits for what a dial that it calls off has to clean up, and so does the end of the Scope", () =>
    Effect.gen(function*() {
      for (const how of ["close", "scope"] as const) {
        const scope = yield* Scope.make()
        const dialing = yield* Deferred.make<void>()
        const cleaning = yield* Deferred.make<void>()
        const release = yield* Deferred.make<void>()
        const connection = yield* Scope.provide(
          connect([{
            address: "test://hangs",
            dial: Effect.andThen(Deferred.succeed(dialing, undefined), Effect.never).pipe(
              Effect.onInterrupt(() => Effect.andThen(Deferred.succeed(cleaning, undefined), Deferred.await(release)))
            )
          }]),
          scope
        )
        const calling = yield* Effect.forkChild(connection.call(echo, nothing))
        yield* Deferred.await(dialing)
        const closing = yield* Effect.forkChild(how === "close" ? connection.close : Scope.close(scope, Exit.void))
        // The caller need not wait for it.
        isClosed(yield* Effect.flip(Fiber.join(calling)), false)
        yield* Deferred.await(cleaning)
        yield* settle
        assert.equal(closing.pollUnsafe(), undefined)
        yield* Deferred.succeed(release, undefined)
        yield* Fiber.join(closing)
      }
    }))

  it.effect("fails calls that wait for endpoints, or for the end of a backoff", () =>
    Effect.gen(function*() {
      const empty = yield* connect([], { resolver: "changing" })
      const backingOff = yield* connect([yield* TestNetwork.endpoint("absent")])
      yield* Effect.flip(backingOff.call(echo, nothing))
      for (const connection of [empty, backingOff]) {
        const calling = yield* Effect.forkChild(connection.call(echo, nothing, { waitForReady: true }), {
          startImmediately: true
        })
        yield* connection.close
        isClosed(yield* Effect.flip(Fiber.join(calling)), false)
      }
    }).pipe(Effect.scoped, Effect.provide(TestNetwork.layer)))

  it.effect("ends the watch of the resolver, also in the middle of a resolve", () =>
    Effect.gen(function*() {
      const asked = yield* Deferred.make<void>()
      const stopped = yield* Deferred.make<void>()
      const { endpoint } = yield* memory.serve(handlers)
      const connection = yield* Connection.make({
        isConstant: false,
        resolve: (version) =>
          version === undefined
            ? Effect.succeed({ endpoints: [endpoint], version: Resolver.version("1") })
            : Effect.andThen(Deferred.succeed(asked, undefined), Effect.never).pipe(
              Effect.onInterrupt(() => Deferred.succeed(stopped, undefined))
            )
      })
      yield* Deferred.await(asked)
      yield* connection.close
      yield* Deferred.await(stopped)
    }).pipe(Effect.scoped))

  it.effect("by a fiber that is interrupted closes anyway, and so do several closes at once", () =>
    Effect.gen(function*() {
      const { calledOff, dialing, endpoint } = yield* hanging
      const connection = yield* connect([endpoint])
      const calling = yield* Effect.forkChild(connection.call(echo, nothing))
      yield* dialing
      const closing = yield* Effect.forEach(
        [1, 2, 3],
        () => Effect.forkChild(connection.close, { startImmediately: true })
      )
      yield* Fiber.interruptAll(closing)
      isClosed(yield* Effect.flip(Fiber.join(calling)), false)
      yield* calledOff
      yield* connection.close
    }).pipe(Effect.scoped))
})

describe("nothing is left", () => {
  const script = fileURLToPath(new URL("../support/exitsByItself.ts", import.meta.url))

  // More than a second, since it starts a process.
  it.live("of sockets, timers and servers: a process that has closed its Connections and servers ends by itself", () =>
    Effect.gen(function*() {
      const child = spawn(process.execPath, [script], { stdio: ["ignore", "pipe", "inherit"] })
      yield* Effect.addFinalizer(() => Effect.sync(() => child.kill("SIGKILL")))
      const exiting = yield* Effect.callback<number | null>((resume) => {
        child.on("exit", (code) => resume(Effect.succeed(code)))
      }).pipe(Effect.forkChild({ startImmediately: true }))
      const lines: Array<string> = []
      const closed = Effect.callback<void>((resume) => {
        child.stdout.on("data", (chunk: Buffer) => {
          lines.push(...chunk.toString().trimEnd().split("\n"))
          if (lines.length >= 3) resume(Effect.void)
        })
      })
      yield* Effect.raceFirst(closed, Fiber.await(exiting))
      assert.deepEqual(lines, [
        "connections first: closed 8 calls",
        "scopes first: closed 8 calls",
        "servers first: closed 8 calls"
      ])
      // The timers that could be left are of an hour.
      const code = yield* Fiber.join(exiting).pipe(Effect.timeoutOrElse({
        duration: patience,
        orElse: () => Effect.die(new Error("the process is kept alive by something that was not closed"))
      }))
      assert.equal(code, 0)
    }).pipe(Effect.scoped))
})
