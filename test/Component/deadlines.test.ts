/**
 * Typed calls under deadlines: the caller ends in time, the handler knows how much there is left, and both are those of
 * the call.
 */
import { describe, it } from "@effect/vitest"
import { Deferred, Duration, Effect, Fiber, Option, Schema } from "effect"
import { Component, Connection, Deadline } from "effect-call"
import { Rpc, RpcGroup, RpcMiddleware } from "effect/rpc"
import { TestClock } from "effect/testing"
import * as assert from "node:assert/strict"
import { elapse } from "../Connection/support.ts"
import { connect, eachNetwork, memory } from "../support/networks.ts"
import { clientOver, formats, open } from "./support.ts"

class Around extends RpcMiddleware.Service<Around>()("Around") {}

const Left = Schema.Option(Schema.Finite)
const group = RpcGroup.make(
  Rpc.make("Hang"),
  /** What is left of the deadline in milliseconds. */
  Rpc.make("Left", { success: Left }),
  /** The same, by a call to `Left`. */
  Rpc.make("LeftThere", { success: Left })
)
const Timed = Component.make("test/Timed", group)

const left = Effect.map(Deadline.remaining, Option.map(Duration.toMillis))

/** Handlers, and what becomes of the one that hangs. */
const timed = Effect.gen(function*() {
  const started = yield* Deferred.make<void>()
  const interrupted = yield* Deferred.make<void>()
  const layer = group.toLayer({
    Hang: () =>
      Deferred.succeed(started, undefined).pipe(
        Effect.andThen(Effect.never),
        Effect.onInterrupt(() => Deferred.succeed(interrupted, undefined))
      ),
    Left: () => left,
    LeftThere: () => left
  })
  return { layer, started: Deferred.await(started), interrupted: Deferred.await(interrupted) }
})

const regions = {
  "a timeout of the region": Connection.withOptions({ timeout: "5 seconds" }),
  "a deadline of the region": Deadline.within("5 seconds")
} as const

for (const [name, within] of Object.entries(regions)) {
  describe(name, () => {
    it.effect("ends the call and its handler", () =>
      Effect.gen(function*() {
        const { interrupted, layer, started } = yield* timed
        for (const format of formats) {
          const { client } = yield* open(Timed, layer, { format })
          const calling = yield* Effect.forkChild(Effect.flip(within(client.Hang())))
          yield* started
          assert.equal(yield* elapse(calling, 1000), 5000)
          assert.equal((yield* Fiber.join(calling))._tag, "DeadlineExceeded")
          yield* interrupted
        }
      }).pipe(Effect.scoped))

    it.effect("is there in the handler, and is that of its own calls", () =>
      Effect.gen(function*() {
        const { layer } = yield* timed
        const back = yield* open(Timed, layer)
        const { client } = yield* open(
          Timed,
          group.toLayer({
            Hang: () => Effect.void,
            Left: () => left,
            LeftThere: () => Effect.orDie(back.client.Left())
          })
        )
        assert.deepEqual(yield* within(client.Left()), Option.some(5000))
        assert.deepEqual(yield* within(client.LeftThere()), Option.some(5000))
        assert.deepEqual(yield* client.Left(), Option.none())
        assert.deepEqual(yield* client.LeftThere(), Option.none())
      }).pipe(Effect.scoped))
  })
}

describe("a deadline", () => {
  it.effect("is the earlier of the two", () =>
    Effect.gen(function*() {
      const { client } = yield* open(Timed, (yield* timed).layer)
      const call = client.Left()
      const both = (timeout: Duration.Input, within: Duration.Input) =>
        call.pipe(Connection.withOptions({ timeout }), Deadline.within(within))
      assert.deepEqual(yield* both("1 second", "2 seconds"), Option.some(1000))
      assert.deepEqual(yield* both("2 seconds", "1 second"), Option.some(1000))
      assert.deepEqual(yield* Deadline.within(Deadline.none(call), "1 second"), Option.none())
    }).pipe(Effect.scoped))

  it.effect("is there in middleware, too", () =>
    Effect.gen(function*() {
      const seen: Array<unknown> = []
      const guarded = RpcGroup.make(Rpc.make("Do")).middleware(Around)
      const { client } = yield* open(
        Component.make("test/Guarded", guarded),
        guarded.toLayer({ Do: () => Effect.void })
      ).pipe(
        Effect.provideService(Around, (effect) =>
          Effect.andThen(Effect.map(left, (left) => void seen.push(left)), effect))
      )
      yield* Deadline.within(client.Do(), "3 seconds")
      assert.deepEqual(seen, [Option.some(3000)])
    }).pipe(Effect.scoped))

  it.effect("that has passed is not sent", () =>
    Effect.gen(function*() {
      let calls = 0
      const { client } = yield* open(
        Timed,
        group.toLayer({ Hang: () => Effect.sync(() => void calls++), Left: () => left, LeftThere: () => left })
      )
      const error = yield* Effect.flip(Connection.withOptions(client.Hang(), { timeout: 0 }))
      assert.equal(error._tag, "DeadlineExceeded")
      yield* client.Left()
      assert.equal(calls, 0)
    }).pipe(Effect.scoped))

  it.effect("that was in effect when handlers were built does not apply to them", () =>
    Effect.gen(function*() {
      const { layer } = yield* timed
      const map = yield* Deadline.within(Component.handlers(Timed, layer), "1 second")
      const { endpoint } = yield* memory.serve(map)
      const connection = yield* connect([endpoint])
      const client = yield* clientOver(connection, Timed)
      assert.deepEqual(yield* client.Left(), Option.none())
      yield* TestClock.adjust("1 minute")
      assert.deepEqual(yield* client.Left(), Option.none())
      assert.deepEqual(yield* Deadline.within(client.Left(), "5 seconds"), Option.some(5000))
    }).pipe(Effect.scoped))

  it.effect("that was in effect when a client was made does not apply to its calls", () =>
    Effect.gen(function*() {
      const { connection } = yield* open(Timed, (yield* timed).layer)
      const client = yield* Deadline.within(clientOver(connection, Timed), "1 second").pipe(
        Connection.withOptions({ timeout: "2 seconds" })
      )
      assert.deepEqual(yield* client.Left(), Option.none())
    }).pipe(Effect.scoped))
})

eachNetwork((network) => {
  it.live("the time that is left crosses the wire", () =>
    Effect.gen(function*() {
      const { client } = yield* open(Timed, (yield* timed).layer, { network })
      const millis = Option.getOrThrow(yield* Deadline.within(client.Left(), "1 minute"))
      assert.ok(millis > 50_000 && millis <= 60_000, `${millis}`)
    }).pipe(Effect.scoped))
})
