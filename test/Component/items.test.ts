/** Methods that take items from their client: what handlers get of them, and how such calls end. */
import { describe, it } from "@effect/vitest"
import { Deferred, Effect, Exit, Fiber, Queue, Schema, Stream } from "effect"
import { CallError, Component } from "effect-call"
import { Rpc, RpcGroup, RpcTest } from "effect/rpc"
import * as assert from "node:assert/strict"
import { formats, open } from "./support.ts"

class Failed extends Schema.TaggedError<Failed>()("Failed", {}) {}
class Broken extends Schema.TaggedError<Broken>()("Broken", {}) {}

const Sum = Rpc.make("Sum", { payload: { from: Schema.Int }, success: Schema.Int, error: Failed }).pipe(
  Component.accepts(Schema.Struct({ n: Schema.Int }))
)
const Echo = Rpc.make("Echo", { success: Schema.String, error: Failed, stream: true }).pipe(
  Component.accepts(Schema.String)
)
const group = RpcGroup.make(Sum, Echo)
const Sums = Component.make("test/Sums", group)

const sum = (from: number) =>
  Effect.flatMap(Component.items(Sum), (items) => Stream.runFold(items, () => from, (total, { n }) => total + n))

const handlers = {
  Sum: ({ from }: { readonly from: number }) => sum(from),
  Echo: () => Stream.unwrap(Component.items(Echo))
}
const numbers = (count: number) => Stream.map(Stream.range(1, count), (n) => ({ n }))

for (const format of formats) {
  describe(`items that a method takes, ${format}`, () => {
    const served = (
      own: { readonly Sum?: (payload: { readonly from: number }) => Effect.Effect<number, Failed> } = {}
    ) => open(Sums, group.toLayer({ ...handlers, ...own }), { format })

    it.effect("are read by its handler, and the result is one", () =>
      Effect.gen(function*() {
        const { client } = yield* served()
        assert.equal(yield* client.Sum({ from: 5 }, numbers(100)), 5055)
        assert.equal(yield* client.Sum({ from: 5 }, Stream.empty), 5)
        assert.equal(yield* client.Sum({ from: 0 }, numbers(50_000)), 1_250_025_000)
      }).pipe(Effect.scoped))

    it.effect("go both ways", () =>
      Effect.gen(function*() {
        const { client } = yield* served()
        const words = yield* Queue.unbounded<string>()
        const replies = yield* client.Echo(undefined, Stream.fromQueue(words), { asQueue: true })
        for (const word of ["one", "two", "three"]) {
          yield* Queue.offer(words, word)
          assert.equal(yield* Queue.take(replies), word)
        }
      }).pipe(Effect.scoped))

    it.effect("may be left unread, and the answer may come before their end", () =>
      Effect.gen(function*() {
        const stopped = yield* Deferred.make<void>()
        const { client } = yield* served({ Sum: ({ from }) => Effect.succeed(from) })
        const endless = Stream.forever(numbers(1)).pipe(Stream.ensuring(Deferred.succeed(stopped, undefined)))
        assert.equal(yield* client.Sum({ from: 7 }, endless), 7)
        yield* Deferred.await(stopped)
      }).pipe(Effect.scoped))

    it.effect("that fail end the call with their error, and interrupt the handler", () =>
      Effect.gen(function*() {
        const ended = yield* Deferred.make<void>()
        const { client } = yield* served({
          Sum: ({ from }) => Effect.onInterrupt(sum(from), () => Deferred.succeed(ended, undefined))
        })
        const items = Stream.concat(numbers(3), Stream.fail(new Broken()))
        assert.deepEqual(yield* Effect.flip(client.Sum({ from: 1 }, items)), new Broken())
        yield* Deferred.await(ended)
      }).pipe(Effect.scoped))

    it.effect("do not hide a failure of the method", () =>
      Effect.gen(function*() {
        const { client } = yield* served({ Sum: () => Effect.fail(new Failed()) })
        assert.deepEqual(yield* Effect.flip(client.Sum({ from: 1 }, Stream.never)), new Failed())
      }).pipe(Effect.scoped))

    it.effect("are interrupted with the call, and so is the handler", () =>
      Effect.gen(function*() {
        const events = yield* Queue.unbounded<string>()
        const { client } = yield* served({
          Sum: ({ from }) =>
            Effect.andThen(Queue.offer(events, "started"), sum(from)).pipe(
              Effect.onInterrupt(() => Queue.offer(events, "handler"))
            )
        })
        const items = Stream.never.pipe(Stream.ensuring(Queue.offer(events, "items")))
        const calling = yield* Effect.forkChild(client.Sum({ from: 1 }, items), { startImmediately: true })
        assert.equal(yield* Queue.take(events), "started")
        yield* Fiber.interrupt(calling)
        assert.deepEqual((yield* Queue.takeN(events, 2)).sort(), ["handler", "items"])
      }).pipe(Effect.scoped))

    it.effect("cannot be run a second time", () =>
      Effect.gen(function*() {
        const { client } = yield* served({
          Sum: ({ from }) =>
            Effect.flatMap(Component.items(Sum), (items) =>
              Effect.as(Effect.andThen(Stream.runDrain(items), Stream.runDrain(items)), from))
        })
        const error = yield* Effect.flip(client.Sum({ from: 1 }, numbers(3)))
        assert.ok(error instanceof CallError.RemoteError)
        assert.equal(error.message, "internal error: the handler died")
      }).pipe(Effect.scoped))

    it.effect("that their schema refuses are a defect of the caller", () =>
      Effect.gen(function*() {
        const { client } = yield* served()
        const exit = yield* Effect.exit(client.Sum({ from: 1 }, Stream.make({ n: 0.5 })))
        assert.ok(Exit.isFailure(exit))
        assert.match(String(exit.cause), /an item of test\/Sums\.Sum cannot be encoded/)
      }).pipe(Effect.scoped))

    it.effect("must be a Stream", () =>
      Effect.gen(function*() {
        const { client } = yield* served()
        const exit = yield* Effect.exit(client.Sum({ from: 1 }, [{ n: 1 }] as never))
        assert.ok(Exit.isFailure(exit))
        assert.match(String(exit.cause), /the items of test\/Sums\/Sum: expected a Stream/)
      }).pipe(Effect.scoped))
  })
}

describe("the items of a method", () => {
  it.effect("are a defect outside of its handler", () =>
    Effect.gen(function*() {
      assert.ok(Exit.isFailure(yield* Effect.exit(Component.items(Sum))))
      const { client } = yield* open(
        Sums,
        group.toLayer({ ...handlers, Sum: () => Effect.as(Component.items(Echo), 1) })
      )
      const error = yield* Effect.flip(client.Sum({ from: 1 }, Stream.empty))
      assert.equal(error._tag, "RemoteError")
    }).pipe(Effect.scoped))

  it.effect("are a defect in a handler that a client of effect/rpc has called", () =>
    Effect.gen(function*() {
      const client = yield* RpcTest.makeClient(group, { disableFatalDefects: true }).pipe(
        Effect.provide(group.toLayer(handlers))
      )
      const exit = yield* Effect.exit(client.Sum({ from: 1 }))
      assert.ok(Exit.isFailure(exit))
      assert.match(String(exit.cause), /the items of Sum exist only in its handler/)
    }).pipe(Effect.scoped))

  it("belong to an Rpc whose payload was set before", () => {
    const wrong = RpcGroup.make(Sum.setPayload({ other: Schema.String }))
    assert.throws(() => Component.make("test/Wrong", wrong), {
      name: "TypeError",
      message: "the payload of test/Wrong/Sum was set after Component.accepts: expected accepts last"
    })
    assert.throws(() => Component.accepts(Schema.Int)(Sum), /Sum accepts items already/)
  })
})
