/**
 * `maxUnsentBytes` of a server: what becomes of a client that asks and does not read its answers.
 */
import { describe, it } from "@effect/vitest"
import { Effect, Exit, Fiber, Latch, Scope } from "effect"
import { Connection, HandlerMap, MethodKey, Resolver, Server } from "effect-call"
import { TestNetwork } from "effect-call/testing"
import { TestClock } from "effect/testing"
import * as assert from "node:assert/strict"
import { settle, turn } from "../Connection/support.ts"
import { bytesOf, component, echo } from "../support/networks.ts"
import { cancel, messagesOf, type Raw, rawClient, request, version, versionWith } from "../support/raw.ts"

const make = MethodKey.make(component, "make")
const makeLater = MethodKey.make(component, "make later")
const hang = MethodKey.make(component, "hang")
const nothing = new Uint8Array()
const onNetwork = Effect.provide(TestNetwork.layer)

/** A request for an answer of so many bytes. */
const ask = (id: number, size: number, key = make, deadlineMicros = 0) =>
  request(id, key, bytesOf(String(size)), deadlineMicros)

/**
 * In memory so many bytes of answers are on their way to a client that does not read, and the socket holds one write
 * besides.
 */
const window = 65_536

/** A server whose clients' network takes nothing until it is healed, and one of these clients, which has said hello. */
const open = Effect.fnUntraced(function*(options: Server.ServerOptions) {
  const made: Array<number> = []
  const state = { running: 0, interrupted: 0 }
  const gate = yield* Latch.make(false)
  const answer = (args: Uint8Array) =>
    Effect.sync(() => {
      const size = Number(Buffer.from(args).toString())
      made.push(size)
      return new Uint8Array(size).fill(made.length)
    })
  const handlers = HandlerMap.empty.pipe(
    HandlerMap.set(component, "make", answer),
    HandlerMap.set(component, "make later", (args) => {
      state.running++
      return Effect.andThen(gate.await, answer(args))
    }),
    HandlerMap.set(component, "echo", (args) => Effect.succeed(args)),
    HandlerMap.set(component, "hang", () => {
      state.running++
      return Effect.onInterrupt(Effect.never, () => Effect.sync(() => state.interrupted++))
    })
  )
  const listener = yield* TestNetwork.listener("a", handlers)
  const serving = yield* Effect.forkScoped(Server.serve(listener, { shutdownGrace: 0, ...options }), {
    startImmediately: true
  })
  const endpoint = yield* TestNetwork.endpoint("a")
  const scope = yield* Scope.make()
  const client = yield* Scope.provide(rawClient(endpoint), scope)
  client.write(version)
  yield* client.until((bytes) => bytes.length >= version.length)
  yield* TestNetwork.fault("a", { blackHole: "toClient" })
  const send = (...messages: ReadonlyArray<Buffer>) => {
    client.write(Buffer.concat(messages))
    return settle
  }
  return { client, send, made, state, gate, serving, endpoint, leave: Scope.close(scope, Exit.void) }
})

const answersOf = (client: Raw) => messagesOf(client.received()).slice(1)

/** Waits for so many answers. */
const answers = (client: Raw, count: number) =>
  Effect.map(client.until((bytes) => messagesOf(bytes).length > count), () => answersOf(client))

describe("a client that does not read its answers", () => {
  for (
    const [what, short, expected] of [
      [
        "goes on being served while a byte less than maxUnsentBytes waits for it, and has one answer more made at most",
        1,
        3
      ],
      ["is served no further when maxUnsentBytes wait for it", 0, 2]
    ] as const
  ) {
    it.effect(what, () =>
      Effect.gen(function*() {
        const { made, send } = yield* open({ maxUnsentBytes: 300_000 })
        // The network takes this, and nothing more: all of it waits.
        yield* send(ask(1, 200_000 - 16))
        yield* send(ask(2, 100_000 - 16 - short))
        assert.equal(made.length, 2)
        yield* send(ask(3, 500_000))
        yield* send(ask(4, 0))
        assert.equal(made.length, expected)
      }).pipe(Effect.scoped, onNetwork))
  }

  it.effect("has no call started that was read before and deferred", () =>
    Effect.gen(function*() {
      // Seven handlers start in a turn, so that it is a later one in which there is no more room.
      const { made, send } = yield* open({ maxUnsentBytes: 100_000, inlineHandlerDuration: 0 })
      yield* send(...Array.from({ length: 100 }, (_, i) => ask(i + 1, i < 7 ? 10 : 50_000)))
      assert.deepEqual(made.slice(7), [50_000, 50_000])
    }).pipe(Effect.scoped, onNetwork))

  it.effect("gets them all when it does, in order, and never are many more made than it has taken", () =>
    Effect.gen(function*() {
      const size = 50_000
      const maxUnsentBytes = 100_000
      const { client, made, send } = yield* open({ maxUnsentBytes, inlineHandlerDuration: 0 })
      yield* send(...Array.from({ length: 100 }, (_, i) => ask(i + 1, size)))
      const seen = { bytes: 0 }
      client.socket.on("data", (chunk: Buffer) => void (seen.bytes += chunk.length))
      yield* TestNetwork.heal("a")
      while (seen.bytes < 100 * (size + 16)) {
        const untaken = made.length * (size + 16) - seen.bytes
        assert.ok(untaken <= maxUnsentBytes + size + 3 * window, `${untaken} bytes were made, and not taken`)
        yield* turn
      }
      assert.deepEqual(answersOf(client).map(({ id }) => id), Array.from({ length: 100 }, (_, i) => i + 1))
    }).pipe(Effect.scoped, onNetwork))

  it.effect("also gets the answers of handlers that ran already: they come on top of maxUnsentBytes", () =>
    Effect.gen(function*() {
      const { client, gate, made, send, state } = yield* open({
        maxUnsentBytes: 100_000,
        maxConcurrentCallsPerConnection: 5
      })
      yield* send(...Array.from({ length: 8 }, (_, i) => ask(i + 1, 80_000, makeLater)))
      assert.equal(state.running, 5)
      yield* gate.open
      yield* settle
      // All that ran have answered; nothing more is started.
      assert.deepEqual([made.length, state.running], [5, 5])
      yield* TestNetwork.heal("a")
      assert.equal((yield* answers(client, 8)).length, 8)
    }).pipe(Effect.scoped, onNetwork))

  it.effect("is heard when it reads again: what it has cancelled meanwhile is interrupted then", () =>
    Effect.gen(function*() {
      const { client, send, state } = yield* open({ maxUnsentBytes: 100_000 })
      yield* send(request(1, hang, nothing), ask(2, 200_000))
      yield* send(cancel(1))
      assert.deepEqual(state, { running: 1, interrupted: 0 })
      yield* TestNetwork.heal("a")
      yield* answers(client, 2)
      assert.equal(state.interrupted, 1)
    }).pipe(Effect.scoped, onNetwork))

  it.effect("has calls whose deadline passes before it reads never started, and is told so when it does", () =>
    Effect.gen(function*() {
      const { client, made, send } = yield* open({ maxUnsentBytes: 100_000 })
      yield* send(ask(1, 200_000), ask(2, 10, make, 1_000_000), ask(3, 20))
      assert.equal(made.length, 1)
      yield* TestClock.adjust("1 second")
      yield* settle
      yield* TestNetwork.heal("a")
      const [, second, third] = yield* answers(client, 3)
      assert.equal(second?.id, 2)
      assert.match(String(second?.payload), /context deadline exceeded/)
      assert.equal(third?.payload.length, 20)
      assert.deepEqual(made, [200_000, 20])
    }).pipe(Effect.scoped, onNetwork))

  it.effect("takes no places from other clients' calls, neither to run nor to wait", () =>
    Effect.gen(function*() {
      const { endpoint, made, send, state } = yield* open({
        maxUnsentBytes: 100_000,
        maxConcurrentCalls: 3,
        maxQueuedCalls: 1
      })
      yield* send(...Array.from({ length: 10 }, (_, i) => ask(i + 1, 200_000)))
      assert.equal(made.length, 1)
      const other = yield* rawClient(endpoint)
      other.write(Buffer.concat([version, ...Array.from({ length: 5 }, (_, i) => request(i + 1, hang, nothing))]))
      yield* settle
      assert.equal(state.running, 3)
      // One waits, and one is refused: the answer is on its way.
      yield* TestNetwork.heal("a")
      const [refused, ...more] = yield* answers(other, 1)
      assert.match(String(refused?.payload), /overloaded/)
      assert.deepEqual([refused?.id, more], [5, []])
    }).pipe(Effect.scoped, onNetwork))

  it.effect("leaves nothing behind when it is lost: its calls never start, and others have their places", () =>
    Effect.gen(function*() {
      const { endpoint, leave, made, send } = yield* open({ maxUnsentBytes: 100_000, maxConcurrentCalls: 1 })
      yield* send(ask(1, 200_000), ask(2, 1), ask(3, 2))
      yield* leave
      yield* settle
      yield* TestNetwork.heal("a")
      const connection = yield* Connection.make(Resolver.constant(endpoint))
      assert.deepEqual(yield* connection.call(echo, bytesOf("next")), bytesOf("next"))
      assert.deepEqual(made, [200_000])
    }).pipe(Effect.scoped, onNetwork))

  it.effect("does not keep its server from stopping when the grace is over, and half a second for what waits for it", () =>
    Effect.gen(function*() {
      const { client, made, send, serving } = yield* open({ maxUnsentBytes: 100_000, shutdownGrace: "1 second" })
      yield* send(ask(1, 200_000), ask(2, 1))
      const stopping = yield* Effect.forkChild(Fiber.interrupt(serving), { startImmediately: true })
      yield* settle
      yield* TestClock.adjust("1499 millis")
      assert.equal(stopping.pollUnsafe(), undefined)
      yield* TestClock.adjust(1)
      yield* Fiber.join(stopping)
      yield* TestNetwork.heal("a")
      yield* client.closed
      assert.deepEqual(made, [200_000])
    }).pipe(Effect.scoped, onNetwork))

  it.effect("has served what it had sent before its server stopped, also where it does not understand that it stops", () =>
    Effect.gen(function*() {
      const { client, send, serving } = yield* open({ maxUnsentBytes: 100_000, shutdownGrace: "1 minute" })
      yield* send(ask(1, 200_000))
      // Nothing is read from it now.
      yield* send(ask(2, 20))
      const stopping = yield* Effect.forkChild(Fiber.interrupt(serving), { startImmediately: true })
      yield* settle
      yield* TestClock.adjust("1 second")
      yield* TestNetwork.heal("a")
      assert.deepEqual((yield* answers(client, 2)).map(({ id, payload }) => [id, payload.length]), [[1, 200_000], [
        2,
        20
      ]])
      yield* TestClock.adjust("1 second")
      yield* Fiber.join(stopping)
    }).pipe(Effect.scoped, onNetwork))

  it.effect("is not cut off as idle while it takes its answers", () =>
    Effect.gen(function*() {
      const size = 5_000_000
      const { client, send } = yield* open({ idleTimeout: "10 seconds", messageTimeout: "5 seconds" })
      const takes = Effect.fnUntraced(function*(bytes: number) {
        yield* TestNetwork.heal("a")
        client.socket.resume()
        yield* client.until(({ length }) => length >= bytes)
        client.socket.pause()
      })
      yield* send(ask(1, size))
      yield* TestClock.adjust("10 seconds")
      for (const bytes of [1_200_000, 2_400_000, 3_600_000]) {
        yield* takes(bytes)
        yield* TestClock.adjust("5 seconds")
        yield* settle
      }
      client.socket.resume()
      assert.equal((yield* answers(client, 1))[0]?.payload.length, size)
    }).pipe(Effect.scoped, onNetwork))

  for (const [what, key] of [["took long", makeLater], ["was answered at once", make]] as const) {
    it.effect(`has as long to take the answer of its last call on a connection that was idle, where that ${what}`, () =>
      Effect.gen(function*() {
        const size = 5_000_000
        const { client, gate, send } = yield* open({ idleTimeout: "10 seconds", messageTimeout: "5 seconds" })
        yield* send(versionWith(0))
        yield* TestClock.adjust("10 seconds")
        if (key === makeLater) yield* send(ask(1, size, key))
        yield* TestClock.adjust("4999 millis")
        if (key === make) yield* send(ask(1, size, key))
        yield* gate.open
        yield* settle
        yield* TestClock.adjust("4 seconds")
        yield* settle
        yield* TestNetwork.heal("a")
        const [, goingAway, answer] = yield* answers(client, 3)
        assert.deepEqual([goingAway?.type, answer?.id, answer?.payload.length], [0, 1, size])
      }).pipe(Effect.scoped, onNetwork))
  }

  it.effect("is cut off as idle where it takes nothing", () =>
    Effect.gen(function*() {
      const { client, send } = yield* open({ idleTimeout: "10 seconds", messageTimeout: "5 seconds" })
      yield* send(ask(1, 5_000_000))
      yield* TestClock.adjust("15 seconds")
      yield* TestNetwork.heal("a")
      yield* client.closed
    }).pipe(Effect.scoped, onNetwork))
})
