/**
 * A client that asks for much and takes nothing: how much of its answers is kept for it, and for how long.
 */
import { describe, it } from "@effect/vitest"
import { Effect, Latch } from "effect"
import { HandlerMap, MethodKey, type Server } from "effect-call"
import { TestClock } from "effect/testing"
import * as assert from "node:assert/strict"
import { settle, until } from "../Connection/support.ts"
import { makeLog } from "../support/log.ts"
import { bytesOf, component, eachNetwork, memory, mtlsOverTcp, type Network, tcp, unix } from "../support/networks.ts"
import { messagesOf, rawClient, request, version } from "../support/raw.ts"

const make = MethodKey.make(component, "make")
const makeLater = MethodKey.make(component, "make later")
const hang = MethodKey.make(component, "hang")

/** A request for an answer of so many bytes. */
const ask = (id: number, size: number, key = make) => request(id, key, bytesOf(String(size)))

/** A server, and a client that has said hello and reads nothing from then on. */
const open = Effect.fnUntraced(function*(options: Server.ServerOptions, network: Network = memory) {
  const log = makeLog()
  const state = { made: 0, running: 0, interrupted: 0 }
  const gate = yield* Latch.make(false)
  const answer = (args: Uint8Array) =>
    Effect.sync(() => {
      state.made++
      return new Uint8Array(Number(Buffer.from(args).toString())).fill(state.made)
    })
  const running = <A>(effect: Effect.Effect<A>) =>
    Effect.suspend(() => {
      state.running++
      return effect
    }).pipe(
      Effect.onInterrupt(() => Effect.sync(() => state.interrupted++)),
      Effect.ensuring(Effect.sync(() => state.running--))
    )
  const handlers = HandlerMap.empty.pipe(
    HandlerMap.set(component, "make", answer),
    HandlerMap.set(component, "make later", (args) => running(Effect.andThen(gate.await, answer(args)))),
    HandlerMap.set(component, "hang", () => running(Effect.never))
  )
  const { endpoint } = yield* network.serve(handlers, options).pipe(Effect.provide(log.layer))
  const client = yield* rawClient(endpoint)
  client.write(version)
  yield* client.until((bytes) => bytes.length >= version.length)
  client.socket.pause()
  const send = (...messages: ReadonlyArray<Buffer>) => {
    client.write(Buffer.concat(messages))
    return settle
  }
  const isOpen = () => !client.socket.readableEnded && !client.socket.closed
  /** The client reads until it has so many bytes. */
  const take = Effect.fnUntraced(function*(bytes: number) {
    client.socket.resume()
    yield* client.until(({ length }) => length >= bytes)
    client.socket.pause()
    yield* settle
  })
  const warnings = () => log.lines.map(({ level, message }) => `${level} ${message}`)
  return { client, gate, isOpen, send, state, take, warnings }
})

/** More than what is on its way in memory. */
const size = 5_000_000
const waiting = size + 16

describe("a client that takes nothing of what waits for it", () => {
  for (
    const [what, options, millis, after] of [
      ["30 seconds", {}, 30_000, "30s"],
      ["unsentTimeout", { unsentTimeout: "2 minutes" }, 120_000, "2m"],
      ["30 seconds also where what waits is less than maxUnsentBytes", { maxUnsentBytes: 10_000_000 }, 30_000, "30s"]
    ] as const
  ) {
    it.effect(`has its connection closed after ${what}, and its handlers interrupted`, () =>
      Effect.gen(function*() {
        const { client, isOpen, send, state, warnings } = yield* open(options)
        yield* send(request(1, hang, new Uint8Array()), ask(2, size))
        // What else it says is no sign that it takes anything.
        yield* TestClock.adjust(millis - 1)
        yield* send(version)
        yield* settle
        assert.deepEqual([isOpen(), state.running, warnings()], [true, 1, []])
        yield* TestClock.adjust(1)
        yield* until(() => state.interrupted === 1)
        assert.match(
          String(warnings()),
          new RegExp(`^Warn .* took nothing of \\d+ bytes of its answers within ${after}$`)
        )
        client.socket.resume()
        yield* client.closed
        assert.ok(client.received().length < size)
      }).pipe(Effect.scoped))
  }

  it.effect("keeps its connection where unsentTimeout is Infinity", () =>
    Effect.gen(function*() {
      const { client, send, state, take, warnings } = yield* open({ unsentTimeout: Infinity })
      yield* send(request(1, hang, new Uint8Array()), ask(2, size))
      yield* TestClock.adjust("30 days")
      assert.deepEqual([state.running, warnings()], [1, []])
      yield* take(version.length + waiting)
      assert.equal(messagesOf(client.received())[1]?.payload.length, size)
    }).pipe(Effect.scoped))

  it.effect("is distinguished from one that is slow: that gets its answer, even if it takes long", () =>
    Effect.gen(function*() {
      const { client, send, state, take, warnings } = yield* open({})
      yield* send(request(1, hang, new Uint8Array()), ask(2, size))
      // In memory it is seen that a piece has been taken, which is of a megabyte.
      for (const bytes of [1_200_000, 2_400_000, 3_600_000, 4_800_000]) {
        yield* TestClock.adjust("29 seconds")
        yield* take(bytes)
      }
      yield* TestClock.adjust("29 seconds")
      yield* take(version.length + waiting)
      // All of it is taken, and nothing waits any more.
      yield* TestClock.adjust("1 hour")
      assert.deepEqual([state.running, warnings()], [1, []])
      assert.equal(messagesOf(client.received())[1]?.payload.length, size)
    }).pipe(Effect.scoped))

  it.effect("has 30 seconds again from what it took last", () =>
    Effect.gen(function*() {
      const { isOpen, send, take, warnings } = yield* open({})
      yield* send(ask(1, size))
      yield* TestClock.adjust("29 seconds")
      yield* take(1_200_000)
      yield* TestClock.adjust("29 seconds")
      assert.equal(isOpen(), true)
      yield* TestClock.adjust("9 seconds")
      yield* settle
      assert.equal(warnings().length, 1)
    }).pipe(Effect.scoped))
})

describe("a client for which more than 16 times maxUnsentBytes wait", () => {
  const options = { maxUnsentBytes: 1_000_000, unsentTimeout: "10 seconds" } as const
  const answer = 1_000_000

  /** So many answers of a megabyte are made at once. */
  const makeAll = Effect.fnUntraced(function*(count: number, network: Network = memory) {
    const world = yield* open(options, network)
    const { gate, send, state } = world
    yield* send(
      request(1, hang, new Uint8Array()),
      ...Array.from({ length: count }, (_, i) => ask(i + 2, answer, makeLater))
    )
    yield* until(() => state.running === count + 1)
    yield* gate.open
    yield* until(() => state.running === 1 || state.interrupted > 0)
    return world
  })

  const tooMuch =
    /^Warn a connection was closed: its peer did not take its answers: \d{8} bytes of them wait, expected at most 16000000 \(16 times maxUnsentBytes\) and the largest$/

  eachNetwork((network) => {
    it.effect("has its connection closed when as much again comes and it takes nothing, and its handlers interrupted", () =>
      Effect.gen(function*() {
        const { client, state, warnings } = yield* makeAll(100, network)
        yield* until(() => state.running === 0)
        // The largest does not count, and the network takes a few megabytes itself.
        assert.ok(state.made >= 33 && state.made < 50, `${state.made} were made`)
        assert.equal(state.interrupted, 101 - state.made)
        const [warning, ...others] = warnings()
        assert.match(String(warning), tooMuch)
        assert.deepEqual(others, [])
        client.socket.resume()
        yield* client.closed
      }).pipe(Effect.scoped))
  }, [memory, tcp, unix, mtlsOverTcp])

  it.effect("has its connection closed when it takes nothing for 2 seconds", () =>
    Effect.gen(function*() {
      const { isOpen, state, warnings } = yield* makeAll(24)
      yield* TestClock.adjust(1999)
      yield* settle
      assert.deepEqual([isOpen(), state.running, warnings()], [true, 1, []])
      yield* TestClock.adjust(1)
      yield* until(() => state.interrupted === 1)
      assert.match(String(warnings()), tooMuch)
    }).pipe(Effect.scoped))

  it.effect("has its connection closed when it has not taken enough within unsentTimeout", () =>
    Effect.gen(function*() {
      const { isOpen, state, take, warnings } = yield* makeAll(31)
      // In memory it is seen that two of them have been taken.
      for (let taken = 1; taken <= 6; taken++) {
        yield* TestClock.adjust(1500)
        yield* take(taken * 2_100_000)
      }
      assert.deepEqual([isOpen(), warnings()], [true, []])
      yield* TestClock.adjust(1000)
      yield* until(() => state.interrupted === 1)
      assert.match(String(warnings()), tooMuch)
    }).pipe(Effect.scoped))

  it.effect("gets all of them where it goes on taking them", () =>
    Effect.gen(function*() {
      const { client, state, take, warnings } = yield* makeAll(18)
      for (let taken = 1; taken <= 4; taken++) {
        yield* TestClock.adjust(1500)
        yield* take(taken * 4_500_000)
      }
      yield* take(version.length + 18 * (answer + 16))
      assert.equal(messagesOf(client.received()).length, 19)
      yield* TestClock.adjust("1 hour")
      assert.deepEqual([state.running, warnings()], [1, []])
    }).pipe(Effect.scoped))

  it.effect("gets one answer that is larger than that by itself, and small ones before and after it", () =>
    Effect.gen(function*() {
      const { client, gate, send, state, take, warnings } = yield* open({ maxUnsentBytes: 10_000 })
      const sizes = [100, 3_000_000, 100, 100_000, 50_000]
      yield* send(...sizes.map((size, i) => ask(i + 1, size, makeLater)))
      yield* until(() => state.running === sizes.length)
      yield* gate.open
      yield* until(() => state.made === sizes.length)
      const total = sizes.reduce((sum, size) => sum + 16 + size, 0)
      yield* take(version.length + total)
      assert.deepEqual(messagesOf(client.received()).slice(1).map(({ payload }) => payload.length), sizes)
      assert.deepEqual(warnings(), [])
    }).pipe(Effect.scoped))

  it.effect("may have more of them than that again for another large one only: what it has taken does not count", () =>
    Effect.gen(function*() {
      const { client, gate, send, state, take, warnings } = yield* open({ maxUnsentBytes: 10_000 })
      yield* send(ask(1, 3_000_000))
      yield* take(version.length + 16 + 3_000_000)
      // More than the network and 16 times maxUnsentBytes are together, and less than what it has taken.
      yield* send(...Array.from({ length: 30 }, (_, i) => ask(i + 2, 50_000, makeLater)))
      yield* until(() => state.running === 30)
      yield* gate.open
      yield* until(() => state.running === 0)
      assert.equal(warnings().length, 1)
      client.socket.resume()
      yield* client.closed
    }).pipe(Effect.scoped))
})
