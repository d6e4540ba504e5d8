import { describe, it } from "@effect/vitest"
import { Clock, Effect, Fiber } from "effect"
import { Balancer, Connection, Endpoint, HandlerMap, Listener, Resolver } from "effect-call"
import { TestNetwork } from "effect-call/testing"
import { TestClock } from "effect/testing"
import * as assert from "node:assert/strict"
import { join } from "node:path"
import {
  ask,
  askSlowly,
  counted,
  echo,
  elapse,
  settle,
  start,
  startInMemory,
  startOn,
  until,
  untilState
} from "../../Connection/support.ts"
import { eachNetwork, temporaryDirectory } from "../../support/networks.ts"

const onNetwork = Effect.provide(TestNetwork.layer)

const connectTo = (endpoints: ReadonlyArray<Endpoint.Endpoint>, options?: Connection.ClientOptions) =>
  Connection.make(Resolver.constant(...endpoints), options)

const startAll = (...names: ReadonlyArray<string>) => Effect.forEach(names, startInMemory)

/** The endpoint, and when it was dialed, in milliseconds of the clock. */
const timed = (endpoint: Endpoint.Endpoint) => {
  const times: Array<number> = []
  const dial = Effect.andThen(Effect.map(Clock.currentTimeMillis, (now) => times.push(now)), endpoint.dial)
  return { endpoint: { address: endpoint.address, dial }, times }
}

const intervals = (times: ReadonlyArray<number>) => times.slice(1).map((time, i) => time - times[i]!)

/** The address of a TCP listener that has closed. */
const deadTcp = Effect.scoped(Effect.flatMap(
  Listener.tcp("127.0.0.1:0", HandlerMap.empty),
  ({ address }) => Endpoint.parse(address)
))

describe("a replica that is down", () => {
  it.effect("costs no failed call while others are up", () =>
    Effect.gen(function*() {
      const endpoints = (yield* startAll("a", "b", "c", "d")).map(({ endpoint }) => endpoint)
      yield* TestNetwork.fault("a", { dial: "refuse" })
      yield* TestNetwork.fault("c", { dial: "refuse" })
      const connection = yield* connectTo(endpoints)
      for (let i = 0; i < 40; i++) {
        assert.match(yield* ask(connection), /^[bd]$/)
        // Through many backoffs.
        yield* TestClock.adjust(20)
      }
    }).pipe(onNetwork))

  eachNetwork((network) => {
    const startReplica = startOn(network)
    const refused = { tcp: /ECONNREFUSED/, unix: /ENOENT/, memory: /connection refused: no server listens/ }
    const reason = refused[network.name.replace("mtls over ", "") as keyof typeof refused] // mTLS is over one of them

    it.live("costs no failed call while another is up", () =>
      Effect.gen(function*() {
        const replicas = yield* Effect.forEach(["dead", "stopped", "live"], startReplica)
        const [dead, stopped, live] = replicas
        yield* dead!.stop
        // Long enough to be looked at.
        const backoff = { initial: "1 minute", max: "1 minute" } as const
        const connection = yield* connectTo(replicas.map(({ endpoint }) => endpoint), { backoff })
        assert.deepEqual(yield* Effect.replicateEffect(ask(connection), 2), ["stopped", "live"])
        yield* stopped!.stop
        // Until the Connection knows: a call that had left before would be lost.
        yield* untilState(connection, ({ endpoints }) => endpoints[1]!.state === "Idle")
        for (let i = 0; i < 10; i++) assert.equal(yield* ask(connection), "live")
        const state = yield* connection.state
        assert.deepEqual(state.endpoints.map(({ state }) => state), ["Idle", "Idle", "Active"])
        assert.deepEqual(state.endpoints.map(({ inBackoff }) => inBackoff), [true, true, false])
        for (const endpoint of state.endpoints.slice(0, 2)) assert.match(endpoint.lastFailure!, reason)
        assert.equal(state.endpoints[2]!.lastFailure, undefined)
        assert.deepEqual([dead!.answered, stopped!.answered, live!.answered], [0, 1, 11])
      }))

    it.live("with all the others fails calls with what went wrong at each", () =>
      Effect.gen(function*() {
        const replicas = yield* Effect.forEach(["a", "b", "c"], startReplica)
        for (const { stop } of replicas) yield* stop
        const addresses = replicas.map(({ endpoint }) => endpoint.address)
        const connection = yield* connectTo(replicas.map(({ endpoint }) => endpoint))
        for (let i = 0; i < 3; i++) {
          const error = yield* Effect.flip(ask(connection))
          assert.ok(error._tag === "Unreachable", error._tag)
          assert.deepEqual(error.attempts.map(({ endpoint }) => endpoint).toSorted(), addresses.toSorted())
          for (const { message } of error.attempts) assert.match(message, reason)
        }
      }))

    it.live("is used again once another listens at its address", () =>
      Effect.gen(function*() {
        const listen = yield* network.place("place")
        const first = yield* start("first", listen)
        const other = yield* startReplica("other")
        const connection = yield* connectTo([first.endpoint, other.endpoint], { backoff: { initial: 5 } })
        assert.deepEqual([yield* ask(connection), yield* ask(connection)], ["first", "other"])
        yield* first.stop
        yield* untilState(connection, ({ endpoints }) => endpoints[0]!.state === "Idle")
        for (let i = 0; i < 5; i++) assert.equal(yield* ask(connection), "other")
        const second = yield* start("second", listen)
        assert.equal(second.endpoint.address, first.endpoint.address)
        yield* untilState(connection, ({ endpoints }) => !endpoints[0]!.inBackoff)
        const answers = yield* Effect.replicateEffect(ask(connection), 4)
        assert.deepEqual(answers.toSorted(), ["other", "other", "second", "second"])
      }))
  })

  it.live("with others of other kinds fails calls with what went wrong at each, also in the backoff that follows", () =>
    Effect.gen(function*() {
      const endpoints = [
        yield* deadTcp,
        Endpoint.unix(join(yield* temporaryDirectory, "absent")),
        Endpoint.tcp("no port")
      ]
      const connection = yield* connectTo(endpoints, { backoff: { initial: "1 minute", max: "1 minute" } })
      for (let i = 0; i < 3; i++) {
        const error = yield* Effect.flip(ask(connection))
        assert.ok(error._tag === "Unreachable", error._tag)
        assert.deepEqual(error.attempts.map(({ endpoint }) => endpoint), endpoints.map(({ address }) => address))
        const [first, second, third] = error.attempts.map(({ message }) => message)
        assert.match(first!, /ECONNREFUSED/)
        assert.match(second!, /ENOENT/)
        assert.match(third!, /"no port" has no port/)
        for (const { endpoint, message } of error.attempts) assert.ok(error.message.includes(`${endpoint}: ${message}`))
      }
    }))

  it.effect("is used again within its backoff once it is back", () =>
    Effect.gen(function*() {
      const [a, b] = yield* startAll("a", "b")
      yield* TestNetwork.fault("a", { dial: "refuse" })
      const connection = yield* connectTo([a!.endpoint, b!.endpoint])
      assert.equal(yield* ask(connection), "b")
      yield* TestNetwork.heal("a")
      yield* TestClock.adjust(39)
      assert.deepEqual(yield* Effect.replicateEffect(ask(connection), 4), ["b", "b", "b", "b"])
      // The first backoff is 50 ms, give or take a fifth.
      yield* TestClock.adjust(21)
      assert.deepEqual((yield* Effect.replicateEffect(ask(connection), 4)).toSorted(), ["a", "a", "b", "b"])
    }).pipe(onNetwork))
})

describe("the backoff of an endpoint", () => {
  const waiting = { waitForReady: true }

  it.effect("grows from 50 ms by 1.6 each time, up to 5 seconds, and starts over after a version message", () =>
    Effect.gen(function*() {
      const a = yield* startInMemory("a")
      yield* TestNetwork.fault("a", { dial: "refuse" })
      const { endpoint, times } = timed(a.endpoint)
      const connection = yield* connectTo([endpoint], { backoff: { jitter: 0 } })
      const call = yield* Effect.forkChild(ask(connection, waiting), { startImmediately: true })
      while (times.length < 14) {
        yield* settle
        yield* TestClock.adjust("1 second")
      }
      const expected = Array.from({ length: 13 }, (_, i) => Math.min(5000, 50 * 1.6 ** i))
      assert.equal(expected.at(-3), 5000 * Math.min(1, 50 * 1.6 ** 10 / 5000))
      intervals(times).forEach((interval, i) =>
        assert.ok(Math.abs(interval - expected[i]!) < 0.01, `${i}: ${interval}`)
      )

      yield* TestNetwork.heal("a")
      yield* elapse(call, 100)
      assert.equal(yield* Fiber.join(call), "a")
      yield* TestNetwork.fault("a", { dial: "refuse", cutAfter: { toServer: 0 } })
      yield* settle
      times.length = 0
      const again = yield* Effect.forkChild(ask(connection, waiting), { startImmediately: true })
      yield* settle
      yield* TestClock.adjust(200)
      yield* settle
      assert.deepEqual(intervals(times).map((interval) => Math.round(interval)), [50, 80])
      yield* Fiber.interrupt(again)
    }).pipe(onNetwork))

  it.effect("varies by up to a fifth", () =>
    Effect.gen(function*() {
      const endpoints = yield* Effect.forEach(Array.from({ length: 40 }, (_, i) => `dead ${i}`), TestNetwork.endpoint)
      const all = endpoints.map(timed)
      for (const { endpoint } of all) {
        const connection = yield* connectTo([endpoint])
        yield* Effect.forkChild(ask(connection, waiting), { startImmediately: true })
      }
      yield* TestClock.adjust("500 millis")
      const first = all.map(({ times }) => intervals(times)[0]!)
      const second = all.map(({ times }) => intervals(times)[1]!)
      for (const interval of first) assert.ok(interval >= 40 && interval <= 60, `${interval}`)
      for (const interval of second) assert.ok(interval >= 64 && interval <= 96, `${interval}`)
      // 40 of them in a half of the range: once in 10^12 runs.
      for (const [some, middle] of [[first, 50], [second, 80]] as const) {
        assert.ok(some.some((interval) => interval < middle) && some.some((interval) => interval > middle))
      }
    }).pipe(onNetwork))

  it.effect("is never longer than max, and varies below it", () =>
    Effect.gen(function*() {
      const endpoints = yield* Effect.forEach(Array.from({ length: 40 }, (_, i) => `dead ${i}`), TestNetwork.endpoint)
      const all = endpoints.map(timed)
      for (const { endpoint } of all) {
        const connection = yield* connectTo([endpoint], { backoff: { initial: "1 second", max: "1 second" } })
        yield* Effect.forkChild(ask(connection, waiting), { startImmediately: true })
      }
      yield* TestClock.adjust("3 seconds")
      const first = all.map(({ times }) => intervals(times)[0]!)
      for (const interval of [...first, ...all.map(({ times }) => intervals(times)[1]!)]) {
        assert.ok(interval >= 799.99 && interval <= 1000.01, `${interval}`)
      }
      // All 40 of them with a jitter that adds: once in 10^12 runs.
      assert.ok(first.some((interval) => interval < 1000))
    }).pipe(onNetwork))

  it.effect("is what the options say", () =>
    Effect.gen(function*() {
      const { endpoint, times } = timed(yield* TestNetwork.endpoint("dead"))
      const backoff = { initial: "1 second", factor: 3, max: "5 seconds", jitter: 0 } as const
      const connection = yield* connectTo([endpoint], { backoff })
      yield* Effect.forkChild(ask(connection, waiting), { startImmediately: true })
      yield* TestClock.adjust("15 seconds")
      assert.deepEqual(times, [0, 1000, 4000, 9000, 14_000])
    }).pipe(onNetwork))

  it.effect("holds for all callers: a hundred calls in it dial nothing", () =>
    Effect.gen(function*() {
      const endpoint = counted(yield* TestNetwork.endpoint("dead"))
      const connection = yield* connectTo([endpoint])
      const calls = Effect.all(Array.from({ length: 100 }, () => Effect.flip(ask(connection))), {
        concurrency: "unbounded"
      })
      const errors = [...yield* calls, ...yield* calls]
      assert.equal(endpoint.dials, 1)
      assert.ok(errors.every((error) => error._tag === "Unreachable" && error.attempts.length === 1))
    }).pipe(onNetwork))
})

describe("a connection that is lost", () => {
  it.effect("ends the calls in flight as maybe executed, and the next call dials again", () =>
    Effect.gen(function*() {
      const a = yield* startInMemory("a")
      const connection = yield* connectTo([a.endpoint])
      const calls = yield* Effect.forkChild(
        Effect.all(Array.from({ length: 10 }, () => Effect.flip(askSlowly(connection))), { concurrency: "unbounded" }),
        { startImmediately: true }
      )
      yield* until(() => a.holding === 10)
      yield* TestNetwork.fault("a", { cutAfter: { toClient: 0 } })
      for (const error of yield* Fiber.join(calls)) {
        assert.ok(error._tag === "CommunicationError", error._tag)
        assert.deepEqual([error.reason._tag, error.maybeExecuted, error.endpoint], ["Lost", true, "memory://a"])
        assert.match(error.message, /ECONNRESET/)
        assert.ok(error.cause instanceof Error)
      }
      const [state] = (yield* connection.state).endpoints
      assert.deepEqual([state!.state, state!.callsInFlight, state!.inBackoff], ["Idle", 0, false])
      assert.match(state!.lastFailure!, /ECONNRESET/)
      yield* TestNetwork.heal("a")
      assert.equal(yield* ask(connection), "a")
      assert.equal(a.accepted, 2)
      assert.equal((yield* connection.state).endpoints[0]!.lastFailure, undefined)
    }).pipe(onNetwork))

  for (
    const [where, names] of [["another endpoint", ["a", "b"]], ["a new connection to the same one", ["a"]]] as const
  ) {
    it.effect(`sends what had not left yet to ${where}`, () =>
      Effect.gen(function*() {
        const [a, b] = yield* startAll(...names)
        const replicas = b === undefined ? [a!] : [a!, b]
        const only = yield* Balancer.make((endpoints, { avoid }) =>
          Effect.succeed(endpoints.find(({ address }) => !avoid.has(address)) ?? endpoints[0]!)
        )
        const connection = yield* connectTo(replicas.map(({ endpoint }) => endpoint))
        assert.equal(yield* ask(connection, { balancer: only }), "a")
        yield* TestNetwork.fault("a", { blackHole: "toServer" })
        // What the socket has been given, and waits with.
        const large = new Uint8Array(250 * 1024)
        const left = yield* Effect.forkChild(Effect.flip(connection.call(echo, large, { balancer: only })), {
          startImmediately: true
        })
        yield* settle
        // What is still ours: small and copied, large, and more than there is room for.
        const queued = yield* Effect.forEach([10, 100, 100_000, 2_000_000, 1000, 200_000], (size) => {
          const args = new Uint8Array(size).fill(size & 0xff)
          const check = (answer: Uint8Array) =>
            assert.ok(Buffer.from(answer).equals(new Uint8Array(size).fill(size & 0xff)))
          return Effect.forkChild(
            Effect.map(connection.call(echo, args, { balancer: only, timeout: "1 minute" }), check),
            {
              startImmediately: true
            }
          )
        })
        yield* settle
        const before = a!.answered
        // Cut, and where there is another, down for good.
        yield* TestNetwork.fault("a", { dial: b === undefined ? "hang" : "refuse", cutAfter: { toServer: 0 } })
        const error = yield* Fiber.join(left)
        assert.ok(error._tag === "CommunicationError", error._tag)
        assert.deepEqual([error.reason._tag, error.maybeExecuted], ["Lost", true])
        if (b === undefined) yield* TestNetwork.heal("a")
        for (const call of queued) yield* Fiber.join(call)
        const last = replicas.at(-1)!
        assert.equal(last.answered, b === undefined ? before + 6 : 6)
      }).pipe(onNetwork))
  }
})
