/** How calls end: with a value, a typed failure, or a defect. */
import { it } from "@effect/vitest"
import { Deferred, Effect, Exit, Fiber, Schema } from "effect"
import { Rpc, RpcGroup } from "effect/rpc"
import * as assert from "node:assert/strict"
import { defect, eachHarness, interrupted, type Outcome, outcome } from "./harnesses.ts"

class NotFound extends Schema.TaggedError<NotFound>()("NotFound", { id: Schema.Int }) {}
class Denied extends Schema.TaggedError<Denied>()("Denied", { why: Schema.String }) {}

const Item = Schema.Struct({ id: Schema.Int, name: Schema.String, at: Schema.Date })
const item = { id: 1, name: "tea", at: new Date(1_000) }

/** A group with one method, "Do", that ends in any way. */
const group = RpcGroup.make(Rpc.make("Do", { success: Item, error: Schema.Union([NotFound, Denied]) }))

eachHarness((harness) => {
  /** Calls a handler once. */
  const call = (handler: () => Effect.Effect<typeof Item.Type, NotFound | Denied>) =>
    Effect.flatMap(harness.client(group, group.toLayer({ Do: handler })), (client) => outcome(client.Do()))

  it.effect("a call succeeds with what its handler returns", () =>
    Effect.gen(function*() {
      assert.deepEqual(yield* call(() => Effect.succeed(item)), { success: item })
      assert.deepEqual(yield* call(() => Effect.as(Effect.yieldNow, item)), { success: item })
    }).pipe(Effect.scoped))

  it.effect("a call fails with what its handler fails with, an instance of its class", () =>
    Effect.gen(function*() {
      const notFound = yield* call(() => Effect.fail(new NotFound({ id: 7 })))
      assert.ok("failure" in notFound && notFound.failure instanceof NotFound)
      assert.equal(notFound.failure.id, 7)
      const denied = yield* call(() => Effect.andThen(Effect.yieldNow, new Denied({ why: "no" })))
      assert.ok("failure" in denied && denied.failure instanceof Denied)
      assert.equal(denied.failure.why, "no")
    }).pipe(Effect.scoped))

  it.effect("a call whose handler dies is a defect", () =>
    Effect.gen(function*() {
      assert.deepEqual(yield* call(() => Effect.die(new Error("a secret"))), defect)
      assert.deepEqual(yield* call(() => Effect.sync(() => JSON.parse("{"))), defect)
    }).pipe(Effect.scoped))

  it.effect("a call whose handler throws instead of returning an effect is a defect", () =>
    Effect.gen(function*() {
      assert.deepEqual(
        yield* call(() => {
          throw new Error("thrown")
        }),
        defect
      )
    }).pipe(Effect.scoped))

  it.effect("a handler that interrupts itself was interrupted", () =>
    Effect.gen(function*() {
      assert.deepEqual(yield* call(() => Effect.interrupt), interrupted)
    }).pipe(Effect.scoped))

  it.effect("a result that is a Deferred is waited for, however it ends", () =>
    Effect.gen(function*() {
      const ends: ReadonlyArray<readonly [Exit.Exit<typeof Item.Type, NotFound | Denied>, Outcome]> = [
        [Exit.succeed(item), { success: item }],
        [Exit.fail(new NotFound({ id: 7 })), { failure: new NotFound({ id: 7 }) }],
        [Exit.die("dead"), defect]
      ]
      for (const [end, expected] of ends) {
        const later = yield* Deferred.make<typeof Item.Type, NotFound | Denied>()
        const returned = yield* Deferred.make<void>()
        const client = yield* harness.client(
          group,
          group.toLayer({ Do: () => Effect.as(Deferred.succeed(returned, undefined), later) })
        )
        const calling = yield* Effect.forkChild(outcome(client.Do()))
        yield* Deferred.await(returned)
        yield* Deferred.done(later, end)
        assert.deepEqual(yield* Fiber.join(calling), expected)
        // It is done already.
        assert.deepEqual(yield* outcome(client.Do()), expected)
      }
    }).pipe(Effect.scoped))

  it.effect("a handler may run concurrently with others, or without interruption", () =>
    Effect.gen(function*() {
      for (const wrap of [Rpc.fork, Rpc.uninterruptible]) {
        const client = yield* harness.client(group, group.toLayer({ Do: () => wrap(Effect.succeed(item)) }))
        assert.deepEqual(yield* outcome(client.Do()), { success: item })
        const failing = yield* harness.client(
          group,
          group.toLayer({ Do: () => wrap(Effect.fail(new NotFound({ id: 1 }))) })
        )
        assert.deepEqual(yield* outcome(failing.Do()), { failure: new NotFound({ id: 1 }) })
      }
    }).pipe(Effect.scoped))

  it.effect("a call that dies does not disturb other calls", () =>
    Effect.gen(function*() {
      const release = yield* Deferred.make<void>()
      const pair = RpcGroup.make(Rpc.make("Wait", { success: Schema.String }), Rpc.make("Die"))
      const client = yield* harness.client(
        pair,
        pair.toLayer({
          Wait: () => Effect.as(Deferred.await(release), "done"),
          Die: () => Effect.die("dead")
        })
      )
      const waiting = yield* Effect.forkChild(outcome(client.Wait()), { startImmediately: true })
      assert.deepEqual(yield* outcome(client.Die()), defect)
      yield* Deferred.succeed(release, undefined)
      assert.deepEqual(yield* Fiber.join(waiting), { success: "done" })
    }).pipe(Effect.scoped))
})
