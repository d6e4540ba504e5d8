/**
 * What a server counts of calls of typed methods, which may fail in an answer, or be answered before their handlers
 * have ended.
 */
import { describe, it } from "@effect/vitest"
import { Deferred, Effect, Fiber, Schema } from "effect"
import { Component, Connection, MethodKey } from "effect-call"
import { Rpc, RpcGroup } from "effect/rpc"
import { TestClock } from "effect/testing"
import * as assert from "node:assert/strict"
import { settle } from "../Connection/support.ts"
import { assertTook, callsOf, durationsOf, metered } from "../support/metrics.ts"
import { bytesOf, connect, memory } from "../support/networks.ts"

class SoldOut extends Schema.TaggedError<SoldOut>()("SoldOut", {}) {}

const seconds = { payload: { seconds: Schema.Int }, error: SoldOut }

const Shop = Component.make(
  "test/Shop",
  RpcGroup.make(
    Rpc.make("Reserve", seconds),
    Rpc.make("Restock", seconds),
    Rpc.make("Count", { success: Schema.Int }),
    Rpc.make("Deliver", { ...seconds, success: Schema.String })
  )
)

/** A server of it, a client, and the Connection below that. */
const open = Effect.gen(function*() {
  const handlers = yield* Component.handlers(
    Shop,
    Shop.group.toLayer({
      Reserve: ({ seconds }) => Effect.andThen(Effect.sleep(1000 * seconds), new SoldOut()),
      Restock: ({ seconds }) => Effect.sleep(1000 * seconds),
      Count: () => Effect.succeed(0.5),
      // A result that is there later than its handler's end.
      Deliver: ({ seconds }) => {
        const delivered = Deferred.makeUnsafe<string, SoldOut>()
        return Effect.as(
          Effect.forkDetach(Effect.andThen(Effect.sleep(1000 * seconds), Deferred.succeed(delivered, "here"))),
          delivered
        )
      }
    })
  )
  const { endpoint } = yield* memory.serve(handlers)
  const connection = yield* connect([endpoint])
  const shop = yield* Effect.provideService(Component.client(Shop), Connection.Connection, connection)
  return { connection, shop }
})

const fork = <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.forkChild(effect, { startImmediately: true })

/** Lets three seconds pass, once what was called has come. */
const threeSeconds = Effect.andThen(Effect.andThen(settle, TestClock.adjust("3 seconds")), settle)

describe("a call of a typed method is counted once", () => {
  it.effect(
    "with a failure that it declares, by the failure's tag",
    metered((metrics) =>
      Effect.gen(function*() {
        const call = yield* fork(Effect.exit((yield* open).shop.Reserve({ seconds: 3 })))
        yield* threeSeconds
        yield* Fiber.join(call)
        assert.deepEqual(callsOf(metrics, "server"), ["1 Reserve at memory://server: SoldOut"])
        assertTook(durationsOf(metrics, "server"), 3)
      })
    )
  )

  it.effect(
    "with a result that its schema does not have, as a defect",
    metered((metrics) =>
      Effect.gen(function*() {
        yield* Effect.flip((yield* open).shop.Count())
        assert.deepEqual(callsOf(metrics, "server"), ["1 Count at memory://server: defect"])
      })
    )
  )

  it.effect(
    "with arguments that cannot be decoded",
    metered((metrics) =>
      Effect.gen(function*() {
        const { connection } = yield* open
        yield* Effect.flip(connection.call(MethodKey.make("test/Shop", "Restock"), bytesOf("nonsense")))
        assert.deepEqual(callsOf(metrics, "server"), ["1 Restock at memory://server: Undecodable"])
      })
    )
  )

  it.effect(
    "when its result is there, where that is a Deferred",
    metered((metrics) =>
      Effect.gen(function*() {
        const call = yield* fork((yield* open).shop.Deliver({ seconds: 3 }))
        yield* threeSeconds
        assert.equal(yield* Fiber.join(call), "here")
        assert.deepEqual(callsOf(metrics, "server"), ["1 Deliver at memory://server: ok"])
        assertTook(durationsOf(metrics, "server"), 3)
      })
    )
  )
})

describe("a call whose result is discarded is counted once, at the end of its handler", () => {
  const discard = { discard: true } as const

  it.effect(
    "and has taken until then",
    metered((metrics) =>
      Effect.gen(function*() {
        const { shop } = yield* open
        yield* shop.Restock({ seconds: 3 }, discard)
        assert.deepEqual(callsOf(metrics, "server"), [])
        yield* threeSeconds
        assert.deepEqual(callsOf(metrics, "server"), ["1 Restock at memory://server: ok"])
        assertTook(durationsOf(metrics, "server"), 3)
      })
    )
  )

  it.effect(
    "with its own time, where others end one after another",
    metered((metrics) =>
      Effect.gen(function*() {
        const { shop } = yield* open
        for (const seconds of [3, 6, 9]) yield* shop.Restock({ seconds }, discard)
        for (let i = 0; i < 3; i++) yield* threeSeconds
        const { count, max, min, sum } = durationsOf(metrics, "server")
        assert.deepEqual({ count, max, min, sum }, { count: 3, max: 9, min: 3, sum: 18 })
      })
    )
  )

  it.effect(
    "with the failure, although no caller waits for it",
    metered((metrics) =>
      Effect.gen(function*() {
        const { shop } = yield* open
        yield* shop.Reserve({ seconds: 3 }, discard)
        yield* threeSeconds
        assert.deepEqual(callsOf(metrics, "server"), ["1 Reserve at memory://server: SoldOut"])
      })
    )
  )

  it.effect(
    "though its connection is long gone, and its deadline is over",
    metered((metrics) =>
      Effect.gen(function*() {
        const { connection, shop } = yield* open
        yield* shop.Restock({ seconds: 6 }, discard).pipe(Connection.withOptions({ timeout: "1 second" }))
        yield* connection.close
        yield* threeSeconds
        assert.deepEqual(callsOf(metrics, "server"), [])
        yield* threeSeconds
        assert.deepEqual(callsOf(metrics, "server"), ["1 Restock at memory://server: ok"])
        assertTook(durationsOf(metrics, "server"), 6)
      })
    )
  )
})
