/** What a client does when a server says that it goes away: it sends that server no more calls, and says so. */
import { describe, it } from "@effect/vitest"
import { Effect, Fiber, SubscriptionRef } from "effect"
import { Balancer, CallError } from "effect-call"
import { TestNetwork } from "effect-call/testing"
import { TestClock } from "effect/testing"
import * as assert from "node:assert/strict"
import { byHand } from "../support/byHand.ts"
import { makeLog } from "../support/log.ts"
import { bytesOf, connect, textOf } from "../support/networks.ts"
import { cancel, clientVersion, message, messagesOf, receives, request, versionWith } from "../support/raw.ts"
import { hold } from "../support/stoppable.ts"
import { fork, goingAway, noMoreRequests, nothing, onNetwork, stateOf, withTwoCalls } from "./goingAwaySupport.ts"
import { ask, connectToListed, settle, startInMemory, untilState } from "./support.ts"

const kibibyte = 1024
const understood = versionWith(0)

/** The ids and types of messages. */
const kindsOf = (bytes: Buffer) => messagesOf(bytes).map(({ id, type }) => [id, type])

const isLost = (error: CallError.CallError, reason = "Lost") => {
  assert.ok(error._tag === "CommunicationError", error.message)
  assert.deepEqual([error.reason._tag, error.maybeExecuted], [reason, true])
}

describe("a client whose server goes away", () => {
  it.effect("says that no more requests follow, and closes the connection when its calls have ended", () =>
    Effect.gen(function*() {
      const { a, connection, one, raw, sent, two } = yield* withTwoCalls()
      yield* a.leave(raw)
      yield* receives(raw, ...sent, noMoreRequests)
      raw.write(message(1, 2, bytesOf("first")))
      assert.equal(textOf(yield* Fiber.join(one)), "first")
      yield* TestClock.adjust("1 hour")
      assert.equal(raw.socket.closed, false)
      assert.deepEqual(yield* stateOf(connection), {
        address: "memory://a",
        state: "Draining",
        callsInFlight: 1,
        inBackoff: false,
        isEjected: false,
        isServing: true,
        streams: 0,
        latency: 0,
        lastFailure: undefined
      })
      raw.write(message(2, 2, bytesOf("second")))
      assert.equal(textOf(yield* Fiber.join(two)), "second")
      yield* raw.closed
      yield* receives(raw, ...sent, noMoreRequests)
      assert.equal((yield* stateOf(connection))?.state, "Idle")
    }).pipe(onNetwork))

  it.effect("closes the connection at once where it has no calls", () =>
    Effect.gen(function*() {
      const { a, connection, one, raw, two } = yield* withTwoCalls()
      raw.write(Buffer.concat([message(1, 2), message(2, 2)]))
      yield* Fiber.join(one)
      yield* Fiber.join(two)
      yield* a.leave(raw)
      yield* raw.closed
      assert.equal((yield* stateOf(connection))?.state, "Idle")
    }).pipe(onNetwork))

  it.effect("sends no more calls to it, and sends them elsewhere", () =>
    Effect.gen(function*() {
      const b = yield* startInMemory("b")
      const { a, connection, endpoints, raw, sent } = yield* withTwoCalls()
      yield* SubscriptionRef.set(endpoints, [a.endpoint, b.endpoint])
      yield* a.leave(raw)
      yield* receives(raw, ...sent, noMoreRequests)
      assert.deepEqual(new Set(yield* Effect.replicateEffect(ask(connection), 10)), new Set(["b"]))
      yield* settle
      yield* receives(raw, ...sent, noMoreRequests)
    }).pipe(onNetwork))

  it.effect("may still give up what it has sent it", () =>
    Effect.gen(function*() {
      const { a, connection, one, raw, sent, two } = yield* withTwoCalls()
      yield* a.leave(raw)
      yield* receives(raw, ...sent, noMoreRequests)
      yield* Fiber.interrupt(one)
      yield* receives(raw, ...sent, noMoreRequests, cancel(1))
      assert.equal((yield* stateOf(connection))?.state, "Draining")
      // That was the last one: the end of the connection says the same.
      yield* Fiber.interrupt(two)
      yield* raw.closed
    }).pipe(onNetwork))

  it.effect("closes the connection also where its last call is late", () =>
    Effect.gen(function*() {
      const a = yield* byHand("a")
      const connection = yield* connect([a.endpoint])
      const call = yield* fork(connection.call(hold, nothing, { timeout: "10 seconds" }))
      const raw = yield* a.accepted()
      yield* raw.until((bytes) => messagesOf(bytes).length === 2)
      yield* a.leave(raw)
      yield* raw.until((bytes) => messagesOf(bytes).length === 3)
      yield* TestClock.adjust(9999)
      assert.equal(raw.socket.closed, false)
      yield* TestClock.adjust(1)
      assert.equal((yield* Effect.flip(Fiber.join(call)))._tag, "DeadlineExceeded")
      yield* raw.closed
    }).pipe(onNetwork))

  it.effect("says it once, even if the server says it several times", () =>
    Effect.gen(function*() {
      const { a, one, raw, sent, two } = yield* withTwoCalls()
      yield* a.leave(raw)
      raw.write(Buffer.concat([goingAway, goingAway]))
      yield* receives(raw, ...sent, noMoreRequests)
      // As an answer to its last word.
      raw.write(goingAway)
      yield* settle
      raw.write(Buffer.concat([message(1, 2), message(2, 2)]))
      yield* Fiber.join(one)
      yield* Fiber.join(two)
      yield* raw.closed
      yield* receives(raw, ...sent, noMoreRequests)
    }).pipe(onNetwork))

  it.effect("ignores what follows the version where bit 0 is not set", () =>
    Effect.gen(function*() {
      const { connection, raw, sent } = yield* withTwoCalls()
      raw.write(message(0, 0, Buffer.from("00000000feffffff", "hex")))
      yield* settle
      const three = yield* fork(connection.call(hold, nothing))
      yield* receives(raw, ...sent, request(3, hold, nothing))
      assert.equal((yield* stateOf(connection))?.state, "Active")
      yield* Fiber.interrupt(three)
    }).pipe(onNetwork))

  it.effect("sends its final version message behind all that was queued, and sends elsewhere what had no room", () =>
    Effect.gen(function*() {
      const b = yield* startInMemory("b")
      const a = yield* byHand("a")
      const { connection, list } = yield* connectToListed([a])
      // More than is taken by a server that does not read: what comes after it waits in our writer.
      const queued = [yield* fork(connection.call(hold, new Uint8Array(250 * kibibyte)))]
      const raw = yield* a.accepted()
      raw.socket.pause()
      yield* untilState(connection, ({ endpoints }) => endpoints[0]!.callsInFlight === 1)
      yield* settle
      queued.push(yield* fork(connection.call(hold, new Uint8Array(100))))
      queued.push(yield* fork(connection.call(hold, new Uint8Array(1024 * kibibyte))))
      const waiting = [yield* fork(ask(connection)), yield* fork(ask(connection))]
      yield* list(a, b)
      yield* settle
      assert.equal((yield* stateOf(connection))?.callsInFlight, 3)
      assert.deepEqual(waiting.map((call) => call.pollUnsafe()), [undefined, undefined])
      yield* a.leave(raw)
      for (const call of waiting) assert.equal(yield* Fiber.join(call), "b")
      assert.equal((yield* stateOf(connection))?.callsInFlight, 3)
      raw.socket.resume()
      const received = yield* raw.until((bytes) => messagesOf(bytes).length === 5)
      assert.deepEqual(kindsOf(received), [[0, 0], [1, 1], [2, 1], [3, 1], [0, 0]])
      assert.deepEqual(received.subarray(-noMoreRequests.length), noMoreRequests)
      for (const id of [1, 2, 3]) raw.write(message(id, 2))
      for (const call of queued) yield* Fiber.join(call)
      yield* raw.closed
    }).pipe(onNetwork))

  it.effect("drops what it had queued for calls that have ended", () =>
    Effect.gen(function*() {
      const { a, connection, raw, sent } = yield* withTwoCalls()
      raw.socket.pause()
      const plug = yield* fork(connection.call(hold, new Uint8Array(250 * kibibyte)))
      yield* settle
      const ended = yield* fork(connection.call(hold, nothing))
      const wanted = yield* fork(connection.call(hold, bytesOf("wanted")))
      yield* a.leave(raw)
      yield* settle
      yield* Fiber.interrupt(ended)
      raw.socket.resume()
      const received = yield* raw.until((bytes) => messagesOf(bytes).length === 6)
      assert.deepEqual(kindsOf(received), [[0, 0], [1, 1], [2, 1], [3, 1], [5, 1], [0, 0]])
      assert.ok(received.subarray(0, 24).equals(sent[0]!))
      yield* Fiber.interrupt(plug)
      yield* Fiber.interrupt(wanted)
    }).pipe(onNetwork))

  it.effect("fails the calls that it still had where the connection is lost, and says so", () =>
    Effect.gen(function*() {
      const log = makeLog()
      yield* Effect.gen(function*() {
        const { a, connection, one, raw, two } = yield* withTwoCalls()
        yield* a.leave(raw)
        yield* untilState(connection, ({ endpoints }) => endpoints[0]!.state === "Draining")
        raw.socket.destroy()
        isLost(yield* Effect.flip(Fiber.join(one)))
        isLost(yield* Effect.flip(Fiber.join(two)))
        assert.deepEqual((yield* stateOf(connection))?.lastFailure, "memory://a: read ECONNRESET")
        yield* settle
      }).pipe(Effect.provide(log.layer))
      assert.deepEqual(log.lines.map(({ level, message }) => [level, message]), [["Warn", "a connection was lost"]])
    }).pipe(onNetwork))

  it.effect("can be closed meanwhile, which ends its calls", () =>
    Effect.gen(function*() {
      const { a, connection, one, raw, two } = yield* withTwoCalls()
      yield* a.leave(raw)
      yield* untilState(connection, ({ endpoints }) => endpoints[0]!.state === "Draining")
      yield* connection.close
      isLost(yield* Effect.flip(Fiber.join(one)), "Closed")
      isLost(yield* Effect.flip(Fiber.join(two)), "Closed")
      yield* raw.closed
      assert.deepEqual(yield* connection.state, { closed: true, endpoints: [] })
    }).pipe(onNetwork))

  it.effect("is still in backoff where it is listed again while it drains", () =>
    Effect.gen(function*() {
      const { a, connection, endpoints, raw } = yield* withTwoCalls({ backoff: { initial: "1 minute", jitter: 0 } })
      yield* TestNetwork.fault("a", { dial: "refuse" })
      yield* a.leave(raw)
      yield* untilState(connection, ({ endpoints: [endpoint] }) => endpoint?.state === "Draining")
      assert.equal((yield* Effect.flip(ask(connection)))._tag, "Unreachable")
      assert.equal((yield* stateOf(connection))?.inBackoff, true)
      for (const listed of [[], [a.endpoint]]) {
        yield* SubscriptionRef.set(endpoints, listed)
        yield* settle
      }
      const avoided: Array<string> = []
      const balancer = yield* Balancer.make((_, { avoid }) => {
        avoided.push([...avoid].join())
        return Effect.fail(new CallError.Unreachable({ message: "none", attempts: [] }))
      })
      assert.equal((yield* Effect.flip(ask(connection, { balancer })))._tag, "Unreachable")
      assert.deepEqual(avoided, ["memory://a"])
    }).pipe(onNetwork))
})

describe("a server that goes away before it has been sent anything", () => {
  it.effect("is dialed again at once, since another one may be there: no call fails", () =>
    Effect.gen(function*() {
      const a = yield* byHand("a")
      const connection = yield* connect([a.endpoint])
      const calling = yield* fork(Effect.all([1, 2, 3].map(() => connection.call(hold, nothing)), {
        concurrency: "unbounded"
      }))
      const first = yield* a.accepted(goingAway)
      yield* first.closed
      const second = yield* a.accepted()
      const requests = [1, 2, 3].map((id) => request(id, hold, nothing))
      yield* receives(second, clientVersion, ...requests)
      for (const id of [1, 2, 3]) second.write(message(id, 2, bytesOf("done")))
      assert.deepEqual((yield* Fiber.join(calling)).map(textOf), ["done", "done", "done"])
      assert.equal((yield* stateOf(connection))?.lastFailure, undefined)
    }).pipe(onNetwork))

  it.effect("is one that could not be dialed where it says so once more: the call goes elsewhere", () =>
    Effect.gen(function*() {
      const b = yield* startInMemory("b")
      const a = yield* byHand("a")
      const connection = yield* connect([a.endpoint, b.endpoint])
      const asking = yield* fork(Effect.replicateEffect(ask(connection), 2))
      yield* a.accepted(goingAway)
      const raw = yield* a.accepted(goingAway)
      assert.deepEqual(yield* Fiber.join(asking), ["b", "b"])
      yield* raw.closed
      yield* receives(raw, clientVersion)
      const state = yield* stateOf(connection)
      assert.deepEqual([state?.state, state?.inBackoff, state?.lastFailure], [
        "Idle",
        true,
        "memory://a: it is going away"
      ])
    }).pipe(onNetwork))

  it.effect("is unreachable where there is no other", () =>
    Effect.gen(function*() {
      const a = yield* byHand("a")
      const connection = yield* connect([a.endpoint])
      const asking = yield* fork(Effect.flip(ask(connection)))
      yield* a.accepted(goingAway)
      yield* a.accepted(goingAway)
      const error = yield* Fiber.join(asking)
      assert.ok(error._tag === "Unreachable")
      assert.deepEqual(error.attempts, [{ endpoint: "memory://a", message: "memory://a: it is going away" }])
    }).pipe(onNetwork))

  it.effect("still gets the call that waited for it where it says so just after its version", () =>
    Effect.gen(function*() {
      const a = yield* byHand("a")
      const connection = yield* connect([a.endpoint])
      const calling = yield* fork(connection.call(hold, bytesOf("one")))
      const raw = yield* a.accepted(Buffer.concat([understood, goingAway]))
      yield* receives(raw, clientVersion, request(1, hold, bytesOf("one")), noMoreRequests)
      raw.write(message(1, 2, bytesOf("first")))
      assert.equal(textOf(yield* Fiber.join(calling)), "first")
      yield* raw.closed
    }).pipe(onNetwork))
})
