import { describe, it } from "@effect/vitest"
import { Clock, type Duration, Effect, Exit, Fiber, Option, Scope, type Tracer } from "effect"
import { Balancer, Connection, Deadline, Endpoint, HandlerMap, Listener, Resolver } from "effect-call"
import { TestNetwork } from "effect-call/testing"
import { TestClock } from "effect/testing"
import * as assert from "node:assert/strict"
import { join } from "node:path"
import { temporaryDirectory, unix } from "../support/networks.ts"
import { message, type Raw, rawServer, version } from "../support/raw.ts"
import { ask, askSlowly, counted, echo, elapse, settle, start, startInMemory, until } from "./support.ts"

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

  it.live("costs no failed call on real sockets either", () =>
    Effect.gen(function*() {
      const directory = yield* temporaryDirectory
      const live = yield* start("live", unix.listen)
      const connection = yield* connectTo([yield* deadTcp, Endpoint.unix(join(directory, "nobody")), live.endpoint])
      for (let i = 0; i < 10; i++) assert.equal(yield* ask(connection), "live")
      const state = yield* connection.state
      assert.deepEqual(state.endpoints.map(({ state }) => state), ["Idle", "Idle", "Active"])
      assert.deepEqual(state.endpoints.map(({ inBackoff }) => inBackoff), [true, true, false])
      assert.match(state.endpoints[0]!.lastFailure!, /ECONNREFUSED/)
      assert.match(state.endpoints[1]!.lastFailure!, /ENOENT/)
      assert.equal(state.endpoints[2]!.lastFailure, undefined)
    }))

  it.live("with all the others fails calls with what went wrong at each, also in the backoff that follows", () =>
    Effect.gen(function*() {
      const endpoints = [
        yield* deadTcp,
        Endpoint.unix(join(yield* temporaryDirectory, "nobody")),
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

  it.live("is used again on the same socket file", () =>
    Effect.gen(function*() {
      const path = join(yield* temporaryDirectory, "socket")
      const listen = (handlers: HandlerMap.HandlerMap<never>) =>
        Effect.map(Listener.unix(path, handlers), (listener) => ({ listener, endpoint: Endpoint.unix(path) }))
      const first = yield* start("first", listen)
      const other = yield* start("other", unix.listen)
      const connection = yield* connectTo([first.endpoint, other.endpoint])
      assert.deepEqual([yield* ask(connection), yield* ask(connection)], ["first", "other"])
      yield* first.stop
      for (let i = 0; i < 5; i++) assert.equal(yield* ask(connection), "other")
      yield* start("second", listen)
      const answers = new Set<string>()
      while (!answers.has("second")) answers.add(yield* Effect.delay(ask(connection), 1))
      assert.deepEqual([...answers].toSorted(), ["other", "second"])
    }))
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

describe("a dial", () => {
  it.effect("is shared by a hundred concurrent calls to a fresh endpoint", () =>
    Effect.gen(function*() {
      const a = yield* startInMemory("a")
      const endpoint = counted(a.endpoint)
      const connection = yield* connectTo([endpoint])
      yield* Effect.all(Array.from({ length: 100 }, () => ask(connection)), { concurrency: "unbounded" })
      assert.deepEqual([endpoint.dials, a.accepted, a.answered], [1, 1, 100])
    }).pipe(onNetwork))

  it.live("is shared on real sockets, and so is the one after a loss", () =>
    Effect.gen(function*() {
      const a = yield* start("a", unix.listen)
      const connection = yield* connectTo([a.endpoint])
      const calls = Effect.all(Array.from({ length: 100 }, () => ask(connection)), { concurrency: "unbounded" })
      yield* calls
      assert.deepEqual([a.accepted, a.answered], [1, 100])
    }))

  it.effect("that hangs delays nobody who picks another endpoint", () =>
    Effect.gen(function*() {
      const [a, b] = yield* startAll("a", "b")
      yield* TestNetwork.fault("a", { dial: "hang" })
      const connection = yield* connectTo([a!.endpoint, b!.endpoint])
      const stuck = yield* Effect.forkChild(ask(connection), { startImmediately: true })
      assert.equal(yield* ask(connection), "b")
      const more = yield* Effect.forEach(Array.from({ length: 20 }), () =>
        Effect.forkChild(ask(connection), { startImmediately: true }))
      yield* until(() =>
        b!.answered === 11
      )
      assert.equal(stuck.pollUnsafe(), undefined)
      yield* TestNetwork.heal("a")
      assert.equal(yield* Fiber.join(stuck), "a")
      const answers = yield* Effect.forEach(more, (fiber) => Fiber.join(fiber))
      assert.deepEqual(answers.toSorted(), [...Array(10).fill("a"), ...Array(10).fill("b")])
      assert.equal(a!.accepted, 1)
    }).pipe(onNetwork))

  it.effect("ends at dialTimeout, and the call goes on to the next endpoint", () =>
    Effect.gen(function*() {
      const [a, b] = yield* startAll("a", "b")
      yield* TestNetwork.fault("a", { blackHole: true })
      const connection = yield* connectTo([a!.endpoint, b!.endpoint])
      const call = yield* Effect.forkChild(ask(connection), { startImmediately: true })
      yield* settle
      yield* TestClock.adjust("4999 millis")
      yield* settle
      assert.equal(call.pollUnsafe(), undefined)
      yield* TestClock.adjust("1 millis")
      assert.equal(yield* Fiber.join(call), "b")
      const [state] = (yield* connection.state).endpoints
      assert.match(state!.lastFailure!, /no connection and version message within 5s/)
      assert.equal(state!.inBackoff, true)
      // Its socket has been closed: the other end sees that when it sees anything.
      yield* TestNetwork.heal("a")
      yield* until(() => a!.open === 0)
    }).pipe(onNetwork))

  it.effect("has the time that the options give", () =>
    Effect.gen(function*() {
      yield* TestNetwork.fault("a", { dial: "hang" })
      const connection = yield* connectTo([yield* TestNetwork.endpoint("a")], { dialTimeout: "70 millis" })
      const call = yield* Effect.forkChild(Effect.flip(ask(connection)), { startImmediately: true })
      assert.equal(yield* elapse(call), 70)
      const error = yield* Fiber.join(call)
      assert.ok(error._tag === "Unreachable", error._tag)
      assert.match(error.attempts[0]!.message, /within 70ms/)
    }).pipe(onNetwork))

  it.live("is abandoned, and its socket closed, when the last of its callers is interrupted", () =>
    Effect.gen(function*() {
      const accepted: Array<Raw> = []
      const endpoint = yield* rawServer((raw) => void accepted.push(raw))
      const connection = yield* connectTo([endpoint])
      const calls = yield* Effect.forEach(
        [1, 2, 3],
        () => Effect.forkChild(ask(connection), { startImmediately: true })
      )
      // Connected, and our version has come; the server's never will.
      yield* until(() => accepted[0] !== undefined && accepted[0].received().length > 0)
      yield* Fiber.interrupt(calls[0]!)
      yield* Fiber.interrupt(calls[1]!)
      yield* settle
      assert.equal(accepted[0]!.socket.readableEnded, false)
      assert.equal((yield* connection.state).endpoints[0]!.state, "Dialing")
      yield* Fiber.interrupt(calls[2]!)
      assert.equal((yield* connection.state).endpoints[0]!.state, "Idle")
      yield* accepted[0]!.closed
      // No failure of the endpoint, so no backoff: the next call dials at once.
      assert.deepEqual((yield* connection.state).endpoints[0]!.inBackoff, false)
      const next = yield* Effect.forkChild(ask(connection), { startImmediately: true })
      yield* until(() => accepted.length === 2)
      yield* Fiber.interrupt(next)
    }))

  it.live("is abandoned when the last of its callers has no time left, and when the Connection closes", () =>
    Effect.gen(function*() {
      const accepted: Array<Raw> = []
      const endpoint = yield* rawServer((raw) => void accepted.push(raw))
      const connection = yield* connectTo([endpoint])
      const late = yield* Effect.flip(ask(connection, { timeout: "30 millis" }))
      assert.equal(late._tag, "DeadlineExceeded")
      yield* until(() => accepted.length === 1)
      yield* accepted[0]!.closed
      const call = yield* Effect.forkChild(Effect.flip(ask(connection)), { startImmediately: true })
      yield* until(() => accepted.length === 2)
      yield* connection.close
      const error = yield* Fiber.join(call)
      assert.ok(error._tag === "CommunicationError", error._tag)
      assert.deepEqual([error.reason._tag, error.maybeExecuted], ["Closed", false])
      yield* accepted[1]!.closed
    }))

  it.effect("does not end with the deadline or the interruption of the call that started it", () =>
    Effect.gen(function*() {
      const a = yield* startInMemory("a")
      const endpoint = counted(a.endpoint)
      yield* TestNetwork.fault("a", { dial: "hang" })
      const connection = yield* connectTo([endpoint])
      const first = yield* Effect.forkChild(Effect.flip(Deadline.within(ask(connection), "10 millis")), {
        startImmediately: true
      })
      const second = yield* Effect.forkChild(ask(connection, { timeout: "10 millis" }), { startImmediately: true })
      const third = yield* Effect.forkChild(ask(connection), { startImmediately: true })
      const fourth = yield* Effect.forkChild(ask(connection), { startImmediately: true })
      yield* settle
      yield* TestClock.adjust("10 millis")
      assert.equal((yield* Fiber.join(first))._tag, "DeadlineExceeded")
      assert.equal((yield* Effect.flip(Fiber.join(second)))._tag, "DeadlineExceeded")
      yield* Fiber.interrupt(third)
      yield* TestNetwork.heal("a")
      assert.equal(yield* Fiber.join(fourth), "a")
      assert.equal(endpoint.dials, 1)
    }).pipe(onNetwork))

  it.effect("knows nothing of the deadline, the span, the options and the Scope of the call that started it", () =>
    Effect.gen(function*() {
      const a = yield* startInMemory("a")
      let remaining: Option.Option<Duration.Duration> | undefined
      let span: Option.Option<Tracer.AnySpan> | undefined
      let scope: Scope.Scope | undefined
      const endpoint: Endpoint.Endpoint = {
        address: a.endpoint.address,
        dial: Effect.gen(function*() {
          remaining = yield* Deadline.remaining
          span = yield* Effect.option(Effect.currentParentSpan)
          scope = yield* Effect.scope
          return yield* a.endpoint.dial
        })
      }
      const own = yield* Scope.make()
      // The Connection itself is made in the middle of it all.
      const connection = yield* connectTo([endpoint]).pipe(
        Deadline.within("1 second"),
        Effect.withSpan("making"),
        Scope.provide(own)
      )
      yield* Effect.scoped(ask(connection)).pipe(Deadline.within("1 second"), Effect.withSpan("calling"))
      assert.deepEqual(remaining, Option.none())
      assert.deepEqual(span, Option.none())
      assert.notEqual(scope, own)
      assert.equal(yield* ask(connection), "a")
      yield* Scope.close(own, Exit.void)
    }).pipe(onNetwork))
})

describe("a Connection that is made inside a call", () => {
  it.effect("does not end with that call's deadline", () =>
    Effect.gen(function*() {
      const a = yield* startInMemory("a")
      const scope = yield* Scope.make()
      const connection = yield* Connection.make(Resolver.constant(a.endpoint)).pipe(
        Scope.provide(scope),
        Deadline.within("10 millis")
      )
      yield* TestClock.adjust("1 minute")
      assert.equal(yield* ask(connection), "a")
      yield* Scope.close(scope, Exit.void)
      assert.equal((yield* Effect.flip(ask(connection)))._tag, "CommunicationError")
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
        const large = new Uint8Array(512 * 1024)
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

  it.live("before the request could leave is dialed once more, and not again and again", () =>
    Effect.gen(function*() {
      const peer = yield* misbehaving((raw) => {
        // In one segment: the connection is ready and broken before anything else can happen.
        raw.write(Buffer.concat([version, message(1, 9)]))
      })
      const connection = yield* connectTo([peer.endpoint])
      const error = yield* Effect.flip(ask(connection))
      assert.ok(error._tag === "Unreachable", error._tag)
      assert.match(error.message, /lost before the request was sent: .* a message of type 9/)
      assert.equal(peer.connections, 2)
    }))
})

/** A server that says its version, and then does what it is told to. */
const misbehaving = (behave: (raw: Raw, connection: number) => void) => {
  let connections = 0
  return Effect.map(
    rawServer((raw) => behave(raw, ++connections)),
    (endpoint) => ({
      endpoint,
      get connections() {
        return connections
      }
    })
  )
}

/** Calls `then` with each chunk that comes after the client's version message. */
const afterVersion = (raw: Raw, then: () => void) => {
  raw.write(version)
  raw.socket.on("data", () => {
    if (raw.received().length > 24) then()
  })
}

describe("a peer that is none", () => {
  const cases: ReadonlyArray<readonly [string, (raw: Raw) => void, RegExp]> = [
    ["accepts and closes", (raw) => void raw.socket.end(), /closed the connection before its version message/],
    ["accepts and resets", (raw) => void raw.socket.destroy(), /closed the connection|ECONNRESET|EPIPE/],
    ["never says its version", () => {}, /no connection and version message within 60ms/],
    [
      "writes garbage first",
      (raw) => raw.write(Buffer.from("HTTP/1.1 400 Bad Request\r\n\r\n")),
      /a message of type 32/
    ],
    [
      "says its version with an id",
      (raw) => raw.write(message(1, 0, Buffer.alloc(4))),
      /version message with id 1/
    ],
    [
      "says its version in 3 bytes",
      (raw) => raw.write(message(0, 0, Buffer.alloc(3))),
      /version message of 3 bytes/
    ],
    ["sends a request", (raw) => raw.write(message(1, 1, Buffer.alloc(49))), /a message of type 1/],
    [
      "announces 2^48 bytes",
      (raw) => raw.write(Buffer.concat([Buffer.alloc(8), Buffer.from([0, 0, 0, 0, 0, 0, 0, 1])])),
      /over the limit/
    ]
  ]
  for (const [what, behave, expected] of cases) {
    it.live(`which ${what}, is Unreachable, and left alone for its backoff`, () =>
      Effect.gen(function*() {
        const closed: Array<Effect.Effect<void>> = []
        const peer = yield* misbehaving((raw) => {
          closed.push(raw.closed)
          behave(raw)
        })
        const connection = yield* connectTo([peer.endpoint], {
          dialTimeout: "60 millis",
          backoff: { initial: "1 minute", max: "1 minute" }
        })
        for (let i = 0; i < 2; i++) {
          const error = yield* Effect.flip(ask(connection))
          assert.ok(error._tag === "Unreachable", error._tag)
          assert.equal(error.attempts.length, 1)
          assert.equal(error.attempts[0]!.endpoint, peer.endpoint.address)
          assert.match(error.attempts[0]!.message, expected)
        }
        assert.equal(peer.connections, 1)
        yield* Effect.all(closed)
      }))
  }
})

describe("a peer that breaks the protocol later", () => {
  const cases: ReadonlyArray<readonly [string, (id: number) => Uint8Array, RegExp]> = [
    ["writes garbage", () => Buffer.from("no such thing as a message"), /a message of type/],
    ["sends a request of its own", () => message(7, 1, Buffer.alloc(49)), /a message of type 1/],
    ["sends a cancel", (id) => message(id, 4), /a message of type 4/],
    ["announces more than a message may have", (id) => {
      const header = message(id, 2)
      header.writeUIntLE(104_857_601, 9, 6)
      return header
    }, /104857601 bytes/],
    [
      "answers with an error chain that cannot be read",
      (id) => message(id, 3, Buffer.alloc(5)),
      /response error that cannot be read/
    ],
    ["says its version with an id", () => message(3, 0, Buffer.alloc(4)), /version message with id 3/]
  ]
  for (const [what, bytes, expected] of cases) {
    it.live(`which ${what}, ends its calls with Protocol, and the next call dials anew`, () =>
      Effect.gen(function*() {
        const peer = yield* misbehaving((raw, connection) =>
          afterVersion(raw, () => raw.write(connection === 1 ? bytes(1) : message(1, 2, Buffer.from("fine"))))
        )
        const connection = yield* connectTo([peer.endpoint])
        const error = yield* Effect.flip(ask(connection))
        assert.ok(error._tag === "CommunicationError", error._tag)
        assert.deepEqual([error.reason._tag, error.maybeExecuted], ["Protocol", true])
        assert.equal(error.endpoint, peer.endpoint.address)
        assert.match(error.message, expected)
        assert.equal(yield* ask(connection), "fine")
        assert.equal(peer.connections, 2)
      }))
  }

  it.live("an answer to a call that nobody made is ignored, and so is another version message", () =>
    Effect.gen(function*() {
      const peer = yield* misbehaving((raw) =>
        afterVersion(raw, () => {
          raw.write(message(99, 2, Buffer.from("who?")))
          raw.write(message(98, 3, Buffer.alloc(3)))
          raw.write(message(0, 2, Buffer.from("who?")))
          raw.write(version)
          raw.write(message(1, 2, Buffer.from("fine")))
        })
      )
      const connection = yield* connectTo([peer.endpoint])
      assert.equal(yield* ask(connection), "fine")
      assert.equal((yield* connection.state).endpoints[0]!.state, "Active")
    }))
})
