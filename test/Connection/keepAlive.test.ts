/** `keepAlive`: servers that vanish are found, and servers that are alive keep their connections. */
import { describe, it } from "@effect/vitest"
import { Effect, Fiber, SubscriptionRef } from "effect"
import { TestClock } from "effect/testing"
import * as assert from "node:assert/strict"
import { byHand } from "../support/byHand.ts"
import { makeLog } from "../support/log.ts"
import { bytesOf, connect, textOf } from "../support/networks.ts"
import { clientVersion, message, messagesOf, receives, request, version, versionWith } from "../support/raw.ts"
import {
  calling,
  fork,
  isLost,
  keepAlive,
  kindsOf,
  mebibyte,
  nothing,
  onNetwork,
  put,
  silence,
  stateOf,
  understood
} from "./keepAliveSupport.ts"
import { ask, connectToListed, settle, startInMemory } from "./support.ts"

/** The same, and the endpoints can be changed. */
const callingListed = Effect.fnUntraced(function*() {
  const a = yield* byHand("a")
  const { connection, endpoints } = yield* connectToListed([a], { keepAlive })
  const call = yield* fork(connection.call(put, bytesOf("one")))
  const raw = yield* a.accepted()
  yield* raw.until((bytes) => messagesOf(bytes).length === 2)
  return { a, call, connection, endpoints, raw }
})

describe("a server that says nothing", () => {
  it.effect("is probed when it has said nothing for the interval, with a plain version message", () =>
    Effect.gen(function*() {
      const { raw, sent } = yield* calling()
      yield* TestClock.adjust(9999)
      yield* settle
      yield* receives(raw, ...sent)
      yield* TestClock.adjust(1)
      yield* receives(raw, ...sent, version)
    }).pipe(onNetwork))

  it.effect("is probed also where the interval is many hours long", () =>
    Effect.gen(function*() {
      const { raw, sent } = yield* calling({ keepAlive: { interval: "12 hours", timeout: "1 hour" } })
      yield* TestClock.adjust("12 hours")
      yield* receives(raw, ...sent, version)
    }).pipe(onNetwork))

  it.effect("is probed no earlier because of other timers", () =>
    Effect.gen(function*() {
      const { connection, raw } = yield* calling()
      const late = yield* fork(Effect.flip(connection.call(put, nothing, { timeout: "9999 millis" })))
      yield* raw.until((bytes) => messagesOf(bytes).length === 3)
      yield* TestClock.adjust(9999)
      assert.equal((yield* Fiber.join(late))._tag, "DeadlineExceeded")
      yield* settle
      assert.deepEqual(kindsOf(raw.received()), [[0, 0], [1, 1], [2, 1]])
      yield* TestClock.adjust(1)
      yield* raw.until((bytes) => messagesOf(bytes).length === 4)
    }).pipe(onNetwork))

  it.effect("is given up when it has said nothing for the timeout after that, and is dialed again by the next call", () =>
    Effect.gen(function*() {
      const log = makeLog()
      yield* Effect.gen(function*() {
        const { a, call, connection, raw } = yield* calling()
        yield* TestClock.adjust(10_000)
        yield* TestClock.adjust(4999)
        yield* settle
        assert.deepEqual([call.pollUnsafe(), raw.socket.closed], [undefined, false])
        yield* TestClock.adjust(1)
        isLost(yield* Effect.flip(Fiber.join(call)), silence("15s"))
        yield* raw.closed
        const again = yield* fork(connection.call(put, bytesOf("two")))
        const anew = yield* a.accepted()
        yield* receives(anew, clientVersion, request(1, put, bytesOf("two")))
        anew.write(message(1, 2, bytesOf("second")))
        assert.equal(textOf(yield* Fiber.join(again)), "second")
      }).pipe(Effect.provide(log.layer))
      assert.deepEqual(log.lines.map(({ level, message }) => [level, message]), [["Warn", "a connection was lost"]])
    }).pipe(onNetwork))

  it.effect("is given up also where no call is in flight, so that none has to find out", () =>
    Effect.gen(function*() {
      const { call, connection, raw } = yield* calling()
      raw.write(message(1, 2))
      yield* Fiber.join(call)
      yield* TestClock.adjust("15 seconds")
      yield* raw.closed
      assert.equal(yield* stateOf(connection), "Idle")
    }).pipe(onNetwork))

  it.effect("is probed again and again as long as it answers", () =>
    Effect.gen(function*() {
      const { call, raw, sent } = yield* calling()
      for (let asked = 1; asked <= 50; asked++) {
        yield* TestClock.adjust(10_000)
        yield* receives(raw, ...sent, ...new Array<Buffer>(asked).fill(version))
        // At the last moment.
        yield* TestClock.adjust(4999)
        raw.write(understood)
        yield* settle
      }
      assert.equal(call.pollUnsafe(), undefined)
    }).pipe(onNetwork))

  it.effect("is alive with any byte that comes, whole message or not", () =>
    Effect.gen(function*() {
      const { call, raw, sent } = yield* calling({ keepAlive, messageTimeout: "1 hour" })
      const answer = message(1, 2, bytesOf("in small pieces"))
      let asked = 0
      for (const byte of answer) {
        yield* TestClock.adjust(10_000)
        yield* receives(raw, ...sent, ...new Array<Buffer>(++asked).fill(version))
        yield* TestClock.adjust(4999)
        raw.write(Buffer.of(byte))
        yield* settle
      }
      assert.equal(textOf(yield* Fiber.join(call)), "in small pieces")
      // From the last byte on it has the whole interval again.
      yield* TestClock.adjust(9999)
      yield* settle
      yield* receives(raw, ...sent, ...new Array<Buffer>(asked).fill(version))
      yield* TestClock.adjust(1)
      yield* receives(raw, ...sent, ...new Array<Buffer>(asked + 1).fill(version))
    }).pipe(onNetwork))

  it.effect("is probed after each silent interval, also where the timeout is much longer", () =>
    Effect.gen(function*() {
      const { call, raw, sent } = yield* calling({ keepAlive: { interval: "10 seconds", timeout: "1 minute" } })
      yield* TestClock.adjust(10_000)
      yield* receives(raw, ...sent, version)
      yield* TestClock.adjust("10 seconds")
      yield* TestClock.adjust("3 seconds")
      raw.write(understood)
      yield* settle
      yield* TestClock.adjust(9999)
      yield* settle
      yield* receives(raw, ...sent, version)
      yield* TestClock.adjust(1)
      yield* receives(raw, ...sent, version, version)
      yield* TestClock.adjust(59_999)
      yield* settle
      assert.equal(call.pollUnsafe(), undefined)
      yield* TestClock.adjust(1)
      isLost(yield* Effect.flip(Fiber.join(call)), silence("1m 10s"))
      yield* receives(raw, ...sent, version, version)
    }).pipe(onNetwork))

  it.effect("is not probed as long as it answers calls, though it sends no more version messages", () =>
    Effect.gen(function*() {
      const { call, connection, raw } = yield* calling(undefined, version)
      raw.write(message(1, 2))
      yield* Fiber.join(call)
      for (let id = 2; id <= 20; id++) {
        yield* TestClock.adjust(9999)
        const call = yield* fork(connection.call(put, nothing))
        yield* raw.until((bytes) => messagesOf(bytes).some((message) => message.id === id))
        raw.write(message(id, 2))
        yield* Fiber.join(call)
      }
      assert.equal(messagesOf(raw.received()).filter(({ type }) => type === 0).length, 1)
      // The first silence that is long enough is its last.
      yield* TestClock.adjust("15 seconds")
      yield* raw.closed
    }).pipe(onNetwork))

  it.effect("is alive where it answers as one of the Go package does", () =>
    Effect.gen(function*() {
      const { call, raw, sent } = yield* calling(undefined, version)
      for (let asked = 1; asked <= 20; asked++) {
        yield* TestClock.adjust(10_000)
        yield* receives(raw, ...sent, ...new Array<Buffer>(asked).fill(version))
        raw.write(version)
        yield* settle
      }
      assert.equal(call.pollUnsafe(), undefined)
    }).pipe(onNetwork))

  it.effect("is alive where it is one of this package that has nothing to send", () =>
    Effect.gen(function*() {
      const a = yield* startInMemory("a")
      const connection = yield* connect([a.endpoint], { keepAlive })
      yield* ask(connection)
      for (let i = 0; i < 100; i++) {
        yield* TestClock.adjust("10 seconds")
        yield* settle
      }
      assert.equal(yield* stateOf(connection), "Active")
      yield* ask(connection)
      assert.equal(a.accepted, 1)
    }).pipe(onNetwork))

  it.effect("is probed also while it goes away", () =>
    Effect.gen(function*() {
      const { a, call, connection, raw, sent } = yield* calling()
      yield* TestClock.adjust("5 seconds")
      yield* a.leave(raw)
      yield* receives(raw, ...sent, versionWith(4))
      yield* TestClock.adjust("10 seconds")
      yield* receives(raw, ...sent, versionWith(4), version)
      // It says again that it goes away, as it does in all its answers by then.
      raw.write(versionWith(2))
      yield* settle
      yield* TestClock.adjust("10 seconds")
      yield* receives(raw, ...sent, versionWith(4), version, version)
      assert.equal(yield* stateOf(connection), "Draining")
      yield* TestClock.adjust("4999 millis")
      assert.equal(call.pollUnsafe(), undefined)
      yield* TestClock.adjust(1)
      isLost(yield* Effect.flip(Fiber.join(call)), silence("15s"))
      yield* raw.closed
    }).pipe(onNetwork))

  it.effect("costs no call that was not sent to it: that goes elsewhere", () =>
    Effect.gen(function*() {
      const { a, call, connection, endpoints, raw } = yield* callingListed()
      raw.socket.pause()
      // More than is taken by one that does not read: what comes after it waits here.
      const plug = yield* fork(connection.call(put, new Uint8Array(mebibyte)))
      yield* settle
      const queued = yield* fork(ask(connection))
      yield* settle
      const b = yield* startInMemory("b")
      yield* SubscriptionRef.set(endpoints, [a.endpoint, b.endpoint])
      yield* settle
      yield* TestClock.adjust("14999 millis")
      assert.deepEqual([call, plug, queued].map((call) => call.pollUnsafe()), [undefined, undefined, undefined])
      yield* TestClock.adjust(1)
      isLost(yield* Effect.flip(Fiber.join(call)), silence("15s"))
      isLost(yield* Effect.flip(Fiber.join(plug)), silence("15s"))
      // It may have tried the first again, which accepts, and says nothing.
      yield* TestClock.adjust("5 seconds")
      assert.equal(yield* Fiber.join(queued), "b")
    }).pipe(onNetwork))
})

describe("a server that asks whether the client is there", () => {
  const there = versionWith(16)

  for (
    const [what, options] of [["", { keepAlive }], [", also by a client that sends no probes", {
      keepAlive: false
    }]] as const
  ) {
    it.effect(`is answered at once, each time${what}`, () =>
      Effect.gen(function*() {
        const { raw, sent } = yield* calling(options)
        for (let asked = 1; asked <= 3; asked++) {
          raw.write(there)
          yield* receives(raw, ...sent, ...new Array<Buffer>(asked).fill(there))
        }
        raw.write(Buffer.concat([there, there]))
        yield* receives(raw, ...sent, ...new Array<Buffer>(5).fill(there))
      }).pipe(onNetwork))
  }

  it.effect("is answered also while it goes away", () =>
    Effect.gen(function*() {
      const { call, raw, sent } = yield* calling()
      raw.write(versionWith(2))
      yield* receives(raw, ...sent, versionWith(4))
      raw.write(versionWith(2 | 16))
      yield* receives(raw, ...sent, versionWith(4), there)
      raw.write(message(1, 2, bytesOf("done")))
      assert.equal(textOf(yield* Fiber.join(call)), "done")
      yield* raw.closed
    }).pipe(onNetwork))

  it.effect("is answered also where it asks in its first version message", () =>
    Effect.gen(function*() {
      const a = yield* byHand("a")
      const connection = yield* connect([a.endpoint], { keepAlive })
      yield* fork(connection.call(put, bytesOf("one")))
      const raw = yield* a.accepted(there)
      yield* raw.until((bytes) => messagesOf(bytes).length === 3)
      assert.deepEqual(
        new Set(messagesOf(raw.received()).map(({ payload, type }) => `${type} ${payload.toString("hex")}`).slice(1)),
        new Set([
          `0 ${there.subarray(16).toString("hex")}`,
          `1 ${request(1, put, bytesOf("one")).subarray(16).toString("hex")}`
        ])
      )
    }).pipe(onNetwork))

  it.effect("is not answered where it does not say that it understands flags, since the message means something else", () =>
    Effect.gen(function*() {
      const { call, raw, sent } = yield* calling()
      raw.write(Buffer.concat([message(0, 0, Buffer.from([0, 0, 0, 0, 16, 0, 0, 0])), message(1, 2, bytesOf("done"))]))
      assert.equal(textOf(yield* Fiber.join(call)), "done")
      yield* settle
      yield* receives(raw, ...sent)
    }).pipe(onNetwork))

  it.effect("is answered only a limited number of times while it takes none of the answers", () =>
    Effect.gen(function*() {
      const { raw, sent } = yield* calling({ keepAlive: false, maxUnsentBytes: 10_000 })
      raw.socket.pause()
      const before = Buffer.concat(sent).length
      const many = Buffer.concat(new Array<Buffer>(1000).fill(there))
      for (let i = 0; i < 20; i++) {
        raw.write(many)
        yield* settle
      }
      raw.socket.resume()
      yield* settle
      // What is on its way in memory, and what may wait.
      const answers = raw.received().length - before
      assert.ok(answers >= 10_000 && answers < 200_000, `${answers} bytes of answers`)
      // It has room again, and is answered.
      raw.write(there)
      yield* raw.until(({ length }) => length === before + answers + there.length)
    }).pipe(onNetwork))
})
