/** Calls that are interrupted, and what belongs to a call and ends with it. */
import { it } from "@effect/vitest"
import { Cause, Context, Deferred, Effect, Exit, Fiber, Layer, Queue, Schema } from "effect"
import { Rpc, RpcGroup, RpcMiddleware, RpcSchema } from "effect/rpc"
import * as assert from "node:assert/strict"
import { defect, eachHarness, outcome } from "./harnesses.ts"

class Failed extends Schema.TaggedError<Failed>()("Failed", {}) {}
class Around extends RpcMiddleware.Service<Around>()("Around") {}

eachHarness((harness) => {
  it.effect("a caller that is interrupted interrupts the handler, and its finalizers run", () =>
    Effect.gen(function*() {
      const group = RpcGroup.make(Rpc.make("Hang"))
      const events = yield* Queue.unbounded<string>()
      const note = (event: string) => Effect.asVoid(Queue.offer(events, event))
      const client = yield* harness.client(
        group,
        group.toLayer({
          Hang: () =>
            Effect.addFinalizer((exit) => note(`scope closed after ${exit._tag}`)).pipe(
              Effect.andThen(note("started")),
              Effect.andThen(Effect.never),
              Effect.onInterrupt(() => note("interrupted")),
              Effect.ensuring(note("finalized"))
            )
        })
      )
      const calling = yield* Effect.forkChild(client.Hang())
      assert.equal(yield* Queue.take(events), "started")
      yield* Fiber.interrupt(calling)
      assert.deepEqual(yield* Queue.takeN(events, 3), ["interrupted", "finalized", "scope closed after Failure"])
    }).pipe(Effect.scoped))

  it.effect("a handler can tell that it was its caller who gave up", () =>
    Effect.gen(function*() {
      const group = RpcGroup.make(Rpc.make("Hang"))
      const started = yield* Deferred.make<void>()
      const ended = yield* Deferred.make<boolean>()
      const client = yield* harness.client(
        group,
        group.toLayer({
          Hang: () =>
            Effect.andThen(Deferred.succeed(started, undefined), Effect.never).pipe(
              Effect.onExit((exit) =>
                Deferred.succeed(
                  ended,
                  Exit.isFailure(exit) &&
                    Context.getOrUndefined(Cause.annotations(exit.cause), RpcSchema.ClientAbort) === true
                )
              )
            )
        })
      )
      const calling = yield* Effect.forkChild(client.Hang())
      yield* Deferred.await(started)
      yield* Fiber.interrupt(calling)
      assert.equal(yield* Deferred.await(ended), true)
    }).pipe(Effect.scoped))

  it.effect("a caller that is interrupted interrupts middleware that still waits, and the handler never runs", () =>
    Effect.gen(function*() {
      const group = RpcGroup.make(Rpc.make("Do")).middleware(Around)
      const events = yield* Queue.unbounded<string>()
      const note = (event: string) => Effect.asVoid(Queue.offer(events, event))
      const client = yield* harness.client(group, group.toLayer({ Do: () => note("handler") })).pipe(
        Effect.provideService(Around, (effect) =>
          note("started").pipe(
            Effect.andThen(Effect.never),
            Effect.andThen(effect),
            Effect.onInterrupt(() => note("interrupted"))
          ))
      )
      const calling = yield* Effect.forkChild(client.Do())
      assert.equal(yield* Queue.take(events), "started")
      yield* Fiber.interrupt(calling)
      assert.equal(yield* Queue.take(events), "interrupted")
    }).pipe(Effect.scoped))

  it.effect("an uninterruptible handler ends as if nothing had happened, and so does the middleware around it", () =>
    Effect.gen(function*() {
      const group = RpcGroup.make(Rpc.make("Do", { success: Schema.String })).middleware(Around).add(Rpc.make("Ping"))
      const events = yield* Queue.unbounded<string>()
      const note = (event: string) => Effect.asVoid(Queue.offer(events, event))
      const release = yield* Deferred.make<void>()
      const client = yield* harness.client(
        group,
        group.toLayer({
          Do: () =>
            Effect.addFinalizer((exit) => note(`scope closed after ${exit._tag}`)).pipe(
              Effect.andThen(note("started")),
              Effect.andThen(Deferred.await(release)),
              Effect.andThen(note("done")),
              Effect.as("result"),
              Rpc.uninterruptible
            ),
          Ping: () => Effect.void
        })
      ).pipe(Effect.provideService(Around, (effect) => Effect.tap(effect, note("middleware done"))))
      const calling = yield* Effect.forkChild(client.Do())
      assert.equal(yield* Queue.take(events), "started")
      // The caller itself need not wait for it.
      yield* Fiber.interrupt(calling)
      // What comes after the interruption has come: that has, too.
      yield* client.Ping()
      yield* Deferred.succeed(release, undefined)
      assert.deepEqual(yield* Queue.takeN(events, 3), ["done", "middleware done", "scope closed after Success"])
    }).pipe(Effect.scoped))

  it.effect("the resources of a handler's Scope are released when its call ends, in any way", () =>
    Effect.gen(function*() {
      const group = RpcGroup.make(Rpc.make("Do", { payload: Schema.String, error: Failed }))
      const events = yield* Queue.unbounded<string>()
      const client = yield* harness.client(
        group,
        group.toLayer({
          Do: (how) =>
            Effect.andThen(
              Effect.acquireRelease(
                Queue.offer(events, `acquired ${how}`),
                (_, exit) => Queue.offer(events, `released ${exit._tag}`)
              ),
              how === "succeed" ? Effect.void : how === "fail" ? Effect.fail(new Failed()) : Effect.die("dead")
            )
        })
      )
      assert.deepEqual(yield* outcome(client.Do("succeed")), { success: undefined })
      assert.deepEqual(yield* Queue.takeN(events, 2), ["acquired succeed", "released Success"])
      assert.deepEqual(yield* outcome(client.Do("fail")), { failure: new Failed() })
      assert.deepEqual(yield* Queue.takeN(events, 2), ["acquired fail", "released Failure"])
      assert.deepEqual(yield* outcome(client.Do("die")), defect)
      assert.deepEqual(yield* Queue.takeN(events, 2), ["acquired die", "released Failure"])
    }).pipe(Effect.scoped))

  it.effect("each call has a Scope of its own, which its middleware shares", () =>
    Effect.gen(function*() {
      const group = RpcGroup.make(Rpc.make("Do", { payload: Schema.String })).middleware(Around)
      const events = yield* Queue.unbounded<string>()
      const note = (event: string) => Effect.asVoid(Queue.offer(events, event))
      const gates = { a: yield* Deferred.make<void>(), b: yield* Deferred.make<void>() }
      const middleware = Layer.succeed(Around, (effect, { payload }) =>
        Effect.andThen(
          Effect.addFinalizer(() => note(`middleware of ${String(payload)}`)),
          effect
        ))
      const context = yield* Layer.build(middleware)
      const client = yield* Effect.provideContext(
        harness.client(
          group,
          group.toLayer({
            Do: (name) =>
              Effect.addFinalizer(() => note(`handler of ${name}`)).pipe(
                Effect.andThen(note(`started ${name}`)),
                Effect.andThen(Deferred.await(name === "a" ? gates.a : gates.b))
              )
          })
        ),
        context
      )
      const first = yield* Effect.forkChild(client.Do("a"))
      const second = yield* Effect.forkChild(client.Do("b"))
      yield* Queue.takeN(events, 2)
      yield* Deferred.succeed(gates.b, undefined)
      yield* Fiber.join(second)
      assert.deepEqual(yield* Queue.takeN(events, 2), ["handler of b", "middleware of b"])
      yield* Deferred.succeed(gates.a, undefined)
      yield* Fiber.join(first)
      assert.deepEqual(yield* Queue.takeN(events, 2), ["handler of a", "middleware of a"])
    }).pipe(Effect.scoped))
})
