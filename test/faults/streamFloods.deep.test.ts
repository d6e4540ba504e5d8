/** What streams meet in the end: floods of nothing, haste, and connections that are lost at any byte. */
import { describe, it } from "@effect/vitest"
import { Effect, Exit, Fiber, Stream } from "effect"
import { HandlerMap, MethodKey } from "effect-call"
import { TestNetwork } from "effect-call/testing"
import * as assert from "node:assert/strict"
import * as Networks from "../support/networks.ts"
import { echo, endless, makeStreams, mirror, sink, u32s } from "./streams.ts"
import { until } from "./wire.ts"

const nothing = new Uint8Array()

describe("a million empty items", () => {
  Networks.eachNetwork((network) => {
    it.live("come through, in both directions, one by one and together", () =>
      Effect.gen(function*() {
        const { handlers } = makeStreams()
        const { endpoint } = yield* network.serve(handlers)
        const connection = yield* Networks.connect([endpoint])
        for (const [count, chunkSize] of [[1_000_000, 4096], [50_000, 1]] as const) {
          const items = Stream.range(1, count, chunkSize).pipe(Stream.map(() => nothing))
          const results = connection.stream(mirror, nothing, { items })
          const lengths = yield* Stream.runFold(results, () => ({ count: 0, bytes: 0 }), (sum, item) => ({
            count: sum.count + 1,
            bytes: sum.bytes + item.length
          }))
          assert.deepEqual(lengths, { count, bytes: 0 })
        }
      }).pipe(Effect.scoped))
  }, [Networks.tcp])
})

describe("streams that are opened and canceled in haste", () => {
  Networks.eachNetwork((network) => {
    it.live("leave no handler and no open stream", () =>
      Effect.gen(function*() {
        const { handlers, seen } = makeStreams()
        const { endpoint } = yield* network.serve(handlers)
        const connection = yield* Networks.connect([endpoint])
        yield* connection.call(echo, nothing)
        for (let round = 0; round < 40; round++) {
          const fibers = yield* Effect.replicateEffect(
            Effect.forkChild(Stream.runDrain(connection.stream(endless, u32s(round % 2 === 0 ? 10 : 5000))), {
              startImmediately: true
            }),
            50
          )
          if (round % 4 === 1) yield* Effect.yieldNow
          if (round % 4 === 2) yield* until("one to have begun", () => seen.running > 0)
          if (round % 4 === 3) yield* connection.call(echo, nothing)
          yield* Fiber.interruptAll(fibers)
        }
        yield* until("all handlers to have ended", () => seen.running === 0)
        const { endpoints: [state] } = yield* connection.state
        assert.deepEqual([state?.streams, state?.callsInFlight, state?.state], [0, 0, "Active"])
        assert.equal((yield* connection.call(echo, new Uint8Array(3))).length, 3)
      }).pipe(Effect.scoped))
  }, [Networks.tcp, Networks.memory])
})

describe("a connection that is cut in the middle of streams", () => {
  /** After so many bytes in this direction; the bytes of the whole conversation are about 900 each way. */
  const cuts = Array.from({ length: 60 }, (_, index) => index * 16 + (index % 5))
  for (const direction of ["toServer", "toClient"] as const) {
    it.effect(`ends them, and their handlers, at any byte ${direction}`, () =>
      Effect.gen(function*() {
        for (const after of cuts) {
          const name = `${direction}-${after}`
          const { handlers, seen } = makeStreams()
          yield* TestNetwork.listen(name, handlers, { shutdownGrace: 0 })
          yield* TestNetwork.fault(name, { cutAfter: { [direction]: after } })
          const connection = yield* Networks.connect([yield* TestNetwork.endpoint(name)], {
            backoff: { initial: "1 hour", max: "1 hour" }
          })
          const items = Stream.range(1, 20, 3).pipe(Stream.map((size) => new Uint8Array(size).fill(size)))
          const got: Array<number> = []
          const both = connection.stream(mirror, nothing, { items }).pipe(
            Stream.runForEach((item) =>
              Effect.sync(() => {
                assert.ok(item.every((byte) => byte === item.length), "an item is whole")
                got.push(item.length)
              })
            )
          )
          const exits = yield* Effect.all([
            Effect.exit(both),
            Effect.exit(Stream.runDrain(connection.stream(sink, nothing, { items })))
          ], { concurrency: "unbounded" })
          // What has come is a beginning of what was sent, and all of it where the stream has ended well.
          assert.deepEqual(got, Array.from({ length: got.length }, (_, index) => index + 1))
          if (Exit.isSuccess(exits[0])) assert.equal(got.length, 20)
          yield* until("the handlers to have ended", () => seen.running === 0)
          assert.equal((yield* connection.state).endpoints[0]?.streams ?? 0, 0)
          yield* connection.close
        }
      }).pipe(Effect.scoped, Effect.provide(TestNetwork.layer)))
  }
})

describe("a handler", () => {
  it.live("that writes on when its client has gone is interrupted", () =>
    Effect.gen(function*() {
      const { handlers, seen } = makeStreams()
      const { endpoint } = yield* Networks.tcp.serve(handlers)
      const connection = yield* Networks.connect([endpoint])
      yield* Effect.forkChild(Stream.runDrain(connection.stream(endless, u32s(100))), { startImmediately: true })
      yield* until("it to run", () => seen.running === 1)
      yield* connection.close
      yield* until("it to have ended", () => seen.running === 0)
      assert.equal(seen.interrupted, 1)
    }).pipe(Effect.scoped))

  it.effect("whose stream throws while it is pulled fails its client's stream, and no other", () =>
    Effect.gen(function*() {
      const { handlers } = makeStreams()
      const throwing = HandlerMap.setStream(handlers, "test/Streams", "throws", () =>
        Stream.fromIterable((function*() {
          yield nothing
          throw new Error("thrown by the generator")
        })()))
      yield* TestNetwork.listen("a", throwing)
      const connection = yield* Networks.connect([yield* TestNetwork.endpoint("a")])
      const error = yield* Effect.flip(
        Stream.runDrain(connection.stream(MethodKey.make("test/Streams", "throws"), nothing))
      )
      assert.equal(error._tag, "RemoteError")
      assert.equal((yield* connection.call(echo, nothing)).length, 0)
    }).pipe(Effect.scoped, Effect.provide(TestNetwork.layer)))
})
