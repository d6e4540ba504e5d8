import { describe, it } from "@effect/vitest"
import { type Duration, Effect, Exit, Fiber, Option, Scope, type Tracer } from "effect"
import { Connection, Deadline, type Endpoint, Resolver } from "effect-call"
import { TestNetwork } from "effect-call/testing"
import { TestClock } from "effect/testing"
import * as assert from "node:assert/strict"
import type { Socket } from "node:net"
import { bytesOf, eachNetwork, tcp } from "../support/networks.ts"
import { message, messagesOf, type Raw, rawServer, version } from "../support/raw.ts"
import { ask, counted, elapse, settle, startInMemory, startOn, until, untilState } from "./support.ts"

const onNetwork = Effect.provide(TestNetwork.layer)

const connectTo = (endpoints: ReadonlyArray<Endpoint.Endpoint>, options?: Connection.ClientOptions) =>
  Connection.make(Resolver.constant(...endpoints), options)

const fork = <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.forkChild(effect, { startImmediately: true })

/** An accepted connection is a socket. */
const reset = (raw: Raw) => void (raw.socket as Socket).resetAndDestroy()

const startAll = (...names: ReadonlyArray<string>) => Effect.forEach(names, startInMemory)

describe("a dial", () => {
  it.effect("is shared by a hundred concurrent calls", () =>
    Effect.gen(function*() {
      const a = yield* startInMemory("a")
      const endpoint = counted(a.endpoint)
      const connection = yield* connectTo([endpoint])
      const calls = Effect.all(Array.from({ length: 100 }, () => ask(connection)), { concurrency: "unbounded" })
      yield* calls
      assert.deepEqual([endpoint.dials, a.accepted, a.answered], [1, 1, 100])
      // And so is the one after a loss.
      yield* TestNetwork.fault("a", { cutAfter: { toClient: 0 } })
      yield* until(() => a.open === 0)
      yield* TestNetwork.heal("a")
      yield* settle
      yield* calls
      assert.deepEqual([endpoint.dials, a.accepted, a.answered], [2, 2, 200])
    }).pipe(onNetwork))

  eachNetwork((network) => {
    it.live("is one connection for its server, which any number of calls share", () =>
      Effect.gen(function*() {
        const a = yield* startOn(network)("a")
        const connection = yield* connectTo([a.endpoint])
        const calls = Effect.all(Array.from({ length: 100 }, () => ask(connection)), { concurrency: "unbounded" })
        yield* calls
        assert.deepEqual([a.accepted, a.answered], [1, 100])
      }))
  })

  it.effect("that hangs delays no call that picks another endpoint", () =>
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

  it.effect("goes on for later calls when the calls that wait for it are interrupted, or have no time left", () =>
    Effect.gen(function*() {
      const a = yield* startInMemory("a")
      const endpoint = counted(a.endpoint)
      yield* TestNetwork.fault("a", { dial: "hang" })
      const connection = yield* connectTo([endpoint])
      const interrupted = yield* Effect.forkChild(ask(connection), { startImmediately: true })
      yield* settle
      yield* Fiber.interrupt(interrupted)
      // Each has less time than the dial takes.
      for (let i = 0; i < 10; i++) {
        const late = yield* Effect.forkChild(Effect.flip(ask(connection, { timeout: "100 millis" })), {
          startImmediately: true
        })
        assert.equal(yield* elapse(late, 100), 100)
        assert.equal((yield* Fiber.join(late))._tag, "DeadlineExceeded")
      }
      assert.equal((yield* connection.state).endpoints[0]!.state, "Dialing")
      yield* TestNetwork.heal("a")
      yield* settle
      // No call waited for it, and it is there.
      assert.equal((yield* connection.state).endpoints[0]!.state, "Active")
      assert.equal(yield* ask(connection, { timeout: "100 millis" }), "a")
      assert.deepEqual([endpoint.dials, a.accepted], [1, 1])
    }).pipe(onNetwork))

  it.effect("ends at dialTimeout also when no call waits for it, and counts for the backoff", () =>
    Effect.gen(function*() {
      const a = yield* startInMemory("a")
      const endpoint = counted(a.endpoint)
      yield* TestNetwork.fault("a", { blackHole: true })
      const connection = yield* connectTo([endpoint], { backoff: { initial: "1 second", jitter: 0 } })
      const call = yield* Effect.forkChild(ask(connection), { startImmediately: true })
      yield* settle
      yield* Fiber.interrupt(call)
      yield* TestClock.adjust("5 seconds")
      yield* settle
      const { endpoints: [state] } = yield* connection.state
      assert.deepEqual([state!.state, state!.inBackoff], ["Idle", true])
      assert.match(state!.lastFailure!, /no connection and version message within 5s/)
      assert.equal((yield* Effect.flip(ask(connection)))._tag, "Unreachable")
      assert.equal(endpoint.dials, 1)
      // Its socket has been closed: the other end sees that when it sees anything.
      yield* TestNetwork.heal("a")
      yield* until(() => a.open === 0)
      yield* TestClock.adjust("1 second")
      assert.equal(yield* ask(connection), "a")
    }).pipe(onNetwork))

  it.live("ends, and its socket is closed, when the Connection closes", () =>
    Effect.gen(function*() {
      const accepted: Array<Raw> = []
      const endpoint = yield* rawServer((raw) => void accepted.push(raw))
      for (const waits of [true, false]) {
        const connection = yield* connectTo([endpoint])
        const call = yield* Effect.forkChild(Effect.flip(ask(connection)), { startImmediately: true })
        const raw = yield* Effect.andThen(until(() => accepted.length > 0), Effect.sync(() => accepted.pop()!))
        // Connected, and our version has come; the server's never will.
        yield* until(() => raw.received().length > 0)
        if (!waits) yield* Fiber.interrupt(call)
        yield* settle
        assert.equal(raw.socket.readableEnded, false)
        yield* connection.close
        yield* raw.closed
        if (!waits) continue
        const error = yield* Fiber.join(call)
        assert.ok(error._tag === "CommunicationError", error._tag)
        assert.deepEqual([error.reason._tag, error.maybeExecuted], ["Closed", false])
      }
    }))

  for (
    const [how, end] of [
      ["ends", (raw: Raw) => void raw.socket.end()],
      ["resets", reset]
    ] as const
  ) {
    it.live(`that a server ${how} before its version message, as one that goes away may, is made once more at once`, () =>
      Effect.gen(function*() {
        const accepted: Array<Raw> = []
        const endpoint = yield* rawServer((raw) => {
          if (accepted.push(raw) === 1) return end(raw)
          raw.write(version)
        })
        const connection = yield* connectTo([endpoint], { backoff: { initial: "1 minute" } })
        const calls = yield* Effect.forEach([1, 2, 3], () => fork(ask(connection)))
        yield* until(() => accepted.length === 2 && messagesOf(accepted[1]!.received()).length === 4)
        for (const id of [1, 2, 3]) accepted[1]!.write(message(id, 2, bytesOf("a")))
        for (const call of calls) assert.equal(yield* Fiber.join(call), "a")
        assert.equal(accepted.length, 2)
      }))
  }

  it.live("that is cut short is made once more also where an earlier one was, before it was connected", () =>
    Effect.gen(function*() {
      const accepted: Array<Raw> = []
      const endpoint = yield* rawServer((raw) => {
        if (accepted.push(raw) % 2 === 1) return reset(raw)
        raw.write(version)
      })
      const connection = yield* connectTo([endpoint], { backoff: { initial: "1 minute" } })
      for (let i = 1; i <= 3; i++) {
        const call = yield* fork(ask(connection))
        yield* until(() => {
          const last = accepted[2 * i - 1]
          return call.pollUnsafe() !== undefined || (last !== undefined && messagesOf(last.received()).length === 2)
        })
        accepted[2 * i - 1]?.write(message(1, 2, bytesOf("a")))
        assert.equal(yield* Fiber.join(call), "a")
        accepted[2 * i - 1]?.socket.end()
        yield* untilState(connection, ({ endpoints }) => endpoints[0]!.state === "Idle")
      }
    }))

  it.live("that is cut short is not repeated without limit: the call goes on to the next endpoint", () =>
    Effect.gen(function*() {
      const b = yield* startOn(tcp)("b")
      let accepted = 0
      const endpoint = yield* rawServer((raw) => {
        accepted++
        reset(raw)
      })
      const connection = yield* connectTo([endpoint, b.endpoint], { backoff: { initial: 0 } })
      for (let i = 0; i < 5; i++) assert.equal(yield* ask(connection), "b")
      // Once more at first. From then on the endpoint fails, and is dialed once in its turn.
      assert.equal(accepted, 2 + 4)
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
