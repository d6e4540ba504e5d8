/**
 * How long a client waits for a message that has begun to arrive.
 */
import { describe, it } from "@effect/vitest"
import { Effect, Fiber } from "effect"
import { type CallError, type Connection, MethodKey } from "effect-call"
import { TestNetwork } from "effect-call/testing"
import { TestClock } from "effect/testing"
import * as assert from "node:assert/strict"
import { byHand } from "../support/byHand.ts"
import { makeLog } from "../support/log.ts"
import { bytesOf, component, connect, eachNetwork, handlers, textOf } from "../support/networks.ts"
import { message, messagesOf, rawAccepted, version, versionWith } from "../support/raw.ts"
import { ask, settle, startInMemory } from "./support.ts"

const get = MethodKey.make(component, "get")
const nothing = new Uint8Array()

const onNetwork = Effect.provide(TestNetwork.layer)
const fork = <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.forkChild(effect, { startImmediately: true })

const isLost = (error: CallError.CallError, endpoint: string, time: string) => {
  assert.ok(error._tag === "CommunicationError", error.message)
  assert.deepEqual([error.reason._tag, error.maybeExecuted, error.message], [
    "Lost",
    true,
    `the connection was lost: ${endpoint} sent a message that was not whole after ${time}`
  ])
}

/** A client with a call in flight to a server by hand. */
const calling = Effect.fnUntraced(function*(options?: Connection.ClientOptions) {
  const a = yield* byHand("a")
  const connection = yield* connect([a.endpoint], options)
  const call = yield* fork(connection.call(get, nothing))
  const raw = yield* a.accepted()
  yield* raw.until((bytes) => messagesOf(bytes).length === 2)
  return { a, raw, connection, call }
})

describe("an answer that arrives slowly", () => {
  it.effect("costs the connection when a minute has passed since it began, and the next call dials again", () =>
    Effect.gen(function*() {
      const log = makeLog()
      yield* Effect.gen(function*() {
        const { a, call, connection, raw } = yield* calling()
        yield* TestClock.adjust("1 hour")
        raw.write(message(1, 2, bytesOf("hello")).subarray(0, -1))
        yield* settle
        yield* TestClock.adjust(59_999)
        yield* settle
        assert.equal(call.pollUnsafe(), undefined)
        yield* TestClock.adjust(1)
        isLost(yield* Effect.flip(Fiber.join(call)), "memory://a", "1m")
        yield* raw.closed
        const again = yield* fork(connection.call(get, nothing))
        const anew = yield* a.accepted()
        anew.write(message(1, 2, bytesOf("hello")))
        assert.equal(textOf(yield* Fiber.join(again)), "hello")
      }).pipe(Effect.provide(log.layer))
      assert.deepEqual(log.lines.map(({ level, message }) => [level, message]), [["Warn", "a connection was lost"]])
    }).pipe(onNetwork))

  it.effect("costs it after the time in the options, even if some of its bytes come in between", () =>
    Effect.gen(function*() {
      const { call, raw } = yield* calling({ messageTimeout: "10 seconds" })
      const answer = message(1, 2, bytesOf("hello"))
      for (let i = 0; i < 10; i++) {
        assert.equal(call.pollUnsafe(), undefined)
        raw.write(answer.subarray(i, i + 1))
        yield* settle
        yield* TestClock.adjust(1000)
      }
      isLost(yield* Effect.flip(Fiber.join(call)), "memory://a", "10s")
    }).pipe(onNetwork))

  it.effect("costs it also where it is too large: its own call has its end by then, and the others are lost", () =>
    Effect.gen(function*() {
      const { call, connection, raw } = yield* calling({ maxMessageSize: 1024 })
      const concurrent = yield* fork(connection.call(get, nothing))
      const answer = message(1, 2, new Uint8Array(60_000))
      raw.write(answer.subarray(0, 1000))
      const error = yield* Effect.flip(Fiber.join(call))
      assert.ok(error._tag === "CommunicationError" && error.reason._tag === "TooLarge", error.message)
      for (let i = 1; i < 60; i++) {
        yield* settle
        yield* TestClock.adjust(1000)
        raw.write(answer.subarray(i * 1000, (i + 1) * 1000))
      }
      yield* settle
      assert.equal(concurrent.pollUnsafe(), undefined)
      yield* TestClock.adjust(1000)
      isLost(yield* Effect.flip(Fiber.join(concurrent)), "memory://a", "1m")
    }).pipe(onNetwork))

  it.effect("costs nothing where it is whole just in time, and the next one has as long again", () =>
    Effect.gen(function*() {
      const { call, connection, raw } = yield* calling()
      let next = call
      for (let id = 1; id <= 5; id++) {
        const answer = message(id, 2, bytesOf(`answer ${id}`))
        raw.write(answer.subarray(0, 1))
        yield* settle
        yield* TestClock.adjust(59_999)
        raw.write(answer.subarray(1))
        assert.equal(textOf(yield* Fiber.join(next)), `answer ${id}`)
        next = yield* fork(connection.call(get, nothing))
        yield* raw.until((bytes) => messagesOf(bytes).length === id + 2)
      }
      // Nothing is due any more.
      yield* TestClock.adjust("1 hour")
      yield* settle
      assert.deepEqual([next.pollUnsafe(), raw.socket.closed], [undefined, false])
      yield* Fiber.interrupt(next)
    }).pipe(onNetwork))

  it.effect("costs nothing where there always is one, and each becomes whole", () =>
    Effect.gen(function*() {
      const { call, connection, raw } = yield* calling()
      const others = yield* Effect.replicateEffect(fork(connection.call(get, nothing)), 99)
      yield* raw.until((bytes) => messagesOf(bytes).length === 101)
      const answers = Buffer.concat(Array.from({ length: 100 }, (_, i) => message(i + 1, 2, bytesOf("hello"))))
      // No piece of it ends where a message does.
      const size = message(1, 2, bytesOf("hello")).length
      raw.write(answers.subarray(0, 1))
      for (let at = 1; at < answers.length; at += size) {
        yield* settle
        yield* TestClock.adjust("30 seconds")
        raw.write(answers.subarray(at, at + size))
      }
      for (const each of [call, ...others]) assert.equal(textOf(yield* Fiber.join(each)), "hello")
    }).pipe(onNetwork))
})

describe("a version message that arrives slowly", () => {
  it.effect("is a failed dial: the call goes elsewhere", () =>
    Effect.gen(function*() {
      const a = yield* byHand("a")
      const b = yield* startInMemory("b")
      const connection = yield* connect([a.endpoint, b.endpoint], { messageTimeout: "2 seconds" })
      const asking = yield* fork(Effect.replicateEffect(ask(connection), 2))
      const raw = yield* a.accepted(version.subarray(0, 10))
      yield* settle
      yield* TestClock.adjust(1999)
      yield* settle
      assert.equal(asking.pollUnsafe(), undefined)
      yield* TestClock.adjust(1)
      assert.deepEqual(yield* Fiber.join(asking), ["b", "b"])
      yield* raw.closed
    }).pipe(onNetwork))
})

describe("over real sockets", () => {
  eachNetwork((network) => {
    it.live("a server that does not go on with an answer is given up", () =>
      Effect.gen(function*() {
        const { endpoint, listener } = yield* network.listen(handlers)
        const connection = yield* connect([endpoint], { messageTimeout: 40 })
        const call = yield* fork(Effect.flip(connection.call(get, nothing)))
        const raw = yield* rawAccepted(listener)
        raw.write(versionWith(0))
        yield* raw.until((bytes) => messagesOf(bytes).length === 2)
        raw.write(message(1, 2, bytesOf("hello")).subarray(0, 18))
        isLost(yield* Fiber.join(call), endpoint.address, "40ms")
        yield* raw.closed
      }).pipe(Effect.scoped))
  })
})
