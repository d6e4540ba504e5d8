/**
 * Client middleware is around the whole call: `next` ends when the call does, and fails as it fails. (With effect/rpc's
 * own clients `next` ends when the request has been sent, and the middleware does not see the answer.)
 */
import { it } from "@effect/vitest"
import { Effect, Fiber, Layer, Schema } from "effect"
import { Component } from "effect-call"
import { Rpc, RpcGroup, RpcMiddleware } from "effect/rpc"
import { TestClock } from "effect/testing"
import * as assert from "node:assert/strict"
import { clientOver, open } from "./support.ts"

class Failed extends Schema.TaggedError<Failed>()("Failed", { attempt: Schema.Int }) {}
class TooSlow extends Schema.TaggedError<TooSlow>()("TooSlow", {}) {}
class Around extends RpcMiddleware.Service<Around, { clientError: TooSlow }>()("Around", { error: Failed }) {}

const group = RpcGroup.make(Rpc.make("Do", { success: Schema.String })).middleware(Around)
const Guarded = Component.make("test/Guarded", group)

/** A client whose calls go through this middleware, of a handler that succeeds the third time, or waits. */
const guarded = Effect.fnUntraced(function*(
  middleware: RpcMiddleware.RpcMiddlewareClient<Failed, TooSlow, never>,
  handler: Effect.Effect<string> = Effect.succeed("done")
) {
  let attempt = 0
  const { connection } = yield* open(Guarded, group.toLayer({ Do: () => handler })).pipe(
    Effect.provideService(
      Around,
      (effect) => Effect.suspend(() => ++attempt < 3 ? Effect.fail(new Failed({ attempt })) : effect)
    )
  )
  const context = yield* Layer.build(RpcMiddleware.layerClient(Around, middleware))
  return yield* Effect.provideContext(clientOver(connection, Guarded), context)
})

it.effect("client middleware sees how the call ends", () =>
  Effect.gen(function*() {
    const seen: Array<unknown> = []
    const client = yield* guarded(({ next, request }) =>
      next(request).pipe(
        Effect.tapError((error) => Effect.sync(() => void seen.push(error))),
        Effect.tap((result) => Effect.sync(() => void seen.push(result)))
      )
    )
    for (let i = 0; i < 3; i++) yield* Effect.exit(client.Do())
    assert.deepEqual(seen, [new Failed({ attempt: 1 }), new Failed({ attempt: 2 }), "done"])
  }).pipe(Effect.scoped))

it.effect("client middleware may call again", () =>
  Effect.gen(function*() {
    const client = yield* guarded(({ next, request }) => Effect.retry(next(request), { times: 2 }))
    assert.equal(yield* client.Do(), "done")
  }).pipe(Effect.scoped))

it.effect("client middleware may give the call up", () =>
  Effect.gen(function*() {
    const client = yield* guarded(
      ({ next, request }) =>
        Effect.retry(next(request), { times: 2 }).pipe(
          Effect.timeoutOrElse({ duration: "1 second", orElse: () => Effect.fail(new TooSlow()) })
        ),
      Effect.never
    )
    const calling = yield* Effect.forkChild(Effect.flip(client.Do()), { startImmediately: true })
    yield* TestClock.adjust("1 second")
    assert.deepEqual(yield* Fiber.join(calling), new TooSlow())
  }).pipe(Effect.scoped))
