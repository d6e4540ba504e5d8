/** What a method is called with, and what its handler gets. */
import { it } from "@effect/vitest"
import { Effect, Option, Schema } from "effect"
import { Rpc, RpcGroup } from "effect/rpc"
import * as assert from "node:assert/strict"
import { defect, eachHarness, outcome } from "./harnesses.ts"

/** What handlers were called with. */
const recorder = () => {
  const payloads: Array<unknown> = []
  return { payloads, record: (payload: unknown) => Effect.sync(() => void payloads.push(payload)) }
}

class Order extends Schema.Class<Order>("Order")({ item: Schema.NonEmptyString, count: Schema.Int }) {
  get text() {
    return `${this.count} × ${this.item}`
  }
}

eachHarness((harness) => {
  it.effect("a method without a payload is called with nothing and gives nothing", () =>
    Effect.gen(function*() {
      const group = RpcGroup.make(Rpc.make("Ping"))
      const { payloads, record } = recorder()
      const client = yield* harness.client(group, group.toLayer({ Ping: record }))
      assert.deepEqual(yield* outcome(client.Ping()), { success: undefined })
      assert.deepEqual(yield* outcome(client.Ping(undefined)), { success: undefined })
      assert.deepEqual(payloads, [undefined, undefined])
    }).pipe(Effect.scoped))

  it.effect("a payload is what the caller gave, of any schema", () =>
    Effect.gen(function*() {
      const payload = Schema.Struct({
        text: Schema.String,
        big: Schema.BigInt,
        at: Schema.Date,
        bytes: Schema.Uint8Array,
        list: Schema.Array(Schema.Option(Schema.Finite)),
        map: Schema.ReadonlyMap(Schema.String, Schema.Boolean)
      })
      const group = RpcGroup.make(
        Rpc.make("Echo", { payload, success: payload }),
        Rpc.make("Say", { payload: Schema.String })
      )
      const { payloads, record } = recorder()
      const client = yield* harness.client(
        group,
        group.toLayer({ Echo: (payload) => Effect.as(record(payload), payload), Say: record })
      )
      const given = {
        text: "größer",
        big: 2n ** 70n,
        at: new Date(1_700_000_000_000),
        bytes: Uint8Array.of(1, 2, 3),
        list: [Option.some(1.5), Option.none()],
        map: new Map([["a", true], ["b", false]])
      }
      assert.deepEqual(yield* outcome(client.Echo(given)), { success: given })
      assert.deepEqual(yield* outcome(client.Say("hello")), { success: undefined })
      assert.deepEqual(payloads, [given, "hello"])
    }).pipe(Effect.scoped))

  it.effect("a constructor's defaults are filled in by the client", () =>
    Effect.gen(function*() {
      let made = 0
      const group = RpcGroup.make(
        Rpc.make("Do", {
          payload: {
            item: Schema.String,
            count: Schema.Int.pipe(Schema.withConstructorDefault(Effect.sync(() => ++made)))
          }
        })
      )
      const { payloads, record } = recorder()
      const client = yield* harness.client(group, group.toLayer({ Do: record }))
      yield* client.Do({ item: "a" })
      yield* client.Do({ item: "b", count: 9 })
      yield* client.Do({ item: "c" })
      assert.deepEqual(payloads, [{ item: "a", count: 1 }, { item: "b", count: 9 }, { item: "c", count: 2 }])
      assert.equal(made, 2)
    }).pipe(Effect.scoped))

  it.effect("a payload of a class is an instance on both sides, and can be called for with its fields", () =>
    Effect.gen(function*() {
      const group = RpcGroup.make(Rpc.make("Do", { payload: Order, success: Schema.String }))
      const client = yield* harness.client(group, group.toLayer({ Do: (order) => Effect.succeed(order.text) }))
      assert.deepEqual(yield* outcome(client.Do({ item: "tea", count: 2 })), { success: "2 × tea" })
      assert.deepEqual(yield* outcome(client.Do(new Order({ item: "tea", count: 3 }))), { success: "3 × tea" })
    }).pipe(Effect.scoped))

  it.effect("a payload that its schema refuses is a defect, and is not sent", () =>
    Effect.gen(function*() {
      const group = RpcGroup.make(Rpc.make("Do", { payload: Order }))
      const { payloads, record } = recorder()
      const client = yield* harness.client(group, group.toLayer({ Do: record }))
      assert.deepEqual(yield* outcome(client.Do({ item: "", count: 1 })), defect)
      assert.deepEqual(yield* outcome(client.Do({ item: "tea", count: 1.5 })), defect)
      assert.deepEqual(payloads, [])
    }).pipe(Effect.scoped))

  it.effect("a payload with a primary key is sent as any other", () =>
    Effect.gen(function*() {
      const group = RpcGroup.make(
        Rpc.make("Do", { payload: { id: Schema.Int }, primaryKey: ({ id }) => String(id), success: Schema.Int })
      )
      const client = yield* harness.client(group, group.toLayer({ Do: ({ id }) => Effect.succeed(id) }))
      assert.deepEqual(yield* outcome(client.Do({ id: 3 })), { success: 3 })
    }).pipe(Effect.scoped))
})
