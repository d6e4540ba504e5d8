/**
 * What a server that stops says to its clients, byte by byte, and how long it waits for each of them.
 */
import { describe, it } from "@effect/vitest"
import { Effect, Fiber } from "effect"
import { Server } from "effect-call"
import { TestClock } from "effect/testing"
import * as assert from "node:assert/strict"
import { settle, until } from "../Connection/support.ts"
import { makeLog } from "../support/log.ts"
import { bytesOf, eachNetwork, echo, handlers as memoryHandlers, memory, tcp } from "../support/networks.ts"
import { message, messagesOf, type Raw, rawClient, receives, request, version } from "../support/raw.ts"
import { hold, stoppable } from "../support/stoppable.ts"

const nothing = new Uint8Array()

// As the protocol has them: an id of 0, a type of 0, the length, the version 0, and the flags where there are any.
const hex = (text: string) => Buffer.from(text.replaceAll(" ", ""), "hex")
const plain = hex("0000000000000000 00 04000000000000 00000000")
const flags = (bits: string) => hex(`0000000000000000 00 08000000000000 00000000 ${bits}`)
const understood = flags("01000000")
const goingAway = flags("03000000")
const noMoreRequests = flags("05000000")

/** The answer to a call of `echo` or `hold`. */
const answer = (id: number, text: string) => message(id, 2, bytesOf(text))

/** A client that has said this, and has heard the answer. */
const greeted = Effect.fnUntraced(function*(endpoint: Parameters<typeof rawClient>[0], greeting = understood) {
  const raw = yield* rawClient(endpoint)
  raw.write(greeting)
  yield* raw.until(({ length }) => length >= plain.length)
  return raw
})

const isOpen = ({ socket }: Raw) => !socket.readableEnded && !socket.closed

describe("a server that stops", () => {
  eachNetwork((network) => {
    it.live("tells a client that understands, and ends the connection when nothing more follows", () =>
      Effect.gen(function*() {
        const { calls, endpoint, gate, stop } = yield* stoppable({}, network.listen)
        const raw = yield* greeted(endpoint)
        raw.write(request(1, hold, bytesOf("one")))
        yield* until(() => calls.running === 1)
        const stopping = yield* stop
        yield* receives(raw, understood, goingAway)
        raw.write(noMoreRequests)
        // It is a version message, and answered as any other.
        yield* receives(raw, understood, goingAway, goingAway)
        yield* gate.open
        yield* raw.closed
        yield* receives(raw, understood, goingAway, goingAway, answer(1, "one"))
        yield* Fiber.join(stopping)
      }).pipe(Effect.scoped))

    it.live("sends no message to a client that does not understand it, and ends the connection anyway", () =>
      Effect.gen(function*() {
        const { calls, endpoint, gate, stop } = yield* stoppable({}, network.listen)
        const raw = yield* greeted(endpoint, version)
        raw.write(request(1, hold, bytesOf("one")))
        yield* until(() => calls.running === 1)
        const stopping = yield* stop
        raw.write(Buffer.concat([request(2, echo, bytesOf("two")), version]))
        yield* receives(raw, plain, answer(2, "two"), plain)
        yield* gate.open
        yield* raw.closed
        yield* receives(raw, plain, answer(2, "two"), plain, answer(1, "one"))
        yield* Fiber.join(stopping)
      }).pipe(Effect.scoped))
  })

  describe("serves everything that a client has sent before its final version message", () => {
    it.effect("also what was sent long after it was told", () =>
      Effect.gen(function*() {
        const { endpoint, stop } = yield* stoppable()
        const raw = yield* greeted(endpoint)
        const stopping = yield* stop
        yield* receives(raw, understood, goingAway)
        yield* TestClock.adjust("59 seconds")
        raw.write(Buffer.concat([request(1, echo, bytesOf("late")), noMoreRequests]))
        yield* raw.closed
        yield* receives(raw, understood, goingAway, answer(1, "late"), goingAway)
        yield* Fiber.join(stopping)
      }).pipe(Effect.scoped))

    it.effect("also what waits for its turn", () =>
      Effect.gen(function*() {
        const { calls, endpoint, gate, stop } = yield* stoppable({ maxConcurrentCalls: 1 })
        const raw = yield* greeted(endpoint)
        raw.write(request(1, hold, bytesOf("runs")))
        yield* until(() => calls.running === 1)
        raw.write(request(2, hold, bytesOf("waits")))
        const stopping = yield* stop
        raw.write(Buffer.concat([request(3, hold, bytesOf("waits, too")), noMoreRequests]))
        yield* receives(raw, understood, goingAway, goingAway)
        yield* settle
        assert.equal(calls.running, 1)
        yield* gate.open
        yield* raw.closed
        const answers = [answer(1, "runs"), answer(2, "waits"), answer(3, "waits, too")]
        yield* receives(raw, understood, goingAway, goingAway, ...answers)
        yield* Fiber.join(stopping)
      }).pipe(Effect.scoped))

    it.effect("and lets the client cancel it", () =>
      Effect.gen(function*() {
        const { calls, endpoint, stop } = yield* stoppable()
        const raw = yield* greeted(endpoint)
        raw.write(request(1, hold, nothing))
        yield* until(() => calls.running === 1)
        const stopping = yield* stop
        raw.write(noMoreRequests)
        yield* settle
        raw.write(message(1, 4))
        yield* raw.closed
        assert.equal(calls.interrupted, 1)
        yield* Fiber.join(stopping)
      }).pipe(Effect.scoped))
  })

  it.effect("waits for the final version message of one client, and not for other clients", () =>
    Effect.gen(function*() {
      const { calls, endpoint, gate, stop } = yield* stoppable()
      const clients = yield* Effect.replicateEffect(greeted(endpoint), 3)
      const [done, busy, silent] = clients as [Raw, Raw, Raw] // so many were asked for
      busy.write(request(1, hold, bytesOf("one")))
      yield* until(() => calls.running === 1)
      const stopping = yield* stop
      for (const raw of clients) yield* receives(raw, understood, goingAway)
      done.write(noMoreRequests)
      busy.write(noMoreRequests)
      yield* done.closed
      yield* TestClock.adjust("59999 millis")
      assert.deepEqual([isOpen(busy), isOpen(silent), stopping.pollUnsafe()], [true, true, undefined])
      yield* gate.open
      yield* busy.closed
      assert.equal(isOpen(silent), true)
      yield* TestClock.adjust(1)
      yield* silent.closed
      yield* Fiber.join(stopping)
    }).pipe(Effect.scoped))

  it.effect("interrupts what has not ended when the grace has passed, though no more requests follow", () =>
    Effect.gen(function*() {
      const { calls, endpoint, stop } = yield* stoppable({ shutdownGrace: "3 seconds" })
      const raw = yield* greeted(endpoint)
      raw.write(request(1, hold, nothing))
      yield* until(() => calls.running === 1)
      const stopping = yield* stop
      raw.write(noMoreRequests)
      yield* receives(raw, understood, goingAway, goingAway)
      yield* TestClock.adjust(2999)
      assert.deepEqual([calls.running, isOpen(raw)], [1, true])
      yield* TestClock.adjust(1)
      yield* raw.closed
      yield* Fiber.join(stopping)
      assert.equal(calls.interrupted, 1)
    }).pipe(Effect.scoped))

  it.live("closes at once, and says nothing, where it has no grace", () =>
    Effect.gen(function*() {
      const { endpoint, stop } = yield* stoppable({ shutdownGrace: 0 }, tcp.listen)
      const raw = yield* greeted(endpoint)
      yield* Effect.flatMap(stop, Fiber.join)
      yield* raw.closed
      yield* receives(raw, understood)
    }).pipe(Effect.scoped))

  it.effect("answers version messages until it ends the connection, of clients that understand and of others", () =>
    Effect.gen(function*() {
      const { calls, endpoint, gate, stop } = yield* stoppable()
      const one = yield* greeted(endpoint)
      const other = yield* greeted(endpoint, version)
      one.write(request(1, hold, bytesOf("one")))
      other.write(request(1, hold, bytesOf("other")))
      yield* until(() => calls.running === 2)
      const stopping = yield* stop
      // As a client sends a probe, before its last word and after it.
      one.write(Buffer.concat([version, noMoreRequests, version]))
      other.write(Buffer.concat([version, version]))
      yield* receives(one, understood, goingAway, goingAway, goingAway, goingAway)
      yield* receives(other, plain, plain, plain)
      yield* gate.open
      yield* TestClock.adjust(100)
      yield* Fiber.join(stopping)
      yield* receives(one, understood, goingAway, goingAway, goingAway, goingAway, answer(1, "one"))
      yield* receives(other, plain, plain, plain, answer(1, "other"))
    }).pipe(Effect.scoped))

  it.effect("says so in its first answer to a client that has said nothing before", () =>
    Effect.gen(function*() {
      const { endpoint, stop } = yield* stoppable()
      const raw = yield* rawClient(endpoint)
      yield* settle
      const stopping = yield* stop
      yield* TestClock.adjust(99)
      raw.write(understood)
      yield* receives(raw, goingAway)
      // By now the client understands flags: there is no quiet period.
      yield* TestClock.adjust("30 seconds")
      assert.equal(isOpen(raw), true)
      raw.write(Buffer.concat([request(1, echo, bytesOf("first")), noMoreRequests]))
      yield* raw.closed
      yield* receives(raw, goingAway, answer(1, "first"), goingAway)
      yield* Fiber.join(stopping)
    }).pipe(Effect.scoped))

  for (const [what, late] of [["a request", nothing], ["one that is too large", new Uint8Array(2000)]] as const) {
    it.effect(`refuses ${what} after the final version message, at the cost of that connection only`, () =>
      Effect.gen(function*() {
        const log = makeLog()
        yield* Effect.gen(function*() {
          const { calls, endpoint, gate, stop } = yield* stoppable({ maxMessageSize: 1024 })
          const bad = yield* greeted(endpoint)
          const good = yield* greeted(endpoint)
          bad.write(request(1, hold, nothing))
          good.write(request(1, hold, bytesOf("good")))
          yield* until(() => calls.running === 2)
          const stopping = yield* stop
          bad.write(Buffer.concat([noMoreRequests, request(2, hold, late)]))
          yield* bad.closed
          yield* until(() => calls.interrupted === 1)
          good.write(noMoreRequests)
          yield* gate.open
          yield* Fiber.join(stopping)
          yield* receives(good, understood, goingAway, goingAway, answer(1, "good"))
        }).pipe(Effect.provide(log.layer), Effect.scoped)
        assert.deepEqual(log.lines.map(({ level, message }) => [level, message]), [
          ["Warn", "a connection was closed: its peer sent request 2 after it had said that there are no more"]
        ])
      }))
  }

  it.effect("waits for the end of a request that is too large, and serves what is behind it", () =>
    Effect.gen(function*() {
      const { endpoint, stop } = yield* stoppable({ maxMessageSize: 1024 })
      const raw = yield* greeted(endpoint, version)
      const large = request(1, hold, new Uint8Array(2000))
      raw.write(large.subarray(0, 1000))
      yield* raw.until((bytes) => messagesOf(bytes).length === 2)
      const stopping = yield* stop
      yield* settle
      yield* TestClock.adjust("10 seconds")
      assert.equal(isOpen(raw), true)
      raw.write(Buffer.concat([large.subarray(1000), request(2, echo, bytesOf("behind"))]))
      yield* raw.until((bytes) => messagesOf(bytes).length === 3)
      assert.deepEqual(messagesOf(raw.received()).map(({ id, type }) => [id, type]), [[0, 0], [1, 3], [2, 2]])
      // Now it has been quiet for long enough.
      yield* TestClock.adjust(100)
      yield* raw.closed
      yield* Fiber.join(stopping)
    }).pipe(Effect.scoped))

  it.effect("counts as final only a version message that is sent after it was told", () =>
    Effect.gen(function*() {
      const { endpoint, stop } = yield* stoppable()
      // Here it means something that we do not know.
      const raw = yield* greeted(endpoint, noMoreRequests)
      raw.write(request(1, echo, bytesOf("one")))
      yield* receives(raw, understood, answer(1, "one"))
      const stopping = yield* stop
      yield* receives(raw, understood, answer(1, "one"), goingAway)
      raw.write(request(2, echo, bytesOf("two")))
      yield* receives(raw, understood, answer(1, "one"), goingAway, answer(2, "two"))
      assert.equal(isOpen(raw), true)
      raw.write(noMoreRequests)
      yield* raw.closed
      yield* Fiber.join(stopping)
    }).pipe(Effect.scoped))

  it.effect("ignores what follows the version where bit 0 is not set", () =>
    Effect.gen(function*() {
      const { calls, endpoint, gate, stop } = yield* stoppable()
      const garbage = flags("feffffff")
      const raw = yield* greeted(endpoint, garbage)
      raw.write(request(1, hold, bytesOf("one")))
      yield* until(() => calls.running === 1)
      const stopping = yield* stop
      raw.write(Buffer.concat([garbage, request(2, echo, bytesOf("two"))]))
      yield* receives(raw, plain, plain, answer(2, "two"))
      yield* gate.open
      // It is told nothing, and so has its quiet period.
      yield* TestClock.adjust(99)
      assert.equal(isOpen(raw), true)
      yield* TestClock.adjust(1)
      yield* raw.closed
      yield* receives(raw, plain, plain, answer(2, "two"), answer(1, "one"))
      yield* Fiber.join(stopping)
    }).pipe(Effect.scoped))

  it.effect("reads flags that it does not know, and bytes after them, as nothing", () =>
    Effect.gen(function*() {
      const { endpoint, stop } = yield* stoppable()
      const longer = message(0, 0, hex("00000000 f1ffffff 010203040506"))
      const raw = yield* greeted(endpoint, longer)
      const stopping = yield* stop
      yield* receives(raw, understood, goingAway)
      raw.write(message(0, 0, hex("00000000 f5ffffff 0708")))
      yield* raw.closed
      yield* Fiber.join(stopping)
    }).pipe(Effect.scoped))

  it.effect("leaves one connection in the same way with serveOn", () =>
    Effect.gen(function*() {
      const { endpoint, listener } = yield* memory.listen(memoryHandlers)
      const raw = yield* rawClient(endpoint)
      const { connection, handlers } = yield* listener.accept
      const serving = yield* Effect.forkChild(Server.serveOn(connection, handlers), { startImmediately: true })
      raw.write(understood)
      yield* receives(raw, understood)
      const stopping = yield* Effect.forkChild(Fiber.interrupt(serving), { startImmediately: true })
      yield* receives(raw, understood, goingAway)
      raw.write(Buffer.concat([request(1, echo, bytesOf("one")), noMoreRequests]))
      yield* raw.closed
      yield* receives(raw, understood, goingAway, answer(1, "one"), goingAway)
      yield* Fiber.join(stopping)
    }).pipe(Effect.scoped))
})

describe("a client that does not understand has a quiet period of 100 ms", () => {
  it.effect("from the moment that the server begins to stop, where it has no calls", () =>
    Effect.gen(function*() {
      const { endpoint, stop } = yield* stoppable()
      const raw = yield* greeted(endpoint, version)
      yield* TestClock.adjust("1 hour")
      const stopping = yield* stop
      yield* TestClock.adjust(99)
      assert.equal(isOpen(raw), true)
      yield* TestClock.adjust(1)
      yield* raw.closed
      yield* receives(raw, plain)
      yield* Fiber.join(stopping)
    }).pipe(Effect.scoped))

  it.effect("also where it has said nothing at all", () =>
    Effect.gen(function*() {
      const { endpoint, stop } = yield* stoppable()
      const raw = yield* rawClient(endpoint)
      yield* settle
      const stopping = yield* stop
      yield* TestClock.adjust(99)
      assert.equal(isOpen(raw), true)
      yield* TestClock.adjust(1)
      yield* raw.closed
      yield* receives(raw)
      yield* Fiber.join(stopping)
    }).pipe(Effect.scoped))

  it.effect("from its last request on, each of which is served", () =>
    Effect.gen(function*() {
      const { endpoint, stop } = yield* stoppable()
      const raw = yield* greeted(endpoint, version)
      const stopping = yield* stop
      const answers: Array<Buffer> = []
      for (let id = 1; id <= 5; id++) {
        yield* TestClock.adjust(99)
        raw.write(request(id, echo, bytesOf("again")))
        answers.push(answer(id, "again"))
        yield* receives(raw, plain, ...answers)
      }
      yield* TestClock.adjust(99)
      assert.equal(isOpen(raw), true)
      yield* TestClock.adjust(1)
      yield* raw.closed
      yield* receives(raw, plain, ...answers)
      yield* Fiber.join(stopping)
    }).pipe(Effect.scoped))

  it.effect("and not from what else it sends", () =>
    Effect.gen(function*() {
      const { endpoint, stop } = yield* stoppable()
      const raw = yield* greeted(endpoint, version)
      const stopping = yield* stop
      yield* TestClock.adjust(99)
      raw.write(Buffer.concat([version, message(7, 4)]))
      yield* receives(raw, plain, plain)
      yield* TestClock.adjust(1)
      yield* raw.closed
      yield* Fiber.join(stopping)
    }).pipe(Effect.scoped))

  it.effect("which is over when its last call ends, where that takes longer", () =>
    Effect.gen(function*() {
      const { calls, endpoint, gate, stop } = yield* stoppable()
      const raw = yield* greeted(endpoint, version)
      raw.write(request(1, hold, bytesOf("one")))
      yield* until(() => calls.running === 1)
      const stopping = yield* stop
      yield* TestClock.adjust("10 seconds")
      assert.equal(isOpen(raw), true)
      yield* gate.open
      yield* raw.closed
      yield* receives(raw, plain, answer(1, "one"))
      yield* Fiber.join(stopping)
    }).pipe(Effect.scoped))

  it.effect("which is not over in the middle of a request", () =>
    Effect.gen(function*() {
      const { endpoint, stop } = yield* stoppable()
      const raw = yield* greeted(endpoint, version)
      const bytes = request(1, echo, bytesOf("a large one"))
      raw.write(bytes.subarray(0, 20))
      yield* settle
      const stopping = yield* stop
      for (const [from, to] of [[20, 30], [30, 40]]) {
        yield* TestClock.adjust("1 second")
        raw.write(bytes.subarray(from, to))
        yield* settle
      }
      yield* TestClock.adjust("1 second")
      assert.equal(isOpen(raw), true)
      raw.write(bytes.subarray(40))
      yield* receives(raw, plain, answer(1, "a large one"))
      yield* TestClock.adjust(99)
      assert.equal(isOpen(raw), true)
      yield* TestClock.adjust(1)
      yield* raw.closed
      yield* Fiber.join(stopping)
    }).pipe(Effect.scoped))

  it.live("after which it may still be sending, and gets all its answers", () =>
    Effect.gen(function*() {
      const { endpoint, stop } = yield* stoppable({}, tcp.listen)
      const raw = yield* greeted(endpoint, version)
      const large = new Uint8Array(4_000_000)
      raw.socket.pause()
      raw.write(request(1, echo, large))
      const stopping = yield* stop
      raw.socket.resume()
      yield* raw.until((received) => messagesOf(received).length === 2)
      yield* raw.closed
      yield* Fiber.join(stopping)
    }).pipe(Effect.scoped))
})
