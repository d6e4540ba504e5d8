/** Streams whose client and server have different contracts: of payloads, of results, and of the client's items. */
import { describe, it } from "@effect/vitest"
import { Deferred, Effect, Queue, Schema, Stream } from "effect"
import { CallError, Component } from "effect-call"
import { Rpc, RpcGroup } from "effect/rpc"
import * as assert from "node:assert/strict"
import { clientOver, open } from "./support.ts"

const component = <Payload extends Schema.Top, Item extends Schema.Top, Taken extends Schema.Top>(
  payload: Payload,
  item: Item,
  taken: Taken
) => {
  const Watch = Rpc.make("Watch", { payload, success: item, stream: true })
  const Both = Rpc.make("Both", { payload, success: item, stream: true }).pipe(Component.accepts(taken))
  const Put = Rpc.make("Put", { payload, success: Schema.Int }).pipe(Component.accepts(taken))
  return { Watch, Both, Put, made: Component.make("test/Drift", RpcGroup.make(Watch, Both, Put)) }
}

const Old = Schema.Struct({ id: Schema.Int })
const New = Schema.Struct({
  id: Schema.Int,
  name: Schema.String.pipe(Schema.withDecodingDefaultKey(Effect.succeed("none")))
})
const Other = Schema.Struct({ id: Schema.Int, count: Schema.Int })

const ofServer = component(Schema.Void, New, New)

/** A server, and a client with another contract. */
const drifted = <I extends Schema.Top, T extends Schema.Top>(
  client: ReturnType<typeof component<Schema.Void, I, T>>
) =>
  Effect.gen(function*() {
    let runs = 0
    const { Both, Put, made } = ofServer
    const { connection } = yield* open(
      made,
      made.group.toLayer({
        Watch: () => (runs++, Stream.make({ id: 1, name: "tea" }, { id: 2, name: "jam" })),
        Both: () => (runs++, Stream.unwrap(Component.items(Both))),
        Put: () =>
          Effect.flatMap(Component.items(Put), (items) => {
            runs++
            return Stream.runFold(items, () => 0, (count) => count + 1)
          })
      })
    )
    return { client: yield* clientOver(connection, client.made), runs: () => runs }
  })

describe("a stream whose contracts differ", () => {
  it.effect("goes in JSON, where that is read by names", () =>
    Effect.gen(function*() {
      const { client, runs } = yield* drifted(component(Schema.Void, Old, Old))
      assert.deepEqual(yield* Stream.runCollect(client.Watch(undefined)), [{ id: 1 }, { id: 2 }])
      assert.equal(runs(), 1)
      assert.deepEqual(yield* Stream.runCollect(client.Watch(undefined)), [{ id: 1 }, { id: 2 }])
      assert.equal(runs(), 2)
    }).pipe(Effect.scoped))

  it.effect("sends all items of its client once, also those that were sent before the refusal", () =>
    Effect.gen(function*() {
      const { client, runs } = yield* drifted(component(Schema.Void, Old, Old))
      let pulled = 0
      const items = Stream.range(1, 20_000).pipe(
        Stream.rechunk(10),
        Stream.map((id) => {
          pulled++
          return { id }
        })
      )
      assert.equal(yield* client.Put(undefined, items), 20_000)
      assert.equal(pulled, 20_000)
      assert.equal(runs(), 1)
      assert.deepEqual(yield* Stream.runCollect(Stream.take(client.Both(undefined, items), 3)), [
        { id: 1 },
        { id: 2 },
        { id: 3 }
      ])
    }).pipe(Effect.scoped))

  it.effect("keeps an item that was being made when the refusal came", () =>
    Effect.gen(function*() {
      const { client } = yield* drifted(component(Schema.Void, Old, Old))
      const later = yield* Deferred.make<number>()
      const replies = yield* client.Both(
        undefined,
        Stream.concat(Stream.make({ id: 1 }), Stream.fromEffect(Effect.map(Deferred.await(later), (id) => ({ id })))),
        { asQueue: true }
      )
      assert.deepEqual(yield* Queue.take(replies), { id: 1 })
      yield* Deferred.succeed(later, 2)
      assert.deepEqual(yield* Queue.take(replies), { id: 2 })
    }).pipe(Effect.scoped))

  it.effect("fails where an item of the server does not fit, after the items before it", () =>
    Effect.gen(function*() {
      const { client } = yield* drifted(component(Schema.Void, Other, New))
      const error = yield* Effect.flip(Stream.runDrain(client.Watch(undefined)))
      assert.ok(error instanceof CallError.CommunicationError)
      assert.equal(error.reason._tag, "Protocol")
      assert.match(error.message, /cannot decode an item of test\/Drift\.Watch: Missing key.*\["count"\]/)
    }).pipe(Effect.scoped))

  it.effect("fails where an item of the client does not fit, and the handler is interrupted", () =>
    Effect.gen(function*() {
      const Text = Schema.Struct({ id: Schema.String })
      const { client } = yield* drifted(component(Schema.Void, New, Text))
      const error = yield* Effect.flip(client.Put(undefined, Stream.concat(Stream.make({ id: "one" }), Stream.never)))
      assert.ok(error instanceof CallError.RemoteError)
      assert.match(error.message, /cannot decode an item of test\/Drift\.Put: Expected/)
    }).pipe(Effect.scoped))
})
