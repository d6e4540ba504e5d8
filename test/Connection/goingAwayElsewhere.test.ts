/** Where calls go when a server goes away: to other endpoints, or to the server that listens at its address next. */
import { describe, it } from "@effect/vitest"
import { Effect, Fiber, References, SubscriptionRef } from "effect"
import { Balancer, Connection, Resolver } from "effect-call"
import { TestNetwork } from "effect-call/testing"
import { TestClock } from "effect/testing"
import * as assert from "node:assert/strict"
import { byHand } from "../support/byHand.ts"
import { makeLog } from "../support/log.ts"
import { meteredInMemory } from "../support/metrics.ts"
import { bytesOf, connect, eachNetwork, echo, textOf } from "../support/networks.ts"
import { message, messagesOf, type Raw, receives } from "../support/raw.ts"
import { hold, stoppable } from "../support/stoppable.ts"
import { fork, goingAway, noMoreRequests, nothing, onNetwork, stateOf, withTwoCalls } from "./goingAwaySupport.ts"
import { ask, settle, startInMemory, until, untilState } from "./support.ts"

describe("an endpoint whose server goes away", () => {
  eachNetwork((network) => {
    it.live("is dialed again where another one listens by then, and no call fails", () =>
      Effect.gen(function*() {
        const listen = yield* network.place("server")
        const first = yield* stoppable({}, listen)
        const connection = yield* connect([first.endpoint])
        const held = yield* fork(connection.call(hold, bytesOf("held")))
        yield* until(() => first.calls.running === 1)
        const stopping = yield* first.stop
        yield* untilState(connection, ({ endpoints }) => endpoints[0]!.state === "Draining")
        const second = yield* stoppable({}, listen)
        assert.equal(textOf(yield* connection.call(echo, bytesOf("hello"))), "hello")
        assert.deepEqual([first.calls.echoed, second.calls.echoed], [0, 1])
        const [state] = (yield* connection.state).endpoints
        assert.deepEqual([state?.state, state?.callsInFlight], ["Active", 1])
        yield* first.gate.open
        assert.equal(textOf(yield* Fiber.join(held)), "held")
        yield* Fiber.join(stopping)
        yield* connection.call(echo, nothing)
        assert.equal(second.calls.echoed, 2)
      }).pipe(Effect.scoped))

    it.live("gets and answers what is large and on its way, in both directions", () =>
      Effect.gen(function*() {
        const { calls, endpoint, gate, stop } = yield* stoppable({}, network.listen)
        const connection = yield* connect([endpoint])
        const large = (byte: number) => new Uint8Array(8_000_000).fill(byte)
        const answering = yield* fork(connection.call(hold, large(1)))
        yield* until(() => calls.running === 1)
        // The one has yet to be sent, and the other to be answered.
        const sending = yield* fork(connection.call(hold, large(2)))
        yield* gate.open
        const stopping = yield* stop
        yield* untilState(connection, ({ endpoints }) => endpoints[0]!.state !== "Active")
        assert.ok(Buffer.compare(yield* Fiber.join(answering), large(1)) === 0)
        assert.ok(Buffer.compare(yield* Fiber.join(sending), large(2)) === 0)
        yield* Fiber.join(stopping)
      }).pipe(Effect.scoped))
  })

  it.effect("is waited for by calls that wait for one that is ready", () =>
    Effect.gen(function*() {
      const { a, connection, one, raw, two } = yield* withTwoCalls()
      yield* a.leave(raw)
      yield* untilState(connection, ({ endpoints }) => endpoints[0]!.state === "Draining")
      const waiting = yield* fork(ask(connection, { waitForReady: true }))
      yield* TestClock.adjust("1 second")
      assert.equal(waiting.pollUnsafe(), undefined)
      yield* startInMemory("a")
      yield* TestClock.adjust("5 seconds")
      assert.equal(yield* Fiber.join(waiting), "a")
      raw.write(Buffer.concat([message(1, 2), message(2, 2)]))
      yield* Fiber.join(one)
      yield* Fiber.join(two)
    }).pipe(onNetwork))

  it.effect("is dialed anew where it is listed no longer, and then again", () =>
    Effect.gen(function*() {
      const { a, connection, endpoints, one, raw, sent, two } = yield* withTwoCalls()
      yield* a.leave(raw)
      yield* receives(raw, ...sent, noMoreRequests)
      const again = yield* startInMemory("a")
      const b = yield* startInMemory("b")
      const list = (...listed: ReadonlyArray<typeof b>) =>
        Effect.andThen(SubscriptionRef.set(endpoints, listed.map(({ endpoint }) => endpoint)), settle)
      yield* list(b)
      assert.equal((yield* stateOf(connection))?.state, "Draining")
      assert.deepEqual(yield* Effect.replicateEffect(ask(connection), 2), ["b", "b"])
      yield* list(again, b)
      assert.deepEqual((yield* Effect.replicateEffect(ask(connection), 2)).toSorted(), ["a", "b"])
      const state = yield* stateOf(connection)
      assert.deepEqual([state?.state, state?.callsInFlight], ["Active", 2])
      raw.write(Buffer.concat([message(1, 2), message(2, 2)]))
      yield* Fiber.join(one)
      yield* Fiber.join(two)
      yield* raw.closed
      yield* receives(raw, ...sent, noMoreRequests)
      assert.deepEqual((yield* Effect.replicateEffect(ask(connection), 2)).toSorted(), ["a", "b"])
      assert.equal(again.accepted, 1)
    }).pipe(onNetwork))

  it.effect("is dialed anew also where it was listed no longer when it said so", () =>
    Effect.gen(function*() {
      const { a, connection, endpoints, one, raw, sent, two } = yield* withTwoCalls()
      yield* Effect.andThen(SubscriptionRef.set(endpoints, []), settle)
      yield* a.leave(raw)
      yield* receives(raw, ...sent, noMoreRequests)
      const again = yield* startInMemory("a")
      yield* Effect.andThen(SubscriptionRef.set(endpoints, [again.endpoint]), settle)
      assert.equal(yield* ask(connection), "a")
      yield* receives(raw, ...sent, noMoreRequests)
      raw.write(Buffer.concat([message(1, 2), message(2, 2)]))
      yield* Fiber.join(one)
      yield* Fiber.join(two)
      yield* raw.closed
    }).pipe(onNetwork))

  it.effect("is gone with its last call where it is listed no longer, before or after", () =>
    Effect.gen(function*() {
      for (const order of ["told first", "unlisted first"]) {
        yield* Effect.gen(function*() {
          const { a, connection, endpoints, one, raw, sent, two } = yield* withTwoCalls()
          const unlist = Effect.andThen(SubscriptionRef.set(endpoints, []), settle)
          if (order === "unlisted first") yield* unlist
          yield* a.leave(raw)
          yield* receives(raw, ...sent, noMoreRequests)
          if (order === "told first") yield* unlist
          assert.equal((yield* stateOf(connection))?.state, "Draining")
          raw.write(Buffer.concat([message(1, 2), message(2, 2)]))
          yield* Fiber.join(one)
          yield* Fiber.join(two)
          assert.deepEqual((yield* connection.state).endpoints, [])
          yield* raw.closed
        }).pipe(Effect.scoped)
      }
    }).pipe(onNetwork))

  it.effect("goes on with its other connections, and dials the missing one meanwhile", () =>
    Effect.gen(function*() {
      const a = yield* byHand("a")
      const connection = yield* Connection.make(Resolver.constant(a.endpoint), { connectionsPerEndpoint: 2 })
      const inFlight = [yield* fork(connection.call(hold, bytesOf("1")))]
      const first = yield* a.accepted()
      yield* first.until((bytes) => messagesOf(bytes).length === 2)
      inFlight.push(yield* fork(connection.call(hold, bytesOf("2"))))
      const second = yield* a.accepted()
      yield* settle
      const requests = (raw: Raw) => messagesOf(raw.received()).filter(({ type }) => type === 1).length
      inFlight.push(yield* fork(connection.call(hold, bytesOf("3"))))
      yield* until(() => requests(first) === 2 && requests(second) === 1)
      // This process of several at the address goes away, and the others do not.
      first.write(goingAway)
      yield* first.until((bytes) => bytes.subarray(-24).equals(noMoreRequests))
      inFlight.push(yield* fork(connection.call(hold, bytesOf("4"))))
      const third = yield* a.accepted()
      yield* until(() => requests(second) === 2)
      yield* settle
      inFlight.push(yield* fork(connection.call(hold, bytesOf("5"))))
      yield* until(() => requests(third) === 1)
      assert.deepEqual([requests(first), requests(second)], [2, 2])
      const state = yield* stateOf(connection)
      assert.deepEqual([state?.state, state?.callsInFlight], ["Active", 5])
      // There are as many as there are to be: the next call dials none.
      inFlight.push(yield* fork(connection.call(hold, bytesOf("6"))))
      yield* until(() => requests(third) === 2)
      const fourth = yield* fork(a.accepted())
      yield* settle
      assert.equal(fourth.pollUnsafe(), undefined)
      yield* Effect.forEach(inFlight, Fiber.interrupt)
      yield* first.closed
      assert.deepEqual([second.socket.closed, third.socket.closed], [false, false])
    }).pipe(onNetwork))

  it.effect("is in backoff at once, also for balancers, where another connection to it could not be dialed", () =>
    Effect.gen(function*() {
      const a = yield* byHand("a")
      const b = yield* startInMemory("b")
      const avoided: Array<ReadonlyArray<string>> = []
      const connection = yield* Connection.make(Resolver.constant(a.endpoint, b.endpoint), {
        connectionsPerEndpoint: 2,
        balancer: Balancer.make((endpoints, { avoid }) => {
          avoided.push([...avoid])
          return Effect.succeed(endpoints.find(({ address }) => !avoid.has(address))!)
        })
      })
      const inFlight = [yield* fork(connection.call(hold, nothing))]
      const raw = yield* a.accepted()
      yield* settle
      yield* TestNetwork.fault("a", { dial: "refuse" })
      inFlight.push(yield* fork(connection.call(hold, nothing)))
      yield* settle
      yield* a.leave(raw)
      yield* settle
      assert.equal((yield* stateOf(connection))?.inBackoff, true)
      assert.equal(yield* ask(connection), "b")
      assert.deepEqual(avoided, [[], [], ["memory://a"]])
      yield* Effect.forEach(inFlight, Fiber.interrupt)
    }).pipe(onNetwork))
})

describe("an orderly restart", () => {
  const levels = (log: ReturnType<typeof makeLog>) =>
    log.lines.filter(({ annotations }) => "endpoint" in annotations).map(({ annotations, level, message }) => [
      level,
      message,
      ...("reason" in annotations ? [annotations.reason] : [])
    ])

  it.effect("is no warning where another server listens by the next call", () =>
    Effect.gen(function*() {
      const log = makeLog()
      yield* Effect.gen(function*() {
        const { a, connection, one, raw, two } = yield* withTwoCalls()
        yield* a.leave(raw)
        yield* startInMemory("a")
        yield* untilState(connection, ({ endpoints }) => endpoints[0]!.state === "Draining")
        yield* ask(connection)
        raw.write(Buffer.concat([message(1, 2), message(2, 2)]))
        yield* Fiber.join(one)
        yield* Fiber.join(two)
        yield* raw.closed
      }).pipe(Effect.provide(log.layer), Effect.provideService(References.MinimumLogLevel, "Debug"))
      assert.deepEqual(levels(log), [
        ["Debug", "an endpoint is dialed"],
        ["Debug", "an endpoint is connected"],
        ["Debug", "a connection drains", "its server goes away"],
        ["Debug", "an endpoint is dialed"],
        ["Debug", "an endpoint is connected"]
      ])
    }).pipe(onNetwork))

  it.effect("is one warning where a call comes while no server listens", () =>
    Effect.gen(function*() {
      const log = makeLog()
      yield* Effect.gen(function*() {
        const { a, connection, one, raw, two } = yield* withTwoCalls()
        yield* a.leave(raw)
        yield* untilState(connection, ({ endpoints }) => endpoints[0]!.state === "Draining")
        for (let i = 0; i < 3; i++) {
          assert.equal((yield* Effect.flip(ask(connection)))._tag, "Unreachable")
          yield* TestClock.adjust("10 seconds")
        }
        yield* startInMemory("a")
        yield* ask(connection)
        raw.write(Buffer.concat([message(1, 2), message(2, 2)]))
        yield* Fiber.join(one)
        yield* Fiber.join(two)
      }).pipe(Effect.provide(log.layer))
      assert.deepEqual(levels(log), [
        ["Warn", "an endpoint could not be dialed", "connection refused: no server listens on \"a\""]
      ])
    }).pipe(onNetwork))

  it.effect(
    "is seen in the metrics: one connection that drains and one that is active",
    meteredInMemory((metrics) =>
      Effect.gen(function*() {
        const { a, connection, one, raw, two } = yield* withTwoCalls()
        const count = (state: string) =>
          metrics.values("rpc.client.connection.count", { "rpc.connection.state": state })[0]
        const seen = () => ["active", "draining", "idle", "dialing"].map(count)
        assert.deepEqual(seen(), [1, 0, 0, 0])
        yield* a.leave(raw)
        yield* untilState(connection, ({ endpoints }) => endpoints[0]!.state === "Draining")
        assert.deepEqual(seen(), [0, 1, 0, 0])
        yield* startInMemory("a")
        yield* ask(connection)
        assert.deepEqual(seen(), [1, 1, 0, 0])
        assert.deepEqual(metrics.values("rpc.client.active_requests"), [2])
        raw.write(Buffer.concat([message(1, 2), message(2, 2)]))
        yield* Fiber.join(one)
        yield* Fiber.join(two)
        assert.deepEqual(seen(), [1, 0, 0, 0])
        assert.deepEqual(metrics.values("rpc.client.dial.failures"), [0])
      })
    )
  )
})
