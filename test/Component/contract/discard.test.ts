/** Calls whose result is of no interest: they succeed as soon as the handler has started. */
import { it } from "@effect/vitest"
import { Deferred, Effect, Fiber, Queue, Schema } from "effect"
import { Rpc, RpcGroup, RpcMiddleware } from "effect/rpc"
import * as assert from "node:assert/strict"
import { defect, eachHarness, outcome } from "./harnesses.ts"

class Failed extends Schema.TaggedError<Failed>()("Failed", {}) {}
class Denied extends Schema.TaggedError<Denied>()("Denied", {}) {}
class Around extends RpcMiddleware.Service<Around>()("Around", { error: Denied }) {}

const group = RpcGroup.make(Rpc.make("Do", { success: Schema.String, error: Failed }))
const discard = { discard: true } as const

eachHarness((harness) => {
  /** Calls a handler once, and discards what becomes of it. */
  const call = (handler: () => Effect.Effect<string, Failed>) =>
    Effect.flatMap(
      harness.client(group, group.toLayer({ Do: handler })),
      (client) => outcome(client.Do(undefined, discard))
    )

  it.effect("the call is done, with nothing, while its handler runs on", () =>
    Effect.gen(function*() {
      const gate = yield* Deferred.make<void>()
      const done = yield* Deferred.make<string>()
      const handler = Effect.as(Deferred.await(gate), "result")
      assert.deepEqual(yield* call(() => Effect.tap(handler, (result) => Deferred.succeed(done, result))), {
        success: undefined
      })
      assert.equal(yield* Deferred.isDone(done), false)
      yield* Deferred.succeed(gate, undefined)
      assert.equal(yield* Deferred.await(done), "result")
    }).pipe(Effect.scoped))

  it.effect("the end of a handler is not reported: a result, a failure or a defect", () =>
    Effect.gen(function*() {
      assert.deepEqual(yield* call(() => Effect.succeed("result")), { success: undefined })
      assert.deepEqual(yield* call(() => Effect.fail(new Failed())), { success: undefined })
      assert.deepEqual(yield* call(() => Effect.die("dead")), { success: undefined })
      assert.deepEqual(yield* call(() => Effect.interrupt), { success: undefined })
    }).pipe(Effect.scoped))

  it.effect("a handler that throws has not started", () =>
    Effect.gen(function*() {
      assert.deepEqual(
        yield* call(() => {
          throw new Error("thrown")
        }),
        defect
      )
    }).pipe(Effect.scoped))

  it.effect("the handler's Scope lasts as long as the handler", () =>
    Effect.gen(function*() {
      const events = yield* Queue.unbounded<string>()
      const gate = yield* Deferred.make<void>()
      const client = yield* harness.client(
        group,
        group.toLayer({
          Do: () =>
            Effect.addFinalizer(() => Queue.offer(events, "closed")).pipe(
              Effect.andThen(Deferred.await(gate)),
              Effect.andThen(Queue.offer(events, "done")),
              Effect.as("result")
            )
        })
      )
      yield* client.Do(undefined, discard)
      yield* Deferred.succeed(gate, undefined)
      assert.deepEqual(yield* Queue.takeN(events, 2), ["done", "closed"])
    }).pipe(Effect.scoped))

  /** A client of a method whose middleware is given, and what its handler was called with. */
  const behind = (middleware: RpcMiddleware.RpcMiddleware<never, Denied, never>) =>
    Effect.gen(function*() {
      const guarded = group.middleware(Around)
      const handled: Array<string> = []
      const Do = () => Effect.sync(() => (handled.push("handled"), "result"))
      const client = yield* Effect.provideService(
        harness.client(guarded, guarded.toLayer({ Do })),
        Around,
        middleware
      )
      return { client, handled }
    })

  it.effect("the call waits for its middleware", () =>
    Effect.gen(function*() {
      const entered = yield* Deferred.make<void>()
      const gate = yield* Deferred.make<void>()
      const { client, handled } = yield* behind((effect) =>
        Deferred.succeed(entered, undefined).pipe(Effect.andThen(Deferred.await(gate)), Effect.andThen(effect))
      )
      const calling = yield* Effect.forkChild(client.Do(undefined, discard))
      yield* Deferred.await(entered)
      assert.equal(calling.pollUnsafe(), undefined)
      assert.deepEqual(handled, [])
      yield* Deferred.succeed(gate, undefined)
      assert.equal(yield* Fiber.join(calling), undefined)
      assert.deepEqual(handled, ["handled"])
    }).pipe(Effect.scoped))

  it.effect("a failure of the middleware fails the call, and so does a defect", () =>
    Effect.gen(function*() {
      const denied = yield* behind(() => Effect.fail(new Denied()))
      assert.deepEqual(yield* outcome(denied.client.Do(undefined, discard)), { failure: new Denied() })
      assert.deepEqual(denied.handled, [])
      const dead = yield* behind(() => Effect.die("dead"))
      assert.deepEqual(yield* outcome(dead.client.Do(undefined, discard)), defect)
    }).pipe(Effect.scoped))

  it.effect("what the middleware does after the handler is not reported", () =>
    Effect.gen(function*() {
      const after = yield* Deferred.make<void>()
      const { client } = yield* behind((effect) =>
        effect.pipe(Effect.tap(Deferred.succeed(after, undefined)), Effect.andThen(Effect.fail(new Denied())))
      )
      assert.deepEqual(yield* outcome(client.Do(undefined, discard)), { success: undefined })
      yield* Deferred.await(after)
    }).pipe(Effect.scoped))

  it.effect("a caller that is interrupted before the handler has started interrupts the middleware", () =>
    Effect.gen(function*() {
      const entered = yield* Deferred.make<void>()
      const interrupted = yield* Deferred.make<void>()
      const { client, handled } = yield* behind((effect) =>
        Deferred.succeed(entered, undefined).pipe(
          Effect.andThen(Effect.never),
          Effect.onInterrupt(() => Deferred.succeed(interrupted, undefined)),
          Effect.andThen(effect)
        )
      )
      const calling = yield* Effect.forkChild(client.Do(undefined, discard))
      yield* Deferred.await(entered)
      yield* Fiber.interrupt(calling)
      yield* Deferred.await(interrupted)
      assert.deepEqual(handled, [])
    }).pipe(Effect.scoped))
})
