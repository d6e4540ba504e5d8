/** Streams of results: what clients get, how they end, and what ends with them. */
import { it } from "@effect/vitest"
import { Cause, Context, Deferred, Effect, Exit, Fiber, Layer, Queue, Schema, Stream } from "effect"
import { Rpc, RpcClient, RpcGroup, RpcMiddleware, RpcSchema } from "effect/rpc"
import * as assert from "node:assert/strict"
import { defect, eachHarness, outcome } from "./harnesses.ts"

class Failed extends Schema.TaggedError<Failed>()("Failed", { at: Schema.Int }) {}
class Denied extends Schema.TaggedError<Denied>()("Denied", {}) {}
class Around extends RpcMiddleware.Service<Around>()("Around") {}
class Auth extends RpcMiddleware.Service<Auth>()("Auth", { error: Denied }) {}

const Item = Schema.Struct({ id: Schema.Int, at: Schema.Date })
const item = (id: number) => ({ id, at: new Date(id) })

const group = RpcGroup.make(
  Rpc.make("Watch", { payload: { from: Schema.Int }, success: Item, error: Failed, stream: true }),
  Rpc.make("Ping")
)
type Watching = Stream.Stream<typeof Item.Type, Failed>

eachHarness((harness) => {
  const watch = (handler: (payload: { readonly from: number }) => Watching) =>
    harness.client(group, group.toLayer({ Watch: handler, Ping: () => Effect.void }))

  it.effect("a stream gives what its handler's gives, each time it is run", () =>
    Effect.gen(function*() {
      const client = yield* watch(({ from }) => Stream.make(item(from), item(from + 1), item(from + 2)))
      const watching = client.Watch({ from: 1 })
      assert.deepEqual(yield* Stream.runCollect(watching), [item(1), item(2), item(3)])
      assert.deepEqual(yield* Stream.runCollect(watching), [item(1), item(2), item(3)])
      assert.deepEqual(yield* Stream.runCollect(client.Watch({ from: 7 })), [item(7), item(8), item(9)])
    }).pipe(Effect.scoped))

  it.effect("a stream may have no items", () =>
    Effect.gen(function*() {
      const client = yield* watch(() => Stream.empty)
      assert.deepEqual(yield* Stream.runCollect(client.Watch({ from: 1 })), [])
    }).pipe(Effect.scoped))

  it.effect("a stream of many items is whole and in order", () =>
    Effect.gen(function*() {
      const client = yield* watch(() => Stream.map(Stream.range(0, 19_999), item))
      const ids = yield* client.Watch({ from: 1 }).pipe(Stream.map(({ id }) => id), Stream.runCollect)
      assert.deepEqual(ids, Array.from({ length: 20_000 }, (_, id) => id))
    }).pipe(Effect.scoped))

  it.effect("a failure comes after the items before it", () =>
    Effect.gen(function*() {
      const client = yield* watch(() =>
        Stream.concat(Stream.make(item(1), item(2)), Stream.fail(new Failed({ at: 2 })))
      )
      const seen: Array<unknown> = []
      const watching = Stream.runForEach(client.Watch({ from: 1 }), (item) => Effect.sync(() => seen.push(item)))
      assert.deepEqual(yield* outcome(watching), { failure: new Failed({ at: 2 }) })
      assert.deepEqual(seen, [item(1), item(2)])
    }).pipe(Effect.scoped))

  it.effect("a failure before the first item is the stream's", () =>
    Effect.gen(function*() {
      const client = yield* watch(() => Stream.fail(new Failed({ at: 0 })))
      assert.deepEqual(yield* outcome(Stream.runDrain(client.Watch({ from: 1 }))), { failure: new Failed({ at: 0 }) })
    }).pipe(Effect.scoped))

  it.effect("a handler that dies is a defect, also after items or where it throws", () =>
    Effect.gen(function*() {
      for (
        const handler of [
          () => Stream.die("dead"),
          () => Stream.concat(Stream.make(item(1)), Stream.die("dead")),
          () => {
            throw new Error("thrown")
          }
        ]
      ) {
        const client = yield* watch(handler)
        assert.deepEqual(yield* outcome(Stream.runDrain(client.Watch({ from: 1 }))), defect)
        assert.deepEqual(yield* outcome(client.Ping()), { success: undefined })
      }
    }).pipe(Effect.scoped))

  it.effect("a client that stops interrupts the handler, which can tell; its finalizers run", () =>
    Effect.gen(function*() {
      const events = yield* Queue.unbounded<string>()
      const note = (event: string) => Effect.asVoid(Queue.offer(events, event))
      const isAbort = (exit: Exit.Exit<unknown, unknown>) =>
        Exit.isFailure(exit) && Context.getOrUndefined(Cause.annotations(exit.cause), RpcSchema.ClientAbort) === true
      const client = yield* watch(() =>
        Stream.concat(Stream.make(item(1)), Stream.never).pipe(
          Stream.onExit((exit) => note(`ended, ${isAbort(exit) ? "given up" : "otherwise"}`))
        )
      )
      const first = yield* client.Watch({ from: 1 }).pipe(Stream.take(1), Stream.runCollect)
      assert.deepEqual(first, [item(1)])
      assert.equal(yield* Queue.take(events), "ended, given up")
      const watching = yield* Effect.forkChild(
        Stream.runForEach(client.Watch({ from: 1 }), () => note("item")),
        { startImmediately: true }
      )
      assert.equal(yield* Queue.take(events), "item")
      yield* Fiber.interrupt(watching)
      assert.equal(yield* Queue.take(events), "ended, given up")
    }).pipe(Effect.scoped))

  it.effect("a queue gives the items, and then its end", () =>
    Effect.gen(function*() {
      const client = yield* watch(() => Stream.map(Stream.range(1, 40), item))
      const queue = yield* client.Watch({ from: 1 }, { asQueue: true, streamBufferSize: 4 })
      const ids: Array<number> = []
      while (true) {
        const next = yield* Effect.exit(Queue.take(queue))
        if (Exit.isFailure(next)) {
          assert.ok(Cause.isDone(Cause.squash(next.cause)))
          break
        }
        ids.push(next.value.id)
      }
      assert.deepEqual(ids, Array.from({ length: 40 }, (_, at) => at + 1))
    }).pipe(Effect.scoped))

  it.effect("a queue fails as the stream does, after the items before it", () =>
    Effect.gen(function*() {
      const client = yield* watch(() => Stream.concat(Stream.make(item(1)), Stream.fail(new Failed({ at: 1 }))))
      const queue = yield* client.Watch({ from: 1 }, { asQueue: true })
      assert.deepEqual(yield* outcome(Queue.take(queue)), { success: item(1) })
      assert.deepEqual(yield* outcome(Queue.take(queue)), { failure: new Failed({ at: 1 }) })
    }).pipe(Effect.scoped))

  it.effect("the end of a queue's Scope interrupts the handler", () =>
    Effect.gen(function*() {
      const ended = yield* Deferred.make<void>()
      const client = yield* watch(() =>
        Stream.concat(Stream.make(item(1)), Stream.never).pipe(Stream.ensuring(Deferred.succeed(ended, undefined)))
      )
      yield* Effect.scoped(Effect.flatMap(client.Watch({ from: 1 }, { asQueue: true }), Queue.take))
      yield* Deferred.await(ended)
    }).pipe(Effect.scoped))

  it.effect("a handler may give a queue, in the Scope of its call", () =>
    Effect.gen(function*() {
      const events = yield* Queue.unbounded<string>()
      const note = (event: string) => Effect.asVoid(Queue.offer(events, event))
      const client = yield* harness.client(
        group,
        group.toLayer({
          Watch: ({ from }) =>
            Effect.gen(function*() {
              yield* Effect.addFinalizer(() => note("closed"))
              const queue = yield* Queue.unbounded<typeof Item.Type, Failed | Cause.Done>()
              yield* Queue.offerAll(queue, [item(from), item(from + 1)])
              yield* from === 1 ? Queue.end(queue) : from === 2 ? Queue.fail(queue, new Failed({ at: 2 })) : Effect.void
              return queue
            }),
          Ping: () => Effect.void
        })
      )
      assert.deepEqual(yield* Stream.runCollect(client.Watch({ from: 1 })), [item(1), item(2)])
      assert.equal(yield* Queue.take(events), "closed")
      assert.deepEqual(yield* outcome(Stream.runDrain(client.Watch({ from: 2 }))), { failure: new Failed({ at: 2 }) })
      assert.equal(yield* Queue.take(events), "closed")
      const two = yield* client.Watch({ from: 3 }).pipe(Stream.take(2), Stream.runCollect)
      assert.deepEqual(two, [item(3), item(4)])
      assert.equal(yield* Queue.take(events), "closed")
    }).pipe(Effect.scoped))

  it.effect("a handler's effect of a queue may fail", () =>
    Effect.gen(function*() {
      const client = yield* harness.client(
        group,
        group.toLayer({ Watch: () => Effect.fail(new Failed({ at: 0 })), Ping: () => Effect.void })
      )
      assert.deepEqual(yield* outcome(Stream.runDrain(client.Watch({ from: 1 }))), { failure: new Failed({ at: 0 }) })
    }).pipe(Effect.scoped))

  it.effect("a handler may be run apart from others, or without interruption", () =>
    Effect.gen(function*() {
      for (const wrap of [Rpc.fork, Rpc.uninterruptible]) {
        const client = yield* harness.client(
          group,
          group.toLayer({ Watch: () => wrap(Stream.make(item(1), item(2))), Ping: () => Effect.void })
        )
        assert.deepEqual(yield* Stream.runCollect(client.Watch({ from: 1 })), [item(1), item(2)])
      }
    }).pipe(Effect.scoped))

  it.effect("middleware is around the whole stream of a server, and around the request of a client", () =>
    Effect.gen(function*() {
      const wrapped = group.middleware(Around)
      const log: Array<string> = []
      const note = (what: string) => Effect.sync(() => void log.push(what))
      const context = yield* Layer.build(Layer.mergeAll(
        Layer.succeed(Around, (effect) => Effect.andThen(note("in"), effect).pipe(Effect.ensuring(note("out")))),
        RpcMiddleware.layerClient(Around, ({ next, request }) => Effect.andThen(note("client"), next(request)))
      ))
      const client = yield* Effect.provideContext(
        harness.client(
          wrapped,
          wrapped.toLayer({
            Watch: () => Stream.fromEffect(Effect.as(note("handler"), item(1))),
            Ping: () => Effect.void
          })
        ),
        context
      )
      assert.deepEqual(yield* Stream.runCollect(client.Watch({ from: 1 })), [item(1)])
      assert.deepEqual(log, ["client", "in", "handler", "out"])
    }).pipe(Effect.scoped))

  it.effect("middleware may refuse a stream, on either side", () =>
    Effect.gen(function*() {
      const guarded = group.middleware(Auth)
      const handlers = guarded.toLayer({ Watch: () => Stream.make(item(1)), Ping: () => Effect.void })
      const server = yield* harness.client(guarded, handlers).pipe(
        Effect.provideService(Auth, () => Effect.fail(new Denied()))
      )
      assert.deepEqual(yield* outcome(Stream.runDrain(server.Watch({ from: 1 }))), { failure: new Denied() })
      const context = yield* Layer.build(Layer.mergeAll(
        Layer.succeed(Auth, (effect) => effect),
        RpcMiddleware.layerClient(Auth, () => Effect.fail(new Denied()))
      ))
      const client = yield* Effect.provideContext(harness.client(guarded, handlers), context)
      assert.deepEqual(yield* outcome(Stream.runDrain(client.Watch({ from: 1 }))), { failure: new Denied() })
    }).pipe(Effect.scoped))

  it.effect("the client's middleware may last as long as the stream", () =>
    Effect.gen(function*() {
      const wrapped = group.middleware(Around)
      const context = yield* Layer.build(Layer.mergeAll(
        Layer.succeed(Around, (effect) => effect),
        RpcMiddleware.layerClient(Around, ({ next, request }) => Effect.andThen(next(request), Effect.never))
      ))
      const client = yield* Effect.provideContext(
        harness.client(
          wrapped,
          wrapped.toLayer({ Watch: () => Stream.make(item(1), item(2)), Ping: () => Effect.void })
        ),
        context
      )
      assert.deepEqual(yield* Stream.runCollect(client.Watch({ from: 1 })), [item(1), item(2)])
    }).pipe(Effect.scoped))

  it.effect("headers are those of the region and of the stream", () =>
    Effect.gen(function*() {
      const seen: Array<unknown> = []
      const client = yield* harness.client(
        group,
        group.toLayer({
          Watch: (_, { headers }) => Stream.sync(() => (seen.push({ ...headers }), item(1))),
          Ping: () => Effect.void
        })
      )
      yield* Stream.runDrain(client.Watch({ from: 1 }, { headers: { a: "1" } })).pipe(
        RpcClient.withHeaders({ a: "0", b: "2" })
      )
      yield* Stream.runDrain(client.Watch({ from: 1 }))
      assert.deepEqual(seen, [{ a: "1", b: "2" }, {}])
    }).pipe(Effect.scoped))

  it.effect("a slow consumer holds up its handler", () =>
    Effect.gen(function*() {
      let made = 0
      const large = RpcGroup.make(Rpc.make("Read", { success: Schema.String, stream: true }))
      const text = "x".repeat(65_536)
      const client = yield* harness.client(
        large,
        large.toLayer({ Read: () => Stream.forever(Stream.sync(() => (made++, text))) })
      )
      const queue = yield* client.Read(undefined, { asQueue: true, streamBufferSize: 2 })
      assert.equal(yield* Queue.take(queue), text)
      for (let turns = 0; turns < 200; turns++) yield* Effect.yieldNow
      const before = made
      for (let turns = 0; turns < 200; turns++) yield* Effect.yieldNow
      assert.ok(made < 100, `${made} items were made`)
      assert.equal(made, before)
    }).pipe(Effect.scoped))
})
