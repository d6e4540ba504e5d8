/**
 * Streams between a Connection and a server of ours.
 */
import { describe, it } from "@effect/vitest"
import { Deferred, Effect, Exit, Fiber, Queue, Stream } from "effect"
import { CallError, Connection, Endpoint, HandlerMap, Listener, MethodKey, Resolver, Server } from "effect-call"
import { CallTest, TestNetwork } from "effect-call/testing"
import * as assert from "node:assert/strict"
import { bytes, feed, textOf, texts } from "./streamsSupport.ts"
import { turn, until } from "./support.ts"

const size = 4_000_000
const large = Uint8Array.from({ length: size }, (_, n) => n * 7 + (n >> 8))

const { component, method } = feed

/** Gives its arguments, and then each item that comes. */
const echoing = HandlerMap.setStream(
  HandlerMap.empty,
  component,
  method,
  (args, items) => Stream.concat(Stream.make(args), items)
)

/** A Connection over TCP to a server of these handlers. */
const overTcp = <R>(handlers: HandlerMap.HandlerMap<R>) =>
  Effect.gen(function*() {
    const listener = yield* Listener.tcp("127.0.0.1:0", handlers)
    yield* Effect.forkScoped(Server.serve(listener), { startImmediately: true })
    return yield* Connection.make(Resolver.constant(Endpoint.tcp(listener.address.replace(/^tcp:\/\//, ""))))
  })

describe("a stream to a server of ours", () => {
  it.live("carries items both ways, of all sizes and in their order", () =>
    Effect.gen(function*() {
      const connection = yield* overTcp(echoing)
      const sizes = [0, 1, 15, 1000, 16_383, 16_384, 65_536, 262_144, 262_145, 1_500_000, 0, 3]
      const given = sizes.map((size, n) => Uint8Array.from({ length: size }, (_, i) => n + i * 7))
      const got = yield* Stream.runCollect(
        connection.stream(feed, bytes("args"), { items: Stream.fromIterable(given), timeout: "30 seconds" })
      )
      assert.equal(textOf(got[0]!), "args")
      assert.deepEqual(got.slice(1).map(({ length }) => length), sizes)
      assert.ok(got.slice(1).every((item, n) => Buffer.from(item).equals(given[n]!)))
    }).pipe(Effect.scoped))

  it.live("with large arguments opens after them, and calls with large arguments and answers go beside it", () =>
    Effect.gen(function*() {
      const connection = yield* overTcp(HandlerMap.set(echoing, component, "call", (args) => Effect.succeed(args)))
      const streaming = yield* Effect.forkChild(
        Stream.runCollect(connection.stream(feed, large, { items: Stream.make(large, bytes("x")) }))
      )
      assert.ok(Buffer.from(yield* connection.call(MethodKey.make(component, "call"), large)).equals(large))
      const got = yield* Fiber.join(streaming)
      assert.deepEqual(got.map(({ length }) => length), [size, size, 1])
      assert.ok(Buffer.from(got[0]!).equals(large) && Buffer.from(got[1]!).equals(large))
    }).pipe(Effect.scoped))

  it.live("holds up neither calls nor other streams while its consumer takes nothing", () =>
    Effect.gen(function*() {
      const endless = HandlerMap.setStream(echoing, component, "endless", () =>
        Stream.fromEffectRepeat(Effect.succeed(new Uint8Array(10_000))))
      const connection = yield* overTcp(endless)
      const pull = yield* Stream.toPull(connection.stream(MethodKey.make(component, "endless"), bytes("")))
      yield* pull
      assert.deepEqual(yield* texts(connection.stream(feed, bytes("a"))), ["a"])
      const [state] = (yield* connection.state).endpoints
      assert.deepEqual([state!.streams, state!.callsInFlight], [1, 0])
    }).pipe(Effect.scoped))

  it.live("interrupts its handler when its consumer has enough", () =>
    Effect.gen(function*() {
      const stopped = yield* Deferred.make<void>()
      const connection = yield* overTcp(HandlerMap.setStream(HandlerMap.empty, component, method, () =>
        Stream.ensuring(Stream.fromEffectRepeat(Effect.succeed(bytes("a"))), Deferred.succeed(stopped, undefined))))
      assert.equal((yield* Stream.runCollect(Stream.take(connection.stream(feed, bytes("")), 3))).length, 3)
      yield* Deferred.await(stopped)
    }).pipe(Effect.scoped))

  it.live("fails as its handler does, behind its items", () =>
    Effect.gen(function*() {
      const connection = yield* overTcp(HandlerMap.setStream(HandlerMap.empty, component, method, () =>
        Stream.concat(Stream.make(bytes("a"), bytes("b")), Stream.fail(new Error("no more")))))
      const got: Array<string> = []
      const stream = Stream.tap(connection.stream(feed, bytes("")), (item) =>
        Effect.sync(() => got.push(textOf(item))))
      const error = yield* Effect.flip(Stream.runDrain(stream))
      assert.ok(error instanceof CallError.RemoteError && error.message === "no more")
      assert.deepEqual(got, ["a", "b"])
    }).pipe(Effect.scoped))

  it.effect("to a method of calls, and a call to a method of streams, find no method", () =>
    Effect.gen(function*() {
      const connection = yield* Connection.Connection
      const error = yield* Effect.flip(texts(connection.stream(MethodKey.make(component, "call"), bytes(""))))
      assert.ok(error instanceof CallError.RemoteError && error.isUnknownMethod)
      const other = yield* Effect.flip(connection.call(feed, bytes("")))
      assert.ok(other instanceof CallError.RemoteError && other.isUnknownMethod)
    }).pipe(Effect.provide(CallTest.layer(HandlerMap.set(echoing, component, "call", Effect.succeed)))))

  it.effect("talks both ways over the in-memory network", () =>
    Effect.gen(function*() {
      const connection = yield* Connection.Connection
      const words = yield* Queue.make<Uint8Array>()
      const pull = yield* Stream.toPull(connection.stream(feed, bytes("hello"), { items: Stream.fromQueue(words) }))
      assert.deepEqual((yield* pull).map(textOf), ["hello"])
      for (const word of ["a", "b", "c"]) {
        yield* Queue.offer(words, bytes(word))
        assert.deepEqual((yield* pull).map(textOf), [word])
      }
      yield* Queue.shutdown(words)
      assert.ok(Exit.isFailure(yield* Effect.exit(pull)))
    }).pipe(Effect.scoped, Effect.provide(CallTest.layer(echoing))))

  it.effect("can be interrupted at any time: nothing is left of it on either side", () =>
    Effect.gen(function*() {
      let [handlers, clients] = [0, 0]
      const around = <E>(stream: Stream.Stream<Uint8Array, E>, count: (by: number) => void) =>
        Stream.suspend(() => {
          count(1)
          return Stream.ensuring(stream, Effect.sync(() => count(-1)))
        })
      const conversing = HandlerMap.setStream(HandlerMap.empty, component, method, (args, items) =>
        around(Stream.concat(Stream.make(args, args), items), (by) =>
          handlers += by))
      yield* TestNetwork.listen("a", conversing)
      const connection = yield* Connection.make(Resolver.constant(yield* TestNetwork.endpoint("a")))
      const sizes = [1, 300_000, 10]
      for (let turns = 0; turns < 60; turns++) {
        const items = around(
          Stream.concat(
            Stream.map(Stream.fromIterable(sizes), (size) =>
              new Uint8Array(size)),
            Stream.never
          ),
          (by) =>
            clients += by
        )
        const args = new Uint8Array(turns % 2 === 0 ? 10 : 300_000)
        const running = yield* Effect.forkChild(Stream.runDrain(connection.stream(feed, args, { items })), {
          startImmediately: true
        })
        for (let n = 0; n < turns; n++) yield* turn
        yield* Fiber.interrupt(running)
        const [state] = (yield* connection.state).endpoints
        assert.deepEqual([state!.streams, clients], [0, 0], `after ${turns} turns`)
      }
      yield* until(() => handlers === 0)
      assert.deepEqual(yield* texts(Stream.take(connection.stream(feed, bytes("a")), 1)), ["a"])
    }).pipe(Effect.scoped, Effect.provide(TestNetwork.layer)))

  it.effect("is lost with its server's connection", () =>
    Effect.gen(function*() {
      yield* TestNetwork.listen("a", echoing)
      const connection = yield* Connection.make(Resolver.constant(yield* TestNetwork.endpoint("a")))
      const pull = yield* Stream.toPull(connection.stream(feed, bytes("hello"), { items: Stream.never }))
      assert.deepEqual((yield* pull).map(textOf), ["hello"])
      yield* TestNetwork.fault("a", { cutAfter: { toClient: 0 } })
      const error = yield* Effect.flip(pull)
      assert.ok(error instanceof CallError.CommunicationError && error.reason._tag === "Lost")
    }).pipe(Effect.scoped, Effect.provide(TestNetwork.layer)))
})
