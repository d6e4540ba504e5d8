/**
 * `idleTimeout`: connections without calls are closed by going away, and no call is lost by it.
 */
import { describe, it } from "@effect/vitest"
import { Duration, Effect, Fiber, Logger } from "effect"
import { TestClock } from "effect/testing"
import * as assert from "node:assert/strict"
import { settle, turn, until, untilState } from "../Connection/support.ts"
import { makeLog } from "../support/log.ts"
import { bytesOf, connect, eachNetwork, echo, tcp, textOf } from "../support/networks.ts"
import { message, messagesOf, type Raw, rawClient, receives, request, version, versionWith } from "../support/raw.ts"
import { hold, stoppable } from "../support/stoppable.ts"

const nothing = new Uint8Array()
const understood = versionWith(0)
const goingAway = versionWith(2)
const noMoreRequests = versionWith(4)

const answer = (id: number, text: string) => message(id, 2, bytesOf(text))
const isOpen = ({ socket }: Raw) => !socket.readableEnded && !socket.closed

/** A server whose connections may be idle for ten seconds, and a client that has said its version. */
const idling = Effect.fnUntraced(function*(greeting = understood, options?: Parameters<typeof stoppable>[0]) {
  const server = yield* stoppable({ idleTimeout: "10 seconds", shutdownGrace: "2 seconds", ...options })
  const raw = yield* rawClient(server.endpoint)
  raw.write(greeting)
  yield* raw.until(({ length }) => length >= greeting.length)
  /** It is told that the server goes away at exactly this time from now. */
  const toldAfter = Effect.fnUntraced(function*(duration: Duration.Input, ...before: ReadonlyArray<Buffer>) {
    yield* settle
    yield* TestClock.adjust(Duration.toMillis(duration) - 1)
    yield* settle
    yield* receives(raw, ...before)
    yield* TestClock.adjust(1)
    yield* receives(raw, ...before, goingAway)
  })
  return { ...server, raw, toldAfter }
})

describe("a connection without calls", () => {
  it.effect("is told that the server goes away when its time is up, and closed with its final version message", () =>
    Effect.gen(function*() {
      const { raw, toldAfter } = yield* idling()
      yield* toldAfter("10 seconds", understood)
      assert.equal(isOpen(raw), true)
      raw.write(noMoreRequests)
      yield* raw.closed
      yield* receives(raw, understood, goingAway, goingAway)
    }).pipe(Effect.scoped))

  it.effect("has its time from the end of its last call", () =>
    Effect.gen(function*() {
      const { calls, gate, raw, toldAfter } = yield* idling()
      yield* TestClock.adjust("6 seconds")
      raw.write(request(1, hold, bytesOf("one")))
      yield* until(() => calls.running === 1)
      yield* TestClock.adjust("1 hour")
      assert.equal(isOpen(raw), true)
      yield* gate.open
      yield* receives(raw, understood, answer(1, "one"))
      yield* toldAfter("10 seconds", understood, answer(1, "one"))
    }).pipe(Effect.scoped))

  it.effect("has its time from its last call also where that was answered at once", () =>
    Effect.gen(function*() {
      const { raw, toldAfter } = yield* idling()
      const answers: Array<Buffer> = []
      for (let id = 1; id <= 5; id++) {
        yield* TestClock.adjust("6 seconds")
        raw.write(request(id, echo, bytesOf("one")))
        answers.push(answer(id, "one"))
        yield* receives(raw, understood, ...answers)
      }
      yield* toldAfter("10 seconds", understood, ...answers)
    }).pipe(Effect.scoped))

  it.effect("has its time from its last call also where that was too large, and from its last byte", () =>
    Effect.gen(function*() {
      const { raw, toldAfter } = yield* idling(understood, { maxMessageSize: 1024 })
      const large = (id: number) => request(id, echo, new Uint8Array(2000))
      yield* TestClock.adjust("6 seconds")
      raw.write(large(1))
      yield* settle
      yield* TestClock.adjust("6 seconds")
      raw.write(large(2).subarray(0, 1000))
      yield* settle
      // It is in the middle of a message.
      yield* TestClock.adjust("30 seconds")
      assert.equal(isOpen(raw), true)
      raw.write(Buffer.concat([large(2).subarray(1000), request(3, echo, bytesOf("one"))]))
      yield* raw.until((bytes) => messagesOf(bytes).length === 4)
      const refused = messagesOf(raw.received()).slice(1, 3).map(({ id, payload, type }) => message(id, type, payload))
      assert.match(String(refused[0]), /the arguments are 2000 bytes, expected at most 975/)
      yield* toldAfter("10 seconds", understood, ...refused, answer(3, "one"))
    }).pipe(Effect.scoped))

  it.effect("is not kept by a client that only asks whether the server is there", () =>
    Effect.gen(function*() {
      const { raw, toldAfter } = yield* idling()
      yield* TestClock.adjust("6 seconds")
      raw.write(version)
      yield* receives(raw, understood, understood)
      yield* toldAfter("4 seconds", understood, understood)
    }).pipe(Effect.scoped))

  it.effect("is not idle while a request arrives", () =>
    Effect.gen(function*() {
      const { raw, toldAfter } = yield* idling()
      const bytes = request(1, echo, bytesOf("a slow one"))
      yield* TestClock.adjust("6 seconds")
      raw.write(bytes.subarray(0, 30))
      yield* settle
      yield* TestClock.adjust("30 seconds")
      raw.write(bytes.subarray(30))
      yield* receives(raw, understood, answer(1, "a slow one"))
      yield* toldAfter("10 seconds", understood, answer(1, "a slow one"))
    }).pipe(Effect.scoped))

  it.effect("is closed for a client that does not understand after a quiet period of 100 ms", () =>
    Effect.gen(function*() {
      const { raw } = yield* idling(version)
      yield* TestClock.adjust("10 seconds")
      yield* TestClock.adjust(50)
      raw.write(request(1, echo, bytesOf("just in time")))
      yield* receives(raw, version, answer(1, "just in time"))
      yield* TestClock.adjust(99)
      assert.equal(isOpen(raw), true)
      yield* TestClock.adjust(1)
      yield* raw.closed
      yield* receives(raw, version, answer(1, "just in time"))
    }).pipe(Effect.scoped))
})

describe("a client that is told so", () => {
  it.effect("has its earlier requests served, even if that takes long", () =>
    Effect.gen(function*() {
      const { calls, gate, raw, toldAfter } = yield* idling()
      yield* toldAfter("10 seconds", understood)
      raw.write(Buffer.concat([request(1, hold, bytesOf("one")), noMoreRequests]))
      yield* until(() => calls.running === 1)
      yield* TestClock.adjust("1 hour")
      assert.deepEqual(calls, { running: 1, interrupted: 0, echoed: 0 })
      yield* gate.open
      yield* raw.closed
      yield* receives(raw, understood, goingAway, goingAway, answer(1, "one"))
    }).pipe(Effect.scoped))

  it.effect("is told so also by a server that gives its calls no grace when it stops", () =>
    Effect.gen(function*() {
      const { raw, toldAfter } = yield* idling(understood, { shutdownGrace: 0 })
      yield* toldAfter("10 seconds", understood)
      raw.write(Buffer.concat([request(1, echo, bytesOf("one")), noMoreRequests]))
      yield* raw.closed
      yield* receives(raw, understood, goingAway, answer(1, "one"), goingAway)
    }).pipe(Effect.scoped))

  it.effect("is cut off when it has not sent its final version message within the time for a message, and has no calls", () =>
    Effect.gen(function*() {
      const { calls, gate, raw, toldAfter } = yield* idling(understood, { messageTimeout: "5 seconds" })
      yield* toldAfter("10 seconds", understood)
      raw.write(request(1, hold, nothing))
      yield* until(() => calls.running === 1)
      yield* TestClock.adjust("12 seconds")
      yield* gate.open
      yield* settle
      assert.equal(isOpen(raw), true)
      yield* TestClock.adjust("2999 millis")
      assert.equal(isOpen(raw), true)
      yield* TestClock.adjust(1)
      yield* raw.closed
    }).pipe(Effect.scoped))

  it.effect("gets the grace of a server that stops meanwhile, and no more", () =>
    Effect.gen(function*() {
      const { calls, raw, stop, toldAfter } = yield* idling()
      yield* toldAfter("10 seconds", understood)
      raw.write(request(1, hold, nothing))
      yield* until(() => calls.running === 1)
      const stopping = yield* stop
      yield* TestClock.adjust(1999)
      assert.equal(isOpen(raw), true)
      yield* TestClock.adjust(1)
      yield* raw.closed
      yield* Fiber.join(stopping)
      assert.equal(calls.interrupted, 1)
      // It is not told twice.
      yield* receives(raw, understood, goingAway)
    }).pipe(Effect.scoped))
})

describe("a Connection whose server closes what is idle", () => {
  eachNetwork((network) => {
    it.live("dials again, and warns of nothing", () =>
      Effect.gen(function*() {
        const log = makeLog()
        yield* Effect.gen(function*() {
          const { endpoint } = yield* stoppable({ idleTimeout: 20 }, network.listen)
          const connection = yield* connect([endpoint])
          for (let i = 0; i < 3; i++) {
            assert.equal(textOf(yield* connection.call(echo, bytesOf("hello"))), "hello")
            const { endpoints } = yield* untilState(connection, ({ endpoints }) => endpoints[0]!.state === "Idle")
            const states = endpoints.map((state) => ({ ...state, latency: 0 }))
            assert.deepEqual(states, [{
              address: endpoint.address,
              state: "Idle",
              callsInFlight: 0,
              inBackoff: false,
              isEjected: false,
              isServing: true,
              streams: 0,
              latency: 0,
              lastFailure: undefined
            }])
          }
        }).pipe(Effect.provide(log.layer), Effect.scoped)
        assert.deepEqual(log.lines.map(({ message }) => message), [])
      }))
  })

  it.effect("keeps it for the time in the server's options, and without limit while it has calls", () =>
    Effect.gen(function*() {
      const { calls, endpoint, gate } = yield* stoppable({ idleTimeout: "10 seconds" })
      const connection = yield* connect([endpoint])
      const state = Effect.map(connection.state, ({ endpoints }) => endpoints[0]!.state)
      yield* connection.call(echo, nothing)
      yield* TestClock.adjust("9 seconds")
      const held = yield* Effect.forkChild(connection.call(hold, nothing), { startImmediately: true })
      yield* until(() => calls.running === 1)
      yield* TestClock.adjust("1 hour")
      assert.equal(yield* state, "Active")
      yield* gate.open
      yield* Fiber.join(held)
      yield* settle
      yield* TestClock.adjust(9999)
      yield* settle
      assert.equal(yield* state, "Active")
      yield* TestClock.adjust(1)
      yield* untilState(connection, ({ endpoints }) => endpoints[0]!.state === "Idle")
    }).pipe(Effect.scoped))

  it.live("loses no call, whenever that comes", () =>
    Effect.gen(function*() {
      const { endpoint } = yield* stoppable({ idleTimeout: 3, shutdownGrace: 0 }, tcp.listen)
      let dials = 0
      const dial = Effect.suspend(() => {
        dials++
        return endpoint.dial
      })
      // As often as not a call comes while the connection is about to be closed.
      const calling = Effect.gen(function*() {
        const connection = yield* connect([{ address: endpoint.address, dial }])
        for (let i = 0; i < 40; i++) {
          yield* connection.call(echo, bytesOf(`${i}`))
          const pause = performance.now() + 2 + 2 * Math.random()
          while (performance.now() < pause) yield* turn
        }
      })
      yield* Effect.all(Effect.replicate(calling, 10), { concurrency: "unbounded" })
      // More than the first of each: how often it comes to that is up to the machine.
      assert.ok(dials > 10, `${dials} dials`)
    }).pipe(Effect.scoped, Effect.provide(Logger.layer([]))))
})
