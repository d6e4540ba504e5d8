/**
 * Calls that are made again: what surely has not run, and where the method is idempotent what may have; within the
 * deadline and a budget.
 */
import { describe, it } from "@effect/vitest"
import { Effect, Exit, Fiber, Latch, Layer, Schedule, Schema } from "effect"
import { type CallError, Component, Connection, HandlerMap, MethodKey, Resolver } from "effect-call"
import { TestNetwork } from "effect-call/testing"
import { Rpc, RpcGroup } from "effect/rpc"
import { TestClock } from "effect/testing"
import * as assert from "node:assert/strict"
import { elapse, settle, until } from "../../Connection/support.ts"
import { byHand } from "../../support/byHand.ts"
import { bytesOf, textOf } from "../../support/networks.ts"
import { message, messagesOf } from "../../support/raw.ts"

const component = "test/Retried"
const work = MethodKey.make(component, "work")
const again = MethodKey.idempotent(work)
const nothing = new Uint8Array()

const onNetwork = Effect.provide(TestNetwork.layer)

/** A server at a name whose handler waits for the gate, and counts how often it ran. */
const serve = Effect.fnUntraced(function*(name: string, options?: { readonly maxConcurrentCalls?: number }) {
  const gate = yield* Latch.make(false)
  const state = { runs: 0, gate }
  yield* TestNetwork.listen(
    name,
    HandlerMap.set(HandlerMap.empty, component, "work", (args) =>
      Effect.suspend(() => {
        state.runs++
        return Effect.as(gate.await, bytesOf(`${name}${textOf(args)}`))
      })),
    { shutdownGrace: 0, maxQueuedCalls: 0, ...options }
  )
  return state
})

const connect = Effect.fnUntraced(function*(names: ReadonlyArray<string>, options?: Connection.ClientOptions) {
  return yield* Connection.make(Resolver.constant(...(yield* Effect.forEach(names, TestNetwork.endpoint))), options)
})

const tagOf = (error: CallError.CallError) =>
  error._tag === "CommunicationError" ? `${error._tag} ${error.reason._tag}` : error._tag

/** Breaks the connections to a server, and lets new ones be made. */
const cut = Effect.fnUntraced(function*(name: string) {
  yield* TestNetwork.fault(name, { cutAfter: { toClient: 0 }, dial: "hang" })
  yield* settle
  yield* TestNetwork.heal(name)
})

const fork = <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.forkChild(effect, { startImmediately: true })

describe("a call with a retry schedule is made again", () => {
  it.effect("when no endpoint could be reached, after the delays of its schedule", () =>
    Effect.gen(function*() {
      const { gate } = yield* serve("a")
      yield* gate.open
      yield* TestNetwork.fault("a", { dial: "refuse" })
      const connection = yield* connect(["a"], { backoff: { initial: 0 } })
      const calling = yield* fork(
        connection.call(work, nothing, { retry: Schedule.exponential(100).pipe(Schedule.upTo({ times: 10 })) })
      )
      yield* settle
      // 100, 200, 400.
      yield* TestClock.adjust(300)
      yield* settle
      yield* TestNetwork.heal("a")
      yield* settle
      assert.equal(calling.pollUnsafe(), undefined)
      assert.equal(yield* elapse(calling, 10), 400)
      assert.equal(textOf(yield* Fiber.join(calling)), "a")
    }).pipe(onNetwork))

  it.effect("when its server is overloaded, and elsewhere at that", () =>
    Effect.gen(function*() {
      const a = yield* serve("a", { maxConcurrentCalls: 1 })
      const b = yield* serve("b")
      yield* b.gate.open
      const connection = yield* connect(["a", "b"])
      const first = yield* fork(connection.call(work, nothing))
      yield* until(() => a.runs === 1)
      assert.equal(textOf(yield* connection.call(work, nothing)), "b")
      // This one is for the first server again, which is full.
      assert.equal(textOf(yield* connection.call(work, nothing, { retry: Schedule.recurs(1) })), "b")
      assert.equal(a.runs, 1)
      yield* Fiber.interrupt(first)
    }).pipe(onNetwork))

  it.effect("when it was lost, if its method is idempotent", () =>
    Effect.gen(function*() {
      const server = yield* serve("a")
      const connection = yield* connect(["a"])
      const calling = yield* fork(connection.call(again, bytesOf("!"), { retry: Schedule.recurs(3) }))
      yield* until(() => server.runs === 1)
      yield* cut("a")
      yield* until(() => server.runs === 2)
      yield* cut("a")
      yield* until(() => server.runs === 3)
      yield* server.gate.open
      assert.equal(textOf(yield* Fiber.join(calling)), "a!")
    }).pipe(onNetwork))

  it.effect("but not when it was lost, and may have run, if its method is not idempotent", () =>
    Effect.gen(function*() {
      const server = yield* serve("a")
      const connection = yield* connect(["a"])
      const calling = yield* fork(Effect.flip(connection.call(work, nothing, { retry: Schedule.recurs(3) })))
      yield* until(() => server.runs === 1)
      yield* cut("a")
      assert.equal(tagOf(yield* Fiber.join(calling)), "CommunicationError Lost")
      assert.equal(server.runs, 1)
    }).pipe(onNetwork))

  it.effect("but not without a schedule, for any method", () =>
    Effect.gen(function*() {
      const server = yield* serve("a")
      const connection = yield* connect(["a"])
      const calling = yield* fork(Effect.flip(connection.call(again, nothing)))
      yield* until(() => server.runs === 1)
      yield* cut("a")
      assert.equal(tagOf(yield* Fiber.join(calling)), "CommunicationError Lost")
      assert.equal(server.runs, 1)
    }).pipe(onNetwork))

  it.effect("as often as its schedule says, and then fails as it did the last time", () =>
    Effect.gen(function*() {
      const server = yield* serve("a")
      const connection = yield* connect(["a"])
      const calling = yield* fork(Effect.flip(connection.call(again, nothing, { retry: Schedule.recurs(2) })))
      for (const runs of [1, 2, 3]) {
        yield* until(() => server.runs === runs)
        yield* cut("a")
      }
      assert.equal(tagOf(yield* Fiber.join(calling)), "CommunicationError Lost")
      assert.equal(server.runs, 3)
    }).pipe(onNetwork))

  it.live("by a schedule that uses the time of day", () =>
    Effect.gen(function*() {
      const connection = yield* connect(["absent"])
      const before = Date.now()
      let told = 0
      const retry = Schedule.recurs(1).pipe(Schedule.tap(({ now }) => Effect.sync(() => told = now)))
      yield* Effect.flip(connection.call(work, nothing, { retry }))
      assert.ok(told >= before)
    }).pipe(Effect.scoped, onNetwork))

  it.effect("never past its deadline, which is that of all tries together", () =>
    Effect.gen(function*() {
      const connection = yield* connect(["absent"], { backoff: { initial: 0 } })
      const options = { timeout: 1000, retry: Schedule.spaced(300) }
      const calling = yield* fork(Effect.flip(connection.call(work, nothing, options)))
      // Tries at 0, 300, 600 and 900: there is no time for another, and why they failed says more than that the time is
      // up.
      assert.equal(yield* elapse(calling, 100), 900)
      assert.equal(tagOf(yield* Fiber.join(calling)), "Unreachable")
    }).pipe(onNetwork))

  it.effect("never past its deadline, even with a schedule that takes long", () =>
    Effect.gen(function*() {
      const connection = yield* connect(["absent"])
      const retry = Schedule.recurs(3).pipe(Schedule.tap(() => Effect.sleep("1 hour")))
      const calling = yield* fork(Effect.flip(connection.call(work, nothing, { timeout: 1000, retry })))
      assert.equal(yield* elapse(calling, 100), 1000)
      assert.equal(tagOf(yield* Fiber.join(calling)), "Unreachable")
    }).pipe(onNetwork))

  it.effect("and may reach its deadline while it is made again", () =>
    Effect.gen(function*() {
      const server = yield* serve("a")
      const connection = yield* connect(["a"])
      const calling = yield* fork(
        Effect.flip(connection.call(again, nothing, { timeout: 1000, retry: Schedule.spaced(400) }))
      )
      yield* until(() => server.runs === 1)
      yield* cut("a")
      assert.equal(yield* elapse(calling, 100), 1000)
      assert.equal(tagOf(yield* Fiber.join(calling)), "DeadlineExceeded")
      assert.equal(server.runs, 2)
    }).pipe(onNetwork))

  it.effect("until it is interrupted, also between two tries", () =>
    Effect.gen(function*() {
      const connection = yield* connect(["absent"])
      const calling = yield* fork(connection.call(work, nothing, { retry: Schedule.spaced(1000) }))
      yield* settle
      yield* TestClock.adjust(2500)
      yield* settle
      yield* Fiber.interrupt(calling)
      assert.ok(Exit.hasInterrupts(yield* Fiber.await(calling)))
    }).pipe(onNetwork))

  it.effect("until its Connection is closed, also between two tries", () =>
    Effect.gen(function*() {
      const connection = yield* connect(["absent"])
      const calling = yield* fork(Effect.flip(connection.call(work, nothing, { retry: Schedule.spaced("1 hour") })))
      yield* settle
      yield* connection.close
      assert.equal(tagOf(yield* Fiber.join(calling)), "CommunicationError Closed")
    }).pipe(onNetwork))

  it.effect("with the arguments that it was given, even if they were changed since", () =>
    Effect.gen(function*() {
      const server = yield* serve("a")
      const connection = yield* connect(["a"])
      const args = bytesOf("first")
      const calling = yield* fork(connection.call(again, args, { retry: Schedule.recurs(1) }))
      args.fill(0)
      yield* until(() => server.runs === 1)
      yield* cut("a")
      yield* until(() => server.runs === 2)
      yield* server.gate.open
      assert.equal(textOf(yield* Fiber.join(calling)), "afirst")
    }).pipe(onNetwork))

  it.effect("only while the retry budget of its Connection lasts, which calls refill up to a limit", () =>
    Effect.gen(function*() {
      const connection = yield* connect(["absent"], {
        backoff: { initial: 0 },
        retryBudget: { ratio: 0.5, burst: 2 }
      })
      let tries = 0
      const retry = Schedule.recurs(10).pipe(Schedule.tap(() => Effect.sync(() => tries++)))
      const triesOfOne = Effect.gen(function*() {
        tries = 0
        yield* Effect.flip(connection.call(work, nothing, { retry }))
        return tries
      })
      // Its own half is no more than there may be. The input of the schedule that the budget then refuses counts, too.
      assert.equal(yield* triesOfOne, 3)
      assert.deepEqual(yield* Effect.all([triesOfOne, triesOfOne, triesOfOne]), [1, 2, 1])
    }).pipe(onNetwork))

  it.effect("but not when it is closed, or too large, or its method is unknown, or its handler failed", () =>
    Effect.gen(function*() {
      let runs = 0
      yield* TestNetwork.listen(
        "a",
        HandlerMap.set(HandlerMap.empty, component, "work", () =>
          Effect.suspend(() => {
            runs++
            return Effect.fail(new Error("no"))
          })),
        { shutdownGrace: 0 }
      )
      const connection = yield* connect(["a"], { maxMessageSize: 1024 })
      let asked = 0
      const retry = Schedule.recurs(3).pipe(Schedule.tap(() => Effect.sync(() => asked++)))
      const failed = (key: MethodKey.MethodKey, args: Uint8Array) =>
        Effect.map(Effect.flip(connection.call(key, args, { retry })), tagOf)
      assert.equal(yield* failed(again, nothing), "RemoteError")
      assert.equal(yield* failed(MethodKey.idempotent(MethodKey.make(component, "other")), nothing), "RemoteError")
      assert.equal(yield* failed(again, new Uint8Array(2000)), "CommunicationError TooLarge")
      yield* connection.close
      assert.equal(yield* failed(again, nothing), "CommunicationError Closed")
      assert.deepEqual([asked, runs], [0, 1])
    }).pipe(onNetwork))

  it.effect("but not when its arguments are too large for its server, or its answer is too large for either end", () =>
    Effect.gen(function*() {
      const run = { times: 0 }
      for (const [name, maxMessageSize] of [["strict", 1024], ["generous", 4096]] as const) {
        yield* TestNetwork.listen(
          name,
          HandlerMap.set(HandlerMap.empty, component, "work", ([size = 0]) => {
            run.times++
            return Effect.succeed(new Uint8Array(size * 100))
          }),
          { shutdownGrace: 0, maxMessageSize }
        )
      }
      const toStrict = yield* connect(["strict"])
      const toGenerous = yield* connect(["generous"], { maxMessageSize: 1024 })
      let asked = 0
      const retry = Schedule.recurs(3).pipe(Schedule.tap(() => Effect.sync(() => asked++)))
      const failed = (connection: Connection.Connection, args: Uint8Array) =>
        Effect.map(Effect.flip(connection.call(again, args, { retry })), (error) => [
          tagOf(error),
          error._tag === "CommunicationError" && error.maybeExecuted
        ])
      assert.deepEqual(yield* failed(toStrict, new Uint8Array(2000)), ["CommunicationError TooLarge", false])
      assert.deepEqual([asked, run.times], [0, 0])
      assert.deepEqual(yield* failed(toStrict, Uint8Array.of(20)), ["CommunicationError TooLarge", true])
      assert.deepEqual(yield* failed(toGenerous, Uint8Array.of(20)), ["CommunicationError TooLarge", true])
      assert.deepEqual([asked, run.times], [0, 2])
    }).pipe(onNetwork))

  it.effect("when its server has broken the protocol, if its method is idempotent", () =>
    Effect.gen(function*() {
      const a = yield* byHand("a")
      const connection = yield* Connection.make(Resolver.constant(a.endpoint))
      const retry = Schedule.recurs(1)
      const calling = yield* fork(connection.call(again, nothing, { retry }))
      const once = yield* fork(Effect.flip(connection.call(work, nothing, { retry })))
      const raw = yield* a.accepted()
      yield* raw.until((bytes) => messagesOf(bytes).length === 3)
      raw.write(message(1, 9))
      const error = yield* Fiber.join(once)
      assert.equal(tagOf(error), "CommunicationError Lost")
      assert.equal(error.message, "the connection was lost: memory://a sent a message of type 9")
      const anew = yield* a.accepted()
      yield* anew.until((bytes) => messagesOf(bytes).length === 2)
      anew.write(message(1, 2, bytesOf("done")))
      assert.equal(textOf(yield* Fiber.join(calling)), "done")
    }).pipe(onNetwork))
})

describe("a call of which one try may have run", () => {
  /**
   * Fails a call with that schedule once it has run, by a server that is gone from then on; what goes on meanwhile is
   * told that.
   */
  const lose = Effect.fnUntraced(function*(
    retry: NonNullable<Connection.CallOptions["retry"]>,
    meanwhile: (connection: Connection.Connection) => Effect.Effect<void>
  ) {
    const server = yield* serve("a")
    const connection = yield* connect(["a"])
    const calling = yield* fork(Effect.flip(connection.call(again, nothing, { retry })))
    yield* until(() => server.runs === 1)
    yield* TestNetwork.fault("a", { cutAfter: { toClient: 0 }, dial: "refuse" })
    yield* settle
    yield* meanwhile(connection)
    return yield* Fiber.join(calling)
  })

  it.effect("does not end as Unreachable, which would promise that none has", () =>
    Effect.gen(function*() {
      const error = yield* lose(Schedule.recurs(2), () => Effect.void)
      assert.equal(tagOf(error), "CommunicationError Lost")
      assert.ok(error._tag === "CommunicationError" && error.maybeExecuted)
    }).pipe(onNetwork))

  it.effect("does not promise that none has where its Connection is closed then", () =>
    Effect.gen(function*() {
      const error = yield* lose(Schedule.spaced("1 hour"), ({ close }) => close)
      assert.equal(tagOf(error), "CommunicationError Closed")
      assert.ok(error._tag === "CommunicationError" && error.maybeExecuted)
    }).pipe(onNetwork))
})

describe("a call of which one try may have run and the next one cannot", () => {
  it.effect("does not promise that none has where the second server refuses its arguments as too large", () =>
    Effect.gen(function*() {
      const server = yield* serve("a")
      yield* TestNetwork.listen("b", HandlerMap.empty, { shutdownGrace: 0, maxMessageSize: 1024 })
      const connection = yield* connect(["a", "b"])
      const calling = yield* fork(
        Effect.flip(connection.call(again, new Uint8Array(2000), { retry: Schedule.recurs(1) }))
      )
      yield* until(() => server.runs === 1)
      yield* TestNetwork.fault("a", { cutAfter: { toClient: 0 }, dial: "refuse" })
      const error = yield* Fiber.join(calling)
      assert.ok(error._tag === "CommunicationError", error.message)
      assert.deepEqual([error.reason._tag, error.maybeExecuted, error.endpoint], ["TooLarge", true, "memory://b"])
    }).pipe(onNetwork))
})

describe("a call with a retry schedule is not made again", () => {
  it.effect("where its shard key is invalid", () =>
    Effect.gen(function*() {
      const connection = yield* connect(["a"])
      let asked = 0
      const retry = Schedule.recurs(3).pipe(Schedule.tap(() => Effect.sync(() => asked++)))
      assert.equal(
        tagOf(yield* Effect.flip(connection.call(work, nothing, { shardKey: -1n, retry }))),
        "Unreachable"
      )
      assert.equal(asked, 0)
    }).pipe(onNetwork))
})

describe("a typed call is made again", () => {
  class Unwell extends Schema.TaggedError<Unwell>()("Unwell", {}) {}
  const Typed = Component.make(
    "test/Typed",
    RpcGroup.make(
      Rpc.make("Get", { success: Schema.String, error: Unwell }).pipe(Component.idempotent),
      Rpc.make("Put", { success: Schema.String, error: Unwell })
    )
  )
  const serveTyped = Effect.gen(function*() {
    const gate = yield* Latch.make(false)
    const state = { runs: 0, gate, failing: false }
    const handler = Effect.suspend(() => {
      state.runs++
      return Effect.andThen(
        gate.await,
        Effect.suspend(() => state.failing ? Effect.fail(new Unwell()) : Effect.succeed("done"))
      )
    })
    const handlers = yield* Component.handlers(
      Typed,
      Typed.group.toLayer({ Get: () => handler, Put: () => handler })
    )
    yield* TestNetwork.listen("a", handlers, { shutdownGrace: 0 })
    const connection = yield* connect(["a"])
    const client = yield* Effect.provide(Component.client(Typed), Layer.succeed(Connection.Connection, connection))
    return { state, client }
  })
  const patiently = Connection.withOptions({ retry: Schedule.recurs(3) })

  it.effect("when it was lost, if its Rpc is annotated as idempotent", () =>
    Effect.gen(function*() {
      const { client, state } = yield* serveTyped
      const calling = yield* fork(patiently(client.Get()))
      yield* until(() => state.runs === 1)
      yield* cut("a")
      yield* until(() => state.runs === 2)
      yield* state.gate.open
      assert.equal(yield* Fiber.join(calling), "done")
    }).pipe(onNetwork))

  it.effect("but not when it was lost, if its Rpc is not", () =>
    Effect.gen(function*() {
      const { client, state } = yield* serveTyped
      const calling = yield* fork(Effect.flip(patiently(client.Put())))
      yield* until(() => state.runs === 1)
      yield* cut("a")
      assert.equal((yield* Fiber.join(calling))._tag, "CommunicationError")
      assert.equal(state.runs, 1)
    }).pipe(onNetwork))

  it.effect("but not for a failure that its method declares", () =>
    Effect.gen(function*() {
      const { client, state } = yield* serveTyped
      state.failing = true
      yield* state.gate.open
      assert.equal((yield* Effect.flip(patiently(client.Get())))._tag, "Unwell")
      assert.equal(state.runs, 1)
    }).pipe(onNetwork))
})
