/**
 * Endpoints that can be connected to and whose calls keep failing: they are ejected for a while, and then tried with
 * single calls.
 */
import { describe, it } from "@effect/vitest"
import { Effect, Fiber } from "effect"
import { Balancer, type CallError, Connection, Endpoint, Resolver } from "effect-call"
import { TestNetwork } from "effect-call/testing"
import { TestClock } from "effect/testing"
import * as assert from "node:assert/strict"
import { byHand } from "../support/byHand.ts"
import { makeLog } from "../support/log.ts"
import { message, versionWith } from "../support/raw.ts"
import { served, sleep } from "./metricsSupport.ts"
import { ask, askSlowly, connectToListed, elapse, settle, startInMemory, untilState } from "./support.ts"

const nothing = new Uint8Array()

const onNetwork = Effect.provide(TestNetwork.layer)

const startAll = (...names: ReadonlyArray<string>) => Effect.forEach(names, startInMemory)

const connectTo = (replicas: Effect.Success<ReturnType<typeof startAll>>, options?: Connection.ClientOptions) =>
  Connection.make(Resolver.constant(...replicas.map(({ endpoint }) => endpoint)), options)

/** Makes so many calls, one after the other, each with a second; gives who has answered, or "-". */
const askTimes = Effect.fnUntraced(function*(connection: Connection.Connection, times: number) {
  const answers: Array<string> = []
  for (let i = 0; i < times; i++) {
    const asking = yield* Effect.forkChild(
      ask(connection, { timeout: "1 second" }).pipe(Effect.orElseSucceed(() => "-")),
      { startImmediately: true }
    )
    yield* elapse(asking, 1000)
    answers.push(yield* Fiber.join(asking))
  }
  return answers
})

const ejected = (connection: Connection.Connection) =>
  Effect.map(
    connection.state,
    ({ endpoints }) => endpoints.filter(({ isEjected }) => isEjected).map(({ address }) => address)
  )

/** Calls until the endpoint, which answers nothing any more, is ejected. */
const ejectA = Effect.fnUntraced(function*(connection: Connection.Connection) {
  // Connected to: an endpoint that cannot be is another matter.
  yield* askTimes(connection, 2)
  yield* TestNetwork.fault("a", { blackHole: "toClient" })
  const answers = yield* askTimes(connection, 10)
  assert.equal(answers.filter((answer) => answer === "-").length, 5)
  assert.deepEqual(yield* ejected(connection), ["memory://a"])
})

describe("an endpoint whose calls keep failing", () => {
  it.effect("is ejected after five calls in a row that were not answered in time", () =>
    Effect.gen(function*() {
      const connection = yield* connectTo(yield* startAll("a", "b"))
      yield* askTimes(connection, 2)
      yield* TestNetwork.fault("a", { blackHole: "toClient" })
      assert.deepEqual(yield* askTimes(connection, 8), ["-", "b", "-", "b", "-", "b", "-", "b"])
      assert.deepEqual(yield* ejected(connection), [])
      assert.deepEqual(yield* askTimes(connection, 6), ["-", "b", "b", "b", "b", "b"])
      assert.deepEqual(yield* ejected(connection), ["memory://a"])
    }).pipe(onNetwork))

  it.effect("is ejected after its connections were lost so often under calls", () =>
    Effect.gen(function*() {
      const connection = yield* connectTo(yield* startAll("a", "b"), { outlierEjection: { failures: 3 } })
      // It connects, and breaks with the answer.
      yield* TestNetwork.fault("a", { cutAfter: { toClient: 24 } })
      const errors: Array<CallError.CallError> = []
      for (let i = 0; i < 12; i++) {
        yield* Effect.catch(ask(connection), (error) => Effect.sync(() => errors.push(error)))
      }
      assert.deepEqual(errors.map((error) => error._tag === "CommunicationError" && error.reason._tag), [
        "Lost",
        "Lost",
        "Lost"
      ])
      assert.deepEqual(yield* ejected(connection), ["memory://a"])
    }).pipe(onNetwork))

  it.effect("counts calls that are lost together as one", () =>
    Effect.gen(function*() {
      const connection = yield* connectTo(yield* startAll("a", "b"), { outlierEjection: { failures: 2 } })
      yield* askTimes(connection, 2)
      yield* TestNetwork.fault("a", { blackHole: "toClient" })
      const calls = yield* Effect.forEach(Array.from({ length: 20 }), () =>
        Effect.forkChild(Effect.exit(ask(connection))))
      yield* settle
      yield* TestNetwork.fault("a", { cutAfter: { toClient: 0 }, dial: "hang" })
      yield* Effect.forEach(calls, (call) =>
        Fiber.join(call))
      assert.deepEqual(yield* ejected(connection), [])
    }).pipe(onNetwork))

  it.effect("is not ejected where an answer comes between its failures", () =>
    Effect.gen(function*() {
      const connection = yield* connectTo(yield* startAll("a", "b"), { outlierEjection: { failures: 2 } })
      for (let round = 0; round < 5; round++) {
        yield* TestNetwork.fault("a", { blackHole: "toClient" })
        yield* askTimes(connection, 2)
        yield* TestNetwork.heal("a")
        assert.ok((yield* askTimes(connection, 2)).includes("a"))
      }
      assert.deepEqual(yield* ejected(connection), [])
    }).pipe(onNetwork))

  it.effect("is not ejected where an answer comes between its failures, while its connection drains", () =>
    Effect.gen(function*() {
      yield* TestNetwork.listen("a", served)
      const a = yield* TestNetwork.endpoint("a")
      // It is used only where the other one cannot be.
      const b = Endpoint.withAttributes(yield* TestNetwork.endpoint("b"), { priority: 1 })
      const { connection, list } = yield* connectToListed([{ endpoint: a }], { outlierEjection: { failures: 2 } })
      const sleeping = (millis: number, options?: Connection.CallOptions) =>
        Effect.forkChild(Effect.exit(connection.call(sleep, new Uint8Array(millis), options)), {
          startImmediately: true
        })
      const failOnce = Effect.flatMap(sleeping(20_000, { timeout: "1 second" }), (call) => elapse(call, 100))
      const answered = yield* sleeping(3000)
      // It keeps the connection open.
      yield* sleeping(30_000)
      yield* settle
      yield* failOnce
      yield* list({ endpoint: b })
      yield* elapse(answered, 100)
      yield* list({ endpoint: a }, { endpoint: b })
      yield* failOnce
      assert.deepEqual(yield* ejected(connection), [])
      yield* failOnce
      assert.deepEqual(yield* ejected(connection), ["memory://a"])
    }).pipe(onNetwork))

  it.effect("is not ejected where an answer comes between its failures, from a server that goes away", () =>
    Effect.gen(function*() {
      const a = yield* byHand("a")
      const b = Endpoint.withAttributes(yield* TestNetwork.endpoint("b"), { priority: 1 })
      const connection = yield* Connection.make(Resolver.constant(a.endpoint, b), { outlierEjection: { failures: 2 } })
      const fork = (options?: Connection.CallOptions) =>
        Effect.forkChild(Effect.exit(ask(connection, options)), { startImmediately: true })
      const failOnce = Effect.flatMap(fork({ timeout: "1 second" }), (call) => elapse(call, 100))
      const accepting = yield* Effect.forkChild(a.accepted(), { startImmediately: true })
      const answered = yield* fork()
      const old = yield* Fiber.join(accepting)
      // It keeps the connection open.
      yield* fork()
      yield* settle
      yield* failOnce
      old.write(versionWith(2))
      yield* settle
      old.write(message(1, 2))
      yield* Fiber.join(answered)
      yield* Effect.forkChild(a.accepted(), { startImmediately: true })
      yield* failOnce
      assert.deepEqual(yield* ejected(connection), [])
      // This answer is of the old server, and says nothing of the new one.
      old.write(message(2, 2))
      yield* failOnce
      assert.deepEqual(yield* ejected(connection), ["memory://a"])
    }).pipe(Effect.scoped, onNetwork))

  it.effect("is not ejected where an answer comes between its failures, even an answer that is wrong", () =>
    Effect.gen(function*() {
      const bad = [message(2, 2, new Uint8Array(2000)), message(2, 3, new Uint8Array(2000)), message(2, 3, nothing)]
      for (const answer of bad) {
        yield* Effect.gen(function*() {
          const a = yield* byHand("a")
          const b = yield* startInMemory("b")
          const connection = yield* Connection.make(Resolver.constant(a.endpoint, b.endpoint), {
            maxMessageSize: 1024,
            outlierEjection: { failures: 2 }
          })
          const failed = Effect.fnUntraced(function*(during: Effect.Effect<void> = Effect.void) {
            const asking = yield* Effect.forkChild(
              Effect.flip(ask(connection, { timeout: "1 second", balancer: first })),
              { startImmediately: true }
            )
            yield* settle
            yield* during
            yield* elapse(asking, 1000)
            const error = yield* Fiber.join(asking)
            return error._tag === "CommunicationError" ? error.reason._tag : error._tag
          })
          const first = yield* Balancer.make(([first]) => Effect.succeed(first!))
          const accepting = yield* Effect.forkChild(a.accepted(), { startImmediately: true })
          assert.equal(yield* failed(), "DeadlineExceeded")
          const raw = yield* Fiber.join(accepting)
          const wrong = yield* failed(Effect.sync(() => raw.write(answer)))
          assert.ok(wrong === "TooLarge" || wrong === "Protocol", wrong)
          assert.equal(yield* failed(), "DeadlineExceeded")
          assert.deepEqual(yield* ejected(connection), [])
          assert.equal(yield* failed(), "DeadlineExceeded")
          assert.deepEqual(yield* ejected(connection), ["memory://a"])
        }).pipe(Effect.scoped, onNetwork)
      }
    }))

  it.effect("gets a single call after its time, and is used again when that is answered", () =>
    Effect.gen(function*() {
      const connection = yield* connectTo(yield* startAll("a", "b"))
      yield* ejectA(connection)
      yield* TestNetwork.heal("a")
      yield* TestClock.adjust("4 seconds")
      assert.deepEqual(yield* askTimes(connection, 4), ["b", "b", "b", "b"])
      yield* TestClock.adjust("1 second")
      assert.deepEqual((yield* askTimes(connection, 4)).sort(), ["a", "a", "b", "b"])
      assert.deepEqual(yield* ejected(connection), [])
    }).pipe(onNetwork))

  it.effect("gets no second call while the single one waits for its answer, and twice the time if that fails", () =>
    Effect.gen(function*() {
      const connection = yield* connectTo(yield* startAll("a", "b"))
      yield* ejectA(connection)
      yield* TestClock.adjust("5 seconds")
      const calls = yield* Effect.forEach(
        Array.from({ length: 10 }),
        () => Effect.forkChild(ask(connection, { timeout: "1 second" }).pipe(Effect.orElseSucceed(() => "-")))
      )
      yield* settle
      yield* TestClock.adjust("1 second")
      const answers = yield* Effect.forEach(calls, (call) => Fiber.join(call))
      assert.deepEqual(answers.filter((answer) => answer === "-"), ["-"])
      yield* TestNetwork.heal("a")
      yield* TestClock.adjust(9_999)
      assert.deepEqual(yield* askTimes(connection, 4), ["b", "b", "b", "b"])
      yield* TestClock.adjust(1)
      assert.ok((yield* askTimes(connection, 2)).includes("a"))
    }).pipe(onNetwork))

  it.effect("gets no second call also where the single one has to dial it", () =>
    Effect.gen(function*() {
      const connection = yield* connectTo(yield* startAll("a", "b"), { outlierEjection: { failures: 3 } })
      // It connects, and breaks with the answer.
      yield* TestNetwork.fault("a", { cutAfter: { toClient: 30 } })
      yield* askTimes(connection, 12)
      assert.deepEqual(yield* ejected(connection), ["memory://a"])
      yield* TestClock.adjust("5 seconds")
      const answers = Effect.gen(function*() {
        const calls = yield* Effect.forEach(
          Array.from({ length: 10 }),
          () => Effect.forkChild(ask(connection).pipe(Effect.orElseSucceed(() => "-")))
        )
        return yield* Effect.forEach(calls, (call) => Fiber.join(call))
      })
      // None waits for it.
      assert.deepEqual(yield* answers, Array.from({ length: 10 }, () => "b"))
      yield* settle
      assert.deepEqual((yield* answers).filter((answer) => answer === "-"), ["-"])
    }).pipe(onNetwork))

  it.effect("is ejected for no longer than the longest time", () =>
    Effect.gen(function*() {
      const connection = yield* connectTo(yield* startAll("a", "b"), {
        outlierEjection: { duration: "5 seconds", maxDuration: "8 seconds" }
      })
      yield* ejectA(connection)
      for (const seconds of [5, 8, 8]) {
        yield* TestClock.adjust((seconds - 1) * 1000)
        assert.deepEqual(yield* askTimes(connection, 2), ["b", "b"])
        yield* TestClock.adjust(1000)
        assert.ok((yield* askTimes(connection, 2)).includes("-"))
      }
    }).pipe(onNetwork))

  it.effect("is not ejected where more than half of the endpoints would then be", () =>
    Effect.gen(function*() {
      const connection = yield* connectTo(yield* startAll("a", "b", "c", "d", "e"), {
        outlierEjection: { failures: 1 }
      })
      yield* askTimes(connection, 5)
      for (const name of ["a", "b", "c", "d"]) yield* TestNetwork.fault(name, { blackHole: "toClient" })
      // All at once: one at a time the first would have had its time by then.
      const calls = yield* Effect.forEach(
        Array.from({ length: 5 }),
        () => Effect.forkChild(Effect.exit(ask(connection, { timeout: "1 second" })))
      )
      yield* settle
      yield* TestClock.adjust("1 second")
      yield* Effect.forEach(calls, (call) => Fiber.join(call))
      assert.equal((yield* ejected(connection)).length, 2)
    }).pipe(onNetwork))

  it.effect("is called anyway where it is the only one", () =>
    Effect.gen(function*() {
      const connection = yield* connectTo(yield* startAll("a"), { outlierEjection: { failures: 1 } })
      yield* askTimes(connection, 1)
      yield* TestNetwork.fault("a", { blackHole: "toClient" })
      assert.deepEqual(yield* askTimes(connection, 3), ["-", "-", "-"])
      assert.deepEqual(yield* ejected(connection), [])
      yield* TestNetwork.heal("a")
      assert.deepEqual(yield* askTimes(connection, 1), ["a"])
    }).pipe(onNetwork))

  it.effect("is called anyway where no other can be reached", () =>
    Effect.gen(function*() {
      const [a, b] = yield* startAll("a", "b")
      const connection = yield* connectTo([a!, b!])
      yield* ejectA(connection)
      yield* TestNetwork.heal("a")
      yield* b!.stop
      assert.deepEqual(yield* askTimes(connection, 2), ["a", "a"])
    }).pipe(onNetwork))

  it.effect("is used again where so few are listed that it would be more than half of them", () =>
    Effect.gen(function*() {
      const [a, b] = yield* startAll("a", "b")
      const { connection, list } = yield* connectToListed([a!, b!])
      yield* ejectA(connection)
      yield* list(a!)
      assert.deepEqual(yield* ejected(connection), [])
      yield* TestNetwork.heal("a")
      assert.deepEqual(yield* askTimes(connection, 1), ["a"])
    }).pipe(onNetwork))

  it.effect("is forgotten when it is listed no longer", () =>
    Effect.gen(function*() {
      const [a, b] = yield* startAll("a", "b")
      const { connection, list } = yield* connectToListed([a!, b!])
      yield* ejectA(connection)
      yield* TestNetwork.heal("a")
      yield* list(b!)
      yield* untilState(connection, ({ endpoints }) => endpoints.length === 1)
      yield* list(a!, b!)
      assert.deepEqual(yield* ejected(connection), [])
    }).pipe(onNetwork))

  it.effect("does not count among the half when it is listed no longer, though it has calls", () =>
    Effect.gen(function*() {
      const [a, b, c, d] = yield* startAll("a", "b", "c", "d")
      const { connection, list } = yield* connectToListed([a!, b!, c!, d!], { outlierEjection: { failures: 1 } })
      const calls = yield* Effect.forEach(
        ["2 seconds", "1 second", "1 hour", "1 hour", "1 hour"] as const,
        (timeout) => Effect.forkChild(Effect.exit(askSlowly(connection, { timeout })))
      )
      yield* settle
      yield* TestClock.adjust("2 seconds")
      assert.deepEqual(yield* ejected(connection), ["memory://a", "memory://b"])
      yield* list(b!, c!, d!)
      assert.deepEqual(yield* ejected(connection), ["memory://b"])
      yield* Fiber.interruptAll(calls)
    }).pipe(onNetwork))

  it.effect("is not ejected for failures before it was listed again, where it has answered since", () =>
    Effect.gen(function*() {
      const [a, b] = yield* startAll("a", "b")
      const { connection, list } = yield* connectToListed([a!, b!], { outlierEjection: { failures: 2 } })
      yield* askTimes(connection, 2)
      const calls = yield* Effect.forEach(
        ["1 second", "1 second", "1 minute", "1 minute"] as const,
        (timeout) => Effect.forkChild(Effect.exit(askSlowly(connection, { timeout })))
      )
      yield* settle
      yield* list(b!)
      yield* TestClock.adjust("1 second")
      yield* list(a!, b!)
      assert.ok((yield* askTimes(connection, 2)).includes("a"))
      yield* TestNetwork.fault("a", { blackHole: "toClient" })
      assert.ok((yield* askTimes(connection, 2)).includes("-"))
      assert.deepEqual(yield* ejected(connection), [])
      yield* Fiber.interruptAll(calls)
    }).pipe(onNetwork))

  it.effect("is not ejected where that is turned off", () =>
    Effect.gen(function*() {
      const connection = yield* connectTo(yield* startAll("a", "b"), { outlierEjection: false })
      yield* askTimes(connection, 2)
      yield* TestNetwork.fault("a", { blackHole: "toClient" })
      const answers = yield* askTimes(connection, 20)
      assert.equal(answers.filter((answer) => answer === "-").length, 10)
    }).pipe(onNetwork))

  it.effect("is warned of once, and said to be used again", () => {
    const log = makeLog()
    return Effect.gen(function*() {
      const connection = yield* connectTo(yield* startAll("a", "b"))
      yield* ejectA(connection)
      yield* TestClock.adjust("5 seconds")
      yield* askTimes(connection, 2)
      yield* TestNetwork.heal("a")
      yield* TestClock.adjust("10 seconds")
      yield* askTimes(connection, 2)
      assert.deepEqual(
        log.lines.filter(({ level }) => level === "Warn").map(({ annotations, message }) => [message, annotations]),
        [["an endpoint is ejected", { endpoint: "memory://a", reason: "5 of its calls in a row have failed" }]]
      )
    }).pipe(Effect.provide(log.layer), onNetwork)
  })
})

describe("a sharded endpoint whose calls keep failing", () => {
  const shards = Effect.fnUntraced(function*(connection: Connection.Connection) {
    const tags: Array<string> = []
    for (let i = 0; i < 7; i++) {
      const asking = yield* Effect.forkChild(
        ask(connection, { shardKey: 0n, timeout: "1 second" }).pipe(
          Effect.match({ onFailure: ({ _tag }) => _tag as string, onSuccess: (name) => name })
        ),
        { startImmediately: true }
      )
      yield* elapse(asking, 1000)
      tags.push(yield* Fiber.join(asking))
    }
    return tags
  })

  it.effect("is called anyway, since its keys have no other", () =>
    Effect.gen(function*() {
      const connection = yield* connectTo(yield* startAll("a", "b"), { balancer: Balancer.sharded })
      assert.equal(yield* ask(connection, { shardKey: 0n }), "a")
      yield* TestNetwork.fault("a", { blackHole: "toClient" })
      assert.deepEqual(yield* shards(connection), Array.from({ length: 7 }, () => "DeadlineExceeded"))
      yield* TestNetwork.heal("a")
      assert.equal(yield* ask(connection, { shardKey: 0n }), "a")
    }).pipe(onNetwork))

  it.effect("is not reported as ejected either", () => {
    const log = makeLog()
    return Effect.gen(function*() {
      const connection = yield* connectTo(yield* startAll("a", "b"), { balancer: Balancer.sharded })
      assert.equal(yield* ask(connection, { shardKey: 0n }), "a")
      yield* TestNetwork.fault("a", { blackHole: "toClient" })
      yield* shards(connection)
      assert.deepEqual(yield* ejected(connection), [])
      assert.deepEqual(log.lines, [])
    }).pipe(Effect.provide(log.layer), onNetwork)
  })

  it.effect("is ejected where the options ask for it: its calls fail at once", () =>
    Effect.gen(function*() {
      const connection = yield* connectTo(yield* startAll("a", "b"), {
        balancer: Balancer.sharded,
        outlierEjection: {}
      })
      assert.equal(yield* ask(connection, { shardKey: 0n }), "a")
      yield* TestNetwork.fault("a", { blackHole: "toClient" })
      assert.deepEqual(yield* shards(connection), [
        ...Array.from({ length: 5 }, () => "DeadlineExceeded"),
        "Unreachable",
        "Unreachable"
      ])
    }).pipe(onNetwork))

  it.effect("gets a call that waits for it when its time is up, or when it has answered another", () =>
    Effect.gen(function*() {
      const connection = yield* connectTo(yield* startAll("a", "b"), {
        balancer: Balancer.sharded,
        outlierEjection: {}
      })
      assert.equal(yield* ask(connection, { shardKey: 0n }), "a")
      yield* TestNetwork.fault("a", { blackHole: "toClient" })
      yield* shards(connection)
      yield* TestNetwork.heal("a")
      const waiting = yield* Effect.forEach(
        [1, 2],
        () => Effect.forkChild(ask(connection, { shardKey: 0n, waitForReady: true }), { startImmediately: true })
      )
      yield* settle
      assert.deepEqual(waiting.map((fiber) => fiber.pollUnsafe()), [undefined, undefined])
      assert.equal(yield* elapse(waiting[0]!, 100), 5000)
      yield* settle
      assert.notEqual(waiting[1]!.pollUnsafe(), undefined)
    }).pipe(onNetwork))
})
