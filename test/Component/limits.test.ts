/** A server's limits, and typed methods that do without. */
import { it } from "@effect/vitest"
import { Deferred, Effect, Fiber } from "effect"
import { Component } from "effect-call"
import { Rpc, RpcGroup } from "effect/rpc"
import * as assert from "node:assert/strict"
import { open } from "./support.ts"

const group = RpcGroup.make(Rpc.make("Wait"), Rpc.make("Ping"))
const Things = Component.make("test/Things", group)

const wait = Effect.fnUntraced(function*(fork: boolean) {
  const started = yield* Deferred.make<void>()
  const done = yield* Deferred.make<void>()
  const waiting = Effect.andThen(Deferred.succeed(started, undefined), Deferred.await(done))
  const { client } = yield* open(
    Things,
    group.toLayer({ Wait: () => fork ? Rpc.fork(waiting) : waiting, Ping: () => Effect.void }),
    { server: { maxConcurrentCalls: 1, maxQueuedCalls: 1 } }
  )
  const calling = yield* Effect.forkChild(client.Wait())
  yield* Deferred.await(started)
  return { calling, client, done }
})

it.effect("a call waits while as many calls run as may", () =>
  Effect.gen(function*() {
    const { calling, client, done } = yield* wait(false)
    const ping = yield* Effect.forkChild(client.Ping(), { startImmediately: true })
    const error = yield* Effect.flip(client.Ping())
    assert.ok(error._tag === "RemoteError" && error.isOverloaded)
    assert.equal(ping.pollUnsafe(), undefined)
    yield* Deferred.succeed(done, undefined)
    yield* Fiber.joinAll([calling, ping])
  }).pipe(Effect.scoped))

it.effect("a call of a method that may run concurrently (Rpc.fork) does not wait", () =>
  Effect.gen(function*() {
    const { calling, client, done } = yield* wait(true)
    yield* client.Ping()
    yield* client.Ping()
    yield* Deferred.succeed(done, undefined)
    yield* Fiber.join(calling)
    // Its place was given back once, not twice.
    const again = yield* Effect.forkChild(client.Wait())
    yield* Fiber.join(again)
    yield* client.Ping()
  }).pipe(Effect.scoped))
