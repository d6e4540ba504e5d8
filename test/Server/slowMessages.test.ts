/**
 * How long a server waits for what a client has to say: for its first message, and for each that has begun to arrive.
 */
import { describe, it } from "@effect/vitest"
import { Effect, Latch } from "effect"
import { HandlerMap, MethodKey, type Server } from "effect-call"
import { TestClock } from "effect/testing"
import * as assert from "node:assert/strict"
import { settle } from "../Connection/support.ts"
import { makeLog } from "../support/log.ts"
import { bytesOf, component, connect, eachNetwork, echo, handlers, hang, memory } from "../support/networks.ts"
import { cancel, message, messagesOf, type Raw, rawClient, receives, request, version } from "../support/raw.ts"

const answer = (id: number, bytes: Uint8Array) => message(id, 2, bytes)
const isOpen = ({ socket }: Raw) => !socket.readableEnded && !socket.closed

/** A server in memory, a client that has said nothing yet, and the warnings. */
const serving = Effect.fnUntraced(
  function*(options?: Server.ServerOptions, served: HandlerMap.HandlerMap<never> = handlers) {
    const log = makeLog()
    const { endpoint } = yield* Effect.provide(memory.serve(served, options), log.layer)
    const raw = yield* rawClient(endpoint)
    yield* settle
    /** At exactly this time from now the connection is closed, and the log says why. */
    const closedAfter = Effect.fnUntraced(function*(millis: number, why: string) {
      yield* settle
      yield* TestClock.adjust(millis - 1)
      yield* settle
      assert.deepEqual([isOpen(raw), log.lines.length], [true, 0])
      yield* TestClock.adjust(1)
      yield* raw.closed
      assert.deepEqual(log.lines.map(({ level, message }) => [level, message]), [
        ["Warn", `a connection was closed: its peer sent ${why}`]
      ])
    })
    return { endpoint, raw, log, closedAfter }
  }
)

describe("a client that says nothing", () => {
  it.effect("has its connection closed after 10 seconds", () =>
    Effect.gen(function*() {
      const { closedAfter, raw } = yield* serving()
      yield* closedAfter(10_000, "no message within 10s")
      assert.equal(raw.received().length, 0)
    }).pipe(Effect.scoped))

  it.effect("has it closed after the time in the server's options", () =>
    Effect.gen(function*() {
      const { closedAfter } = yield* serving({ firstMessageTimeout: "1 minute" })
      yield* closedAfter(60_000, "no message within 1m")
    }).pipe(Effect.scoped))

  it.effect("has said something only with a whole message", () =>
    Effect.gen(function*() {
      const { closedAfter, raw } = yield* serving()
      for (let i = 0; i < 9; i++) {
        raw.write(version.subarray(i, i + 1))
        yield* TestClock.adjust(1000)
        yield* settle
      }
      yield* closedAfter(1000, "no message within 10s")
    }).pipe(Effect.scoped))

  it.effect("may send nothing more after its first message, of any kind", () =>
    Effect.gen(function*() {
      for (const first of [version, request(1, echo, bytesOf("hello")), cancel(7)]) {
        yield* Effect.gen(function*() {
          const { log, raw } = yield* serving()
          yield* TestClock.adjust(9999)
          raw.write(first)
          yield* settle
          yield* TestClock.adjust("10 hours")
          yield* settle
          assert.deepEqual([isOpen(raw), log.lines], [true, []])
        }).pipe(Effect.scoped)
      }
    }))
})

describe("a message that arrives slowly", () => {
  it.effect("costs the connection when a minute has passed since it began", () =>
    Effect.gen(function*() {
      const { closedAfter, raw } = yield* serving()
      raw.write(version)
      yield* TestClock.adjust("1 hour")
      raw.write(request(1, echo, bytesOf("hello")).subarray(0, 40))
      yield* closedAfter(60_000, "a message that was not whole after 1m")
      yield* receives(raw, version)
    }).pipe(Effect.scoped))

  it.effect("closes its connection after the time in the server's options, and no other connection", () =>
    Effect.gen(function*() {
      const { closedAfter, endpoint, raw } = yield* serving({ messageTimeout: "3 seconds" })
      const other = yield* rawClient(endpoint)
      other.write(Buffer.concat([version, request(1, echo, bytesOf("one"))]))
      yield* receives(other, version, answer(1, bytesOf("one")))
      raw.write(Buffer.concat([version, request(1, echo, bytesOf("hello")).subarray(0, 1)]))
      yield* closedAfter(3000, "a message that was not whole after 3s")
      other.write(request(2, echo, bytesOf("two")))
      yield* receives(other, version, answer(1, bytesOf("one")), answer(2, bytesOf("two")))
    }).pipe(Effect.scoped))

  it.effect("costs it also where it is too large, and is only skipped", () =>
    Effect.gen(function*() {
      const { closedAfter, raw } = yield* serving({ maxMessageSize: 1024 })
      const skipped = request(1, echo, new Uint8Array(60_000))
      raw.write(Buffer.concat([version, skipped.subarray(0, 1000)]))
      for (let i = 1; i < 60; i++) {
        yield* settle
        yield* TestClock.adjust(1000)
        raw.write(skipped.subarray(i * 1000, (i + 1) * 1000))
      }
      yield* closedAfter(1000, "a message that was not whole after 1m")
    }).pipe(Effect.scoped))

  it.effect("costs nothing where it is too large, and skipped in time, and the next one has as long again", () =>
    Effect.gen(function*() {
      const { log, raw } = yield* serving({ maxMessageSize: 1024 })
      const bytes = Buffer.concat([request(1, echo, new Uint8Array(2000)), request(2, echo, bytesOf("hello"))])
      const until = bytes.length - 3
      raw.write(bytes.subarray(0, 16))
      yield* settle
      yield* TestClock.adjust(59_999)
      raw.write(bytes.subarray(16, until))
      yield* settle
      yield* TestClock.adjust(59_999)
      raw.write(bytes.subarray(until))
      const messages = yield* raw.until((received) => messagesOf(received).length === 2)
      assert.deepEqual(messagesOf(messages).map(({ id, type }) => [id, type]), [[1, 3], [2, 2]])
      assert.deepEqual([isOpen(raw), log.lines], [true, []])
    }).pipe(Effect.scoped))

  it.effect("costs it also where its bytes come one at a time", () =>
    Effect.gen(function*() {
      const { closedAfter, raw } = yield* serving()
      raw.write(version)
      const bytes = request(1, echo, bytesOf("hello"))
      for (let i = 0; i < 59; i++) {
        raw.write(bytes.subarray(i, i + 1))
        yield* settle
        yield* TestClock.adjust(1000)
      }
      yield* closedAfter(1000, "a message that was not whole after 1m")
    }).pipe(Effect.scoped))

  it.effect("costs nothing where it is whole just in time, and the next one has as long again", () =>
    Effect.gen(function*() {
      const { log, raw } = yield* serving()
      raw.write(version)
      const answers: Array<Buffer> = []
      for (let id = 1; id <= 5; id++) {
        const bytes = request(id, echo, bytesOf("hello"))
        raw.write(bytes.subarray(0, 5))
        yield* settle
        yield* TestClock.adjust(59_999)
        raw.write(bytes.subarray(5))
        answers.push(answer(id, bytesOf("hello")))
        yield* receives(raw, version, ...answers)
      }
      assert.deepEqual(log.lines, [])
    }).pipe(Effect.scoped))

  it.effect("costs nothing where there always is one, and each becomes whole", () =>
    Effect.gen(function*() {
      const { log, raw } = yield* serving()
      const ids = Array.from({ length: 100 }, (_, i) => i + 1)
      const requests = Buffer.concat([version, ...ids.map((id) => request(id, echo, bytesOf("hello")))])
      // As a stream of large messages comes: no piece of it ends where a message does.
      const size = request(1, echo, bytesOf("hello")).length
      for (let at = 0; at < requests.length; at += size) {
        raw.write(requests.subarray(at, at + size))
        yield* settle
        yield* TestClock.adjust("30 seconds")
      }
      yield* receives(raw, version, ...ids.map((id) => answer(id, bytesOf("hello"))))
      assert.deepEqual(log.lines, [])
    }).pipe(Effect.scoped))

  it.effect("costs it also while the server waits for the end of its calls", () =>
    Effect.gen(function*() {
      const { closedAfter, raw } = yield* serving()
      raw.write(Buffer.concat([version, request(1, hang, bytesOf("hello")), version.subarray(0, 19)]))
      yield* closedAfter(60_000, "a message that was not whole after 1m")
    }).pipe(Effect.scoped))
})

describe("a message that the server itself stops reading, because its answers are not read", () => {
  /** Answers with a megabyte, when it is time. */
  const large = MethodKey.make(component, "large")
  const two = request(2, echo, bytesOf("two"))

  /** A client that reads nothing, is about to get a large answer, and has begun its next request. */
  const notReading = Effect.gen(function*() {
    const gate = yield* Latch.make(false)
    const result = new Uint8Array(1_000_000).fill(7)
    const served = yield* serving(
      { maxUnsentBytes: 1000, unsentTimeout: Infinity },
      HandlerMap.set(handlers, component, large.method, () => Effect.as(gate.await, result))
    )
    const { raw } = served
    raw.socket.pause()
    raw.write(Buffer.concat([version, request(1, large, bytesOf("one")), two.subarray(0, 40)]))
    yield* settle
    return { ...served, gate, first: answer(1, result) }
  })

  it.effect("has its whole time again from when they are read", () =>
    Effect.gen(function*() {
      const { first, gate, log, raw } = yield* notReading
      yield* TestClock.adjust(59_999)
      yield* gate.open
      yield* settle
      yield* TestClock.adjust("10 minutes")
      yield* settle
      assert.deepEqual([isOpen(raw), log.lines], [true, []])
      raw.socket.resume()
      yield* receives(raw, version, first)
      yield* settle
      yield* TestClock.adjust(59_999)
      raw.write(two.subarray(40))
      yield* receives(raw, version, first, answer(2, bytesOf("two")))
      assert.deepEqual(log.lines, [])
    }).pipe(Effect.scoped))

  it.effect("has no more time than that", () =>
    Effect.gen(function*() {
      const { closedAfter, first, gate, raw } = yield* notReading
      yield* gate.open
      yield* settle
      yield* TestClock.adjust("10 minutes")
      raw.socket.resume()
      yield* receives(raw, version, first)
      yield* closedAfter(60_000, "a message that was not whole after 1m")
    }).pipe(Effect.scoped))
})

describe("over real sockets", () => {
  eachNetwork((network) => {
    it.live("a client that says nothing, and one that does not go on, lose their connections; what is large and goes on does not", () =>
      Effect.gen(function*() {
        const log = makeLog()
        yield* Effect.gen(function*() {
          // Time enough for a busy machine to move a large message.
          const patient = yield* network.serve(handlers, { messageTimeout: "10 seconds" })
          const silent = yield* rawClient((yield* network.serve(handlers, { firstMessageTimeout: 30 })).endpoint)
          const unfinished = yield* rawClient((yield* network.serve(handlers, { messageTimeout: 40 })).endpoint)
          unfinished.write(Buffer.concat([version, version.subarray(0, 10)]))
          yield* Effect.all([silent.closed, unfinished.closed])
          const connection = yield* connect([patient.endpoint], { messageTimeout: "10 seconds" })
          const args = new Uint8Array(5_000_000).fill(3)
          assert.equal(Buffer.compare(yield* connection.call(echo, args), args), 0)
        }).pipe(Effect.provide(log.layer), Effect.scoped)
        assert.deepEqual(log.lines.map(({ message }) => message).toSorted(), [
          "a connection was closed: its peer sent a message that was not whole after 40ms",
          "a connection was closed: its peer sent no message within 30ms"
        ])
      }))
  })
})
