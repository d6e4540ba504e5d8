/**
 * Answers that say that a time was up, by servers whose clocks and words are their own: those of Go wrap their
 * context's error, and their timers are a little earlier than ours.
 */
import { describe, it } from "@effect/vitest"
import { Clock, Duration, Effect, Fiber, Schedule, type Scope } from "effect"
import { Balancer, type CallError, Component, Connection, Deadline, MethodKey, Resolver } from "effect-call"
import { TestNetwork } from "effect-call/testing"
import { Rpc, RpcGroup } from "effect/rpc"
import { TestClock } from "effect/testing"
import * as assert from "node:assert/strict"
import { encodeErrorChain, plainError } from "../../src/internal/protocol/errorChain.ts"
import { clientOver } from "../Component/support.ts"
import { byHand } from "../support/byHand.ts"
import { clockThat } from "../support/clock.ts"
import { component, echo } from "../support/networks.ts"
import { message, messagesOf } from "../support/raw.ts"
import { askSlowly, settle, startInMemory } from "./support.ts"

const nothing = new Uint8Array()
const timeUp = { message: "context deadline exceeded", identity: "(context:context.deadlineExceededError{})" }
const outer = plainError("slow: context deadline exceeded")
const inner = plainError("i/o timeout")

/** Where the deadline's identity is in the chain. */
const wrapped = {
  "alone": [timeUp],
  "outermost": [timeUp, inner],
  "in the middle": [outer, timeUp, inner],
  "innermost": [outer, inner, timeUp]
} as const

/** Idempotent, and called with a timeout of a second by everybody. */
const key = MethodKey.idempotent(echo)
const timeout = { timeout: "1 second" } as const

const Typed = Component.make(component, RpcGroup.make(Rpc.make("Work")))

/** How calls are made that have a second. */
const ways: Record<string, (connection: Connection.Connection) => Effect.Effect<unknown, CallError.CallError>> = {
  "bytes": (connection) => connection.call(key, nothing, timeout),
  "bytes within the deadline of a region": (connection) => Deadline.within(connection.call(key, nothing), "1 second"),
  "bytes that would be made again": (connection) =>
    connection.call(key, nothing, { ...timeout, retry: Schedule.recurs(3) }),
  "a typed call": (connection) =>
    Effect.flatMap(clientOver(connection, Typed), (client) => client.Work().pipe(Connection.withOptions(timeout))),
  "a typed call that does not wait for its handler": (connection) =>
    Effect.flatMap(
      clientOver(connection, Typed),
      (client) => client.Work(undefined, { discard: true }).pipe(Connection.withOptions(timeout))
    )
}

/**
 * A Connection to a server that is written by hand, on a clock on which no sleeper wakes: all that ends a call is what
 * that server says. All calls go there; there is another endpoint, so that this one can be ejected.
 */
const open = Effect.gen(function*() {
  const time = { now: 0 }
  return yield* Effect.gen(function*() {
    const a = yield* byHand("a")
    const b = yield* startInMemory("b")
    const connection = yield* Connection.make(Resolver.constant(a.endpoint, b.endpoint), {
      balancer: Balancer.make(([first]) => Effect.succeed(first!)),
      outlierEjection: { failures: 2 }
    })
    const greeting = yield* Effect.forkChild(a.accepted(), { startImmediately: true })
    yield* Effect.forkScoped(Effect.ignore(connection.call(echo, nothing)), { startImmediately: true })
    const raw = yield* Fiber.join(greeting)
    let id = 1
    /** Makes a call, and answers it with this chain after so many milliseconds. */
    const fail = Effect.fnUntraced(function*(
      way: (connection: Connection.Connection) => Effect.Effect<unknown, CallError.CallError>,
      chain: Parameters<typeof encodeErrorChain>[0],
      after: number
    ) {
      const calling = yield* Effect.forkChild(Effect.flip(way(connection)), { startImmediately: true })
      id++
      yield* raw.until((bytes) => messagesOf(bytes).some((message) => message.type === 1 && message.id === id))
      time.now += after
      raw.write(message(id, 3, encodeErrorChain(chain)))
      return yield* Fiber.join(calling)
    })
    const isEjected = Effect.map(connection.state, ({ endpoints }) => endpoints[0]!.isEjected)
    return { fail, isEjected }
  }).pipe(Effect.provideService(Clock.Clock, clockThat(() => time.now)))
})

const alone = <A, E>(test: Effect.Effect<A, E, Scope.Scope | TestNetwork.TestNetwork>) =>
  Effect.scoped(Effect.provide(test, TestNetwork.layer))

for (const [name, way] of Object.entries(ways)) {
  describe(name, () => {
    for (const [where, chain] of Object.entries(wrapped)) {
      it.live(`ends with DeadlineExceeded where its time is up, said ${where}, which counts against the replica`, () =>
        // At the deadline; past it, when our own timer is still to come; and as much earlier as a clock may be.
        Effect.forEach([1000, 1000.01, 1002, 999.999, 999.1], (after) =>
          alone(Effect.gen(function*() {
            const { fail, isEjected } = yield* open
            const error = yield* fail(way, chain, after)
            assert.equal(error._tag, "DeadlineExceeded", `after ${after} ms: ${error.message}`)
            assert.match(error.message, /no answer from memory:\/\/a to test\/Echo\.\w+ in time$/)
            assert.equal(yield* isEjected, false)
            yield* fail(way, chain, after)
            assert.equal(yield* isEjected, true, `after ${after} ms`)
          }))))

      it.live(`ends with what its handler met where it has time left, said ${where}, which does not count`, () =>
        alone(Effect.gen(function*() {
          const { fail, isEjected } = yield* open
          for (const after of [0, 500, 990, 998.9]) {
            const error = yield* fail(way, chain, after)
            // A server that says nothing else speaks of the call.
            assert.equal(error._tag, chain.length === 1 ? "DeadlineExceeded" : "RemoteError", `after ${after} ms`)
            if (error._tag === "RemoteError") assert.deepEqual(error.chain, chain)
          }
          assert.equal(yield* isEjected, false)
        })))
    }

    it.live("ends with what its handler met also past its deadline, where that has nothing to do with it", () =>
      alone(Effect.gen(function*() {
        const { fail, isEjected } = yield* open
        for (const after of [1000, 1002]) {
          // The same text is another error.
          const error = yield* fail(way, [outer, plainError(timeUp.message), inner], after)
          assert.equal(error._tag, "RemoteError")
        }
        assert.equal(yield* isEjected, false)
      })))
  })
}

describe("a call", () => {
  it.live("of a few milliseconds gets no more of a margin than its share", () =>
    Effect.forEach(
      [["DeadlineExceeded", 4.99], ["RemoteError", 4.9]] as const,
      ([tag, after]) =>
        alone(Effect.gen(function*() {
          const { fail } = yield* open
          const error = yield* fail(
            (connection) => connection.call(key, nothing, { timeout: 5 }),
            wrapped.innermost,
            after
          )
          assert.equal(error._tag, tag)
        }))
    ))

  it.effect("counts also where the deadline that its server gets is a fraction of a microsecond earlier", () =>
    alone(Effect.gen(function*() {
      const replicas = yield* Effect.forEach(["a", "b"], startInMemory)
      const connection = yield* Connection.make(Resolver.constant(...replicas.map(({ endpoint }) => endpoint)), {
        outlierEjection: { failures: 1 }
      })
      const calling = yield* Effect.forkChild(
        Effect.flip(askSlowly(connection, { timeout: Duration.nanos(1_000_000_700n) })),
        { startImmediately: true }
      )
      yield* settle
      // The server's time is up, and ours is not yet.
      yield* TestClock.adjust("1 second")
      yield* settle
      assert.equal((yield* Fiber.join(calling))._tag, "DeadlineExceeded")
      assert.equal((yield* connection.state).endpoints[0]!.isEjected, true)
    })))

  it.live("without a deadline ends with what its handler met", () =>
    alone(Effect.gen(function*() {
      const { fail, isEjected } = yield* open
      for (const chain of Object.values(wrapped)) {
        const error = yield* fail((connection) => connection.call(key, nothing), chain, 1_000_000)
        assert.ok(error._tag === "RemoteError")
        assert.deepEqual(error.chain, chain)
      }
      assert.equal(yield* isEjected, false)
    })))
})
