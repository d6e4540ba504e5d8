/**
 * Handlers that are ended at every point: by a caller that gives up, a connection that is lost, a deadline; while they
 * run, wait for their turn, or go on after their call was answered.
 */
import { describe } from "@effect/vitest"
import { Effect, Exit, Fiber, Latch, Schema } from "effect"
import { Component, HandlerMap, MethodKey, Server } from "effect-call"
import { Rpc, RpcGroup } from "effect/rpc"
import { TestClock } from "effect/testing"
import * as assert from "node:assert/strict"
import type { Duplex } from "node:stream"
import { clientOver } from "../Component/support.ts"
import * as Networks from "../support/networks.ts"
import { args, eachPace, turns, unharmed, work, workers } from "./interrupting.ts"
import { until } from "./wire.ts"

/** A server that lets hold of its end of each connection, and a Connection to it. */
const held = Effect.fnUntraced(
  function*<R>(network: Networks.Network, handlers: HandlerMap.HandlerMap<R>, options?: Server.ServerOptions) {
    const ends: { client?: Duplex; server?: Duplex } = {}
    const { endpoint, listener } = yield* network.listen(handlers)
    const accept = Effect.tap(listener.accept, ({ connection }) => Effect.sync(() => void (ends.server = connection)))
    // Without the timers that an open connection may have: it may be another one after each attempt.
    const serverOptions = { shutdownGrace: 0, firstMessageTimeout: Infinity, ...options }
    yield* Effect.forkScoped(Server.serve({ ...listener, accept }, serverOptions), { startImmediately: true })
    const dial = Effect.tap(endpoint.dial, (duplex) => Effect.sync(() => void (ends.client = duplex)))
    const connection = yield* Networks.connect([{ address: endpoint.address, dial }], { keepAlive: false })
    return { connection, endpoint, ends }
  }
)

/** Ended by an answer, or with its connection. */
const answeredOrLost = (exit: Exit.Exit<unknown, unknown>) => {
  if (Exit.isSuccess(exit)) return
  assert.match(String(exit.cause), /the connection was lost/)
}

describe("a handler", () => {
  Networks.eachNetwork((network) => {
    for (const end of ["client", "server"] as const) {
      // With mTLS up to a second, since there are some 60 points, each with a handshake.
      eachPace(`ends with its connection, which the ${end} breaks off`, 30, {
        around: Effect.gen(function*() {
          const { handlers, idle } = workers()
          return { ...(yield* held(network, handlers)), idle }
        }),
        mayWarn: ["a connection was lost"],
        attempt: Effect.fnUntraced(function*({ connection, ends, idle }) {
          // So that it has been dialed again since.
          yield* Effect.orDie(connection.call(work, args, { waitForReady: true }))
          return {
            run: connection.call(work, args),
            strike: () => void ends[end]!.destroy(),
            check: Effect.fnUntraced(function*(exit: Exit.Exit<unknown, unknown>) {
              answeredOrLost(exit)
              yield* until("the connection to be closed", () => ends.client!.closed === ends.server!.closed)
              yield* connection.call(Networks.echo, args, { waitForReady: true })
              yield* unharmed(connection, idle)
            })
          }
        })
      })
    }
  }, [Networks.tcp, Networks.mtlsOverUnix, Networks.memory])

  eachPace("ends with its deadline", 30, {
    around: Effect.gen(function*() {
      const { handlers, idle } = workers()
      const { connection } = yield* held(Networks.memory, handlers)
      return { clock: yield* Effect.context<never>(), connection, idle }
    }).pipe(Effect.provide(TestClock.layer())),
    attempt: ({ clock, connection, idle }) =>
      Effect.succeed({
        run: connection.call(work, args, { timeout: "1 hour" }),
        strike: () => void Effect.runForkWith(clock)(TestClock.adjust("1 hour")),
        check: (exit: Exit.Exit<unknown, unknown>) => {
          if (Exit.isFailure(exit)) assert.match(String(exit.cause), /deadline exceeded/)
          // A timer that has nothing to do any more goes when its time has come.
          const later = Effect.provideContext(TestClock.adjust("2 hours"), clock)
          return Effect.andThen(unharmed(connection, idle), later)
        }
      })
  })
})

describe("a call that waits for its turn", () => {
  const block = MethodKey.make(Networks.component, "block")

  /** One call at a time, and one more that waits. */
  const queueing = Effect.gen(function*() {
    const gate = yield* Latch.make(true)
    const { handlers, idle } = workers()
    const { connection: other, endpoint } = yield* held(
      Networks.unix,
      HandlerMap.set(handlers, block.component, block.method, () => Effect.as(gate.await, args)),
      { maxConcurrentCalls: 1, maxQueuedCalls: 1 }
    )
    // The call of another client runs.
    const blocked = Effect.gen(function*() {
      yield* gate.close
      const blocking = yield* Effect.forkScoped(other.call(block, args), { startImmediately: true })
      yield* turns
      return Effect.andThen(gate.open, Fiber.join(blocking))
    })
    /** One runs and one waits: neither is refused. */
    const both = Effect.all([other.call(work, args), other.call(work, args)], { concurrency: "unbounded" })
    return { blocked, both, endpoint, idle, other }
  })

  eachPace("is interrupted before and after that, and its place is free", 50, {
    around: queueing,
    attempt: Effect.fnUntraced(function*({ blocked, both, idle, other }) {
      const go = yield* blocked
      const going = yield* Effect.forkScoped(Effect.andThen(turns, go))
      return {
        run: other.call(work, args),
        check: Effect.fnUntraced(function*() {
          yield* Fiber.join(going)
          yield* unharmed(other, idle)
          yield* both
        })
      }
    })
  })

  eachPace("ends with its connection, and its place is free", 10, {
    around: queueing,
    mayWarn: ["a connection was lost", "an endpoint could not be dialed"],
    attempt: Effect.fnUntraced(function*({ blocked, both, endpoint, idle, other }) {
      let socket: Duplex | undefined
      const dial = Effect.tap(endpoint.dial, (duplex) => Effect.sync(() => void (socket = duplex)))
      const connection = yield* Networks.connect([{ address: endpoint.address, dial }])
      yield* Effect.orDie(connection.call(work, args))
      const go = yield* blocked
      return {
        run: connection.call(work, args),
        stays: turns,
        strike: () => {
          socket!.destroy()
          // One that had not been sent is sent again, and waits.
          Effect.runFork(Effect.andThen(turns, go))
        },
        check: Effect.fnUntraced(function*(exit: Exit.Exit<unknown, unknown>) {
          answeredOrLost(exit)
          yield* go
          yield* unharmed(other, idle)
          yield* both
        })
      }
    })
  })
})

describe("a discarded call", () => {
  const group = RpcGroup.make(Rpc.make("Work", { payload: { text: Schema.String } }))
  const Jobs = Component.make("test/Jobs", group)

  const discarding = Effect.fnUntraced(function*(network: Networks.Network) {
    const { idle, state, working } = workers()
    const handlers = yield* Component.handlers(Jobs, group.toLayer({ Work: () => working }))
    const opened = yield* held(network, handlers)
    return { ...opened, client: yield* clientOver(opened.connection, Jobs), idle, state }
  })

  Networks.eachNetwork((network) => {
    eachPace("is interrupted, and its handler ends, or has never run", 20, {
      around: discarding(network),
      attempt: ({ client, idle, state }) =>
        Effect.succeed({
          run: client.Work({ text: "some work" }, { discard: true }),
          check: Effect.fnUntraced(function*() {
            yield* idle
            const { done } = state
            yield* client.Work({ text: "some work" }, { discard: true })
            yield* until("the work to be done", () => state.done === done + 1)
            yield* idle
          })
        })
    })

    eachPace("whose connection is lost has its handler go on once it was answered", 20, {
      around: discarding(network),
      mayWarn: ["a connection was lost"],
      attempt: Effect.fnUntraced(function*({ client, ends, idle, state }) {
        yield* Effect.orDie(client.Work({ text: "some work" }))
        const { done } = state
        return {
          run: client.Work({ text: "some work" }, { discard: true }),
          strike: () => void ends.client!.destroy(),
          check: Effect.fnUntraced(function*(exit: Exit.Exit<unknown, unknown>) {
            answeredOrLost(exit)
            yield* idle
            if (Exit.isSuccess(exit)) assert.equal(state.done, done + 1)
            yield* until("the connection to be closed", () => ends.client!.closed === ends.server!.closed)
            yield* client.Work({ text: "some work" })
          })
        }
      })
    })
  }, [Networks.tcp, Networks.memory])
})
