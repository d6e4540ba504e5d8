/** One call, on a real session whose client sends nothing itself: a test makes each call. */
import { describe, it } from "@effect/vitest"
import { Deferred, Duration, Effect, Exit, Option } from "effect"
import { Deadline, HandlerMap, MethodKey } from "effect-call"
import { TestClock } from "effect/testing"
import * as assert from "node:assert/strict"
import * as Identities from "../../../src/internal/protocol/identities.ts"
import { ServerCall } from "../../../src/internal/server/call.ts"
import type { ServerOptions } from "../../../src/internal/server/options.ts"
import type { Route } from "../../../src/internal/server/route.ts"
import { nowMillis } from "../../../src/internal/time/clock.ts"
import { until } from "../../Connection/support.ts"
import { open, routeIn, textsOf } from "./support.ts"

const key = MethodKey.make("test/Store", "get")

/** A session, and a way to make calls of one handler on it; `millis` is how much time a call has. */
const serving = Effect.fnUntraced(function*(handler: HandlerMap.Handler, options: ServerOptions = {}) {
  const handlers = HandlerMap.set(HandlerMap.empty, "test/Store", "get", handler)
  const opened = yield* open(handlers, { firstMessageTimeout: Infinity, ...options })
  const { session, settings } = opened
  const receive = (id: number, millis = 0, route: Route = routeIn(handlers, key)) => {
    const deadlineAt = millis === 0 ? Infinity : nowMillis(settings.clock) + millis
    const call = new ServerCall(id, route, deadlineAt, 0, session)
    call.receive(Uint8Array.of(id), 0, 1, true, undefined, millis * 1000)
    return call
  }
  return { ...opened, receive, route: routeIn(handlers, key) }
})

/** A handler that waits until it is told to go on, and what became of its calls. */
const held = Effect.gen(function*() {
  const gate = yield* Deferred.make<void>()
  const state = { started: [] as Array<number>, interrupted: 0 }
  const handler: HandlerMap.Handler = (args) =>
    Effect.suspend(() => {
      state.started.push(...args)
      return Effect.as(Deferred.await(gate), args)
    }).pipe(Effect.onInterrupt(() => Effect.sync(() => state.interrupted++)))
  return { goOn: Deferred.succeed(gate, undefined), handler, state }
})

const deadlineExceeded = { chain: [Identities.deadlineExceeded] }
const overloaded = { chain: [Identities.overloaded] }
const canceled = { chain: [Identities.canceled] }

describe("a call", () => {
  it.effect("whose handler has its result at once is over as soon as it was received, and no longer counted", () =>
    Effect.gen(function*() {
      const { answered, receive, session } = yield* serving(Effect.succeed)
      receive(1)
      assert.deepEqual([session.callsInFlight, session.running], [0, 0])
      assert.deepEqual(yield* answered(1), [[1, [1]]])
    }).pipe(Effect.scoped))

  it.effect("is answered when the finalizers of its Scope have run, and fails where one of them dies", () =>
    Effect.gen(function*() {
      const { goOn, handler } = yield* held
      const finalizer = Effect.andThen(Effect.orDie(handler(Uint8Array.of(9))), Effect.die(new Error("secret")))
      // The cast: a server gives each handler a Scope.
      const scoped = (args: Uint8Array) =>
        Effect.as(Effect.addFinalizer(() => finalizer), args) as Effect.Effect<Uint8Array>
      const { answered, receive, session } = yield* serving(scoped)
      receive(1)
      assert.equal(session.callsInFlight, 1)
      yield* goOn
      assert.deepEqual((yield* answered(1)).map(textsOf), [["internal error: the handler died"]])
    }).pipe(Effect.scoped))

  it.effect("tells its handler how much time is left, and is answered with DeadlineExceeded when it is over", () =>
    Effect.gen(function*() {
      const left: Array<Option.Option<Duration.Duration>> = []
      const { answered, receive, session } = yield* serving(() =>
        Effect.andThen(Effect.map(Deadline.remaining, (remaining) => left.push(remaining)), Effect.never)
      )
      receive(1, 5000)
      yield* TestClock.adjust("4999 millis")
      assert.equal(session.callsInFlight, 1)
      yield* TestClock.adjust("1 millis")
      assert.deepEqual(yield* answered(1), [[1, deadlineExceeded]])
      assert.deepEqual(left, [Option.some(Duration.seconds(5))])
    }).pipe(Effect.scoped))

  it.effect("is interrupted when it is stopped, and answered once, for the first reason", () =>
    Effect.gen(function*() {
      const gate = yield* Deferred.make<void>()
      const { answered, receive, session } = yield* serving(() =>
        Effect.onInterrupt(Effect.never, () => Deferred.await(gate))
      )
      const call = receive(1)
      call.stop("canceled")
      call.stop("deadline")
      assert.deepEqual([session.callsInFlight, session.running], [1, 1])
      yield* Deferred.succeed(gate, undefined)
      yield* answered(1)
      receive(2).stop("canceled")
      assert.deepEqual(yield* answered(2), [[1, canceled], [2, canceled]])
      assert.deepEqual([session.callsInFlight, session.running], [0, 0])
    }).pipe(Effect.scoped))

  it.effect("ends with what was concluded, whatever its handler ends with after that", () =>
    Effect.gen(function*() {
      const { handler } = yield* held
      const { answered, receive } = yield* serving(handler)
      const call = receive(1)
      call.conclude(Exit.succeed(Uint8Array.of(5)))
      call.stop("canceled")
      assert.deepEqual(yield* answered(1), [[1, [5]]])
    }).pipe(Effect.scoped))
})

describe("a call that was answered before its end", () => {
  it.effect("is answered once, and goes on when its time is up or its connection is gone, but not at a shutdown", () =>
    Effect.gen(function*() {
      const { handler, state } = yield* held
      const { answered, client, done, pair, receive, session } = yield* serving(handler)
      const call = receive(1, 1000)
      call.acknowledge()
      call.acknowledge()
      assert.deepEqual(yield* answered(1), [[1, []]])
      yield* TestClock.adjust("1 hour")
      pair.close()
      yield* client.closed
      yield* until(() => session.isOver)
      assert.deepEqual([state.interrupted, session.callsInFlight], [0, 1])
      call.stop("shutdown")
      yield* done
      assert.equal(state.interrupted, 1)
    }).pipe(Effect.scoped))
})

describe("a call that cannot be started yet", () => {
  const one = { maxConcurrentCalls: 1, maxQueuedCalls: 1 }

  it.effect("is started when another one has ended, and refused where too many wait", () =>
    Effect.gen(function*() {
      const { goOn, handler, state } = yield* held
      const { answered, receive, session } = yield* serving(handler, one)
      for (const id of [1, 2, 3]) receive(id)
      assert.deepEqual([state.started, session.callsInFlight], [[1], 2])
      assert.deepEqual(yield* answered(1), [[3, overloaded]])
      yield* goOn
      assert.deepEqual((yield* answered(3)).slice(1), [[1, [1]], [2, [2]]])
      assert.deepEqual(state.started, [1, 2])
    }).pipe(Effect.scoped))

  it.effect("is never started after it was stopped, and frees its place in the queue", () =>
    Effect.gen(function*() {
      const { goOn, handler, state } = yield* held
      const { answered, receive } = yield* serving(handler, one)
      receive(1)
      receive(2).stop("canceled")
      receive(3)
      yield* goOn
      assert.deepEqual(yield* answered(3), [[2, canceled], [1, [1]], [3, [3]]])
      assert.deepEqual(state.started, [1, 3])
    }).pipe(Effect.scoped))

  it.effect("is pressed for time when half of its time is gone, and never without a deadline", () =>
    Effect.gen(function*() {
      const { handler } = yield* held
      const { receive } = yield* serving(handler, { maxConcurrentCalls: 1 })
      const [running, timed, untimed] = [receive(1, 10_000), receive(2, 10_000), receive(3)]
      yield* TestClock.adjust("4999 millis")
      assert.equal(timed.isPressed(), false)
      yield* TestClock.adjust("1 millis")
      assert.deepEqual([running, timed, untimed].map((call) => call.isPressed()), [false, true, false])
    }).pipe(Effect.scoped))
})
