/** Which replica a typed call goes to: by its payload, by its region, or by neither. */
import { describe, it } from "@effect/vitest"
import { Cause, Effect, Layer, Schema } from "effect"
import { Balancer, Component, Connection, Resolver } from "effect-call"
import { TestNetwork } from "effect-call/testing"
import { Rpc, RpcGroup, RpcMiddleware } from "effect/rpc"
import * as assert from "node:assert/strict"
import { hashKey } from "../../src/internal/component/shardKey.ts"
import { clientOver } from "./support.ts"

class Rewrite extends RpcMiddleware.Service<Rewrite>()("Rewrite") {}

class Order extends Schema.Class<Order>("Order")({
  customer: Schema.String,
  shop: Schema.String.pipe(Schema.withConstructorDefault(Effect.succeed("main")))
}) {
  get route() {
    return `${this.shop}/${this.customer}`
  }
}

const Where = Rpc.make("Where", { success: Schema.String })
const ByNumber = Rpc.make("ByNumber", { payload: Schema.BigInt, success: Schema.String })
const group = RpcGroup.make(
  Where,
  ByNumber.pipe(Component.shardBy((key) => key)),
  Component.shardBy(
    Rpc.make("ByText", { payload: { text: Schema.UndefinedOr(Schema.String) }, success: Schema.String }),
    ({ text }) => text
  ),
  Rpc.make("ByOrder", { payload: Order, success: Schema.String }).pipe(Component.shardBy(({ route }) => route)),
  Rpc.make("Rewritten", { payload: Schema.BigInt, success: Schema.String }).pipe(
    Component.shardBy((key) => key),
    (rpc) => rpc.middleware(Rewrite)
  ),
  Rpc.make("Broken", { success: Schema.String }).pipe(Component.shardBy(() => {
    throw new Error("no key")
  }))
)
const Routed = Component.make("test/Routed", group)

const names = ["a", "b", "c"]
/** Who a sharded balancer sends a key to. */
const ownerOf = (key: bigint) => names[Number(key % 3n)]

/** Replicas with names, and a client of them that is sharded, unless another balancer is given. */
const replicas = Effect.fnUntraced(function*(balancer: Effect.Effect<Balancer.Balancer> = Balancer.sharded) {
  const network = yield* TestNetwork.make
  for (const name of names) {
    const here = () => Effect.succeed(name)
    const map = yield* Component.handlers(
      Routed,
      group.toLayer({ Where: here, ByNumber: here, ByText: here, ByOrder: here, Rewritten: here, Broken: here })
    ).pipe(Effect.provideService(Rewrite, (effect) => effect))
    yield* Effect.provideService(
      TestNetwork.listen(name, map, { shutdownGrace: 0 }),
      TestNetwork.TestNetwork,
      network
    )
  }
  const connection = yield* Connection.make(Resolver.constant(...names.map(network.endpoint)), { balancer })
  const context = yield* Layer.build(
    RpcMiddleware.layerClient(Rewrite, ({ next, request }) => next({ ...request, payload: 1n as never }))
  )
  return { connection, client: yield* Effect.provideContext(clientOver(connection, Routed), context) }
})

/** A balancer that keeps what it was asked for, and takes the first endpoint. */
const recording = () => {
  const keys: Array<bigint | undefined> = []
  const balancer = Balancer.make((endpoints, { shardKey }) =>
    Effect.sync(() => {
      keys.push(shardKey)
      return endpoints[0]!
    })
  )
  return { keys, balancer }
}

describe("a call whose method is sharded", () => {
  it.effect("by a number goes where that number belongs", () =>
    Effect.gen(function*() {
      const { client } = yield* replicas()
      for (const key of [0n, 1n, 2n, 3n, 1_000_000_007n, 2n ** 64n - 1n]) {
        assert.equal(yield* client.ByNumber(key), ownerOf(key))
      }
    }).pipe(Effect.scoped))

  it.effect("by a text goes to the endpoint of the text's hash, from every client", () =>
    Effect.gen(function*() {
      const { client } = yield* replicas()
      const { client: other } = yield* replicas()
      const texts = ["", "tea", "größe", ...Array.from({ length: 20 }, (_, i) => `customer ${i}`)]
      const owners = yield* Effect.forEach(texts, (text) => client.ByText({ text }))
      assert.deepEqual(owners, texts.map((text) => ownerOf(hashKey(text))))
      assert.deepEqual(owners, yield* Effect.forEach(texts, (text) => other.ByText({ text })))
      assert.equal(new Set(owners).size, 3)
    }).pipe(Effect.scoped))

  it.effect("by what a payload's class makes of it, with its defaults", () =>
    Effect.gen(function*() {
      const { client } = yield* replicas()
      for (const customer of ["Ada", "Bob", "Eve", "Zoë"]) {
        assert.equal(yield* client.ByOrder({ customer }), ownerOf(hashKey(`main/${customer}`)))
        assert.equal(yield* client.ByOrder({ customer, shop: "east" }), ownerOf(hashKey(`east/${customer}`)))
      }
    }).pipe(Effect.scoped))

  it.effect("by the payload that is sent, where client middleware has changed it", () =>
    Effect.gen(function*() {
      const { client } = yield* replicas()
      assert.equal(yield* client.Rewritten(0n), "b")
    }).pipe(Effect.scoped))

  it.effect("has no key where its payload gives none", () =>
    Effect.gen(function*() {
      const { balancer, keys } = recording()
      const { client } = yield* replicas(balancer)
      yield* client.ByText({ text: undefined })
      yield* client.ByText({ text: "tea" })
      yield* client.Where()
      assert.deepEqual(keys, [undefined, hashKey("tea"), undefined])
    }).pipe(Effect.scoped))

  it.effect("dies where its key cannot be made", () =>
    Effect.gen(function*() {
      const { client } = yield* replicas()
      const cause = yield* Effect.flip(Effect.sandbox(client.Broken()))
      assert.deepEqual(Cause.squash(cause), new Error("no key"))
    }).pipe(Effect.scoped))

  it.effect("is Unreachable with a number that is not a u64, with the same error as a call of bytes", () =>
    Effect.gen(function*() {
      const { client, connection } = yield* replicas()
      for (const key of [-1n, 2n ** 64n]) {
        const error = yield* Effect.flip(client.ByNumber(key))
        const ofBytes = yield* Effect.flip(
          connection.call(Routed.keys.get("ByNumber")!, new Uint8Array(0), { shardKey: key })
        )
        assert.equal(error._tag, "Unreachable")
        assert.equal(error.message, ofBytes.message)
        assert.match(error.message, /is not a u64/)
      }
    }).pipe(Effect.scoped))
})

describe("the options of a region", () => {
  it.effect("take precedence over the method's shard key", () =>
    Effect.gen(function*() {
      const { client } = yield* replicas()
      const inRegion = Connection.withOptions({ shardKey: 2n })
      assert.equal(yield* inRegion(client.ByNumber(0n)), "c")
      assert.equal(yield* inRegion(client.ByText({ text: undefined })), "c")
      assert.equal(yield* inRegion(client.Where()), "c")
      // It says nothing: the payload does.
      assert.equal(yield* Connection.withOptions(client.ByNumber(1n), { timeout: "1 second" }), "b")
      assert.equal(yield* Connection.withOptions(client.ByNumber(1n), { shardKey: undefined }), "b")
    }).pipe(Effect.scoped))

  it.effect("may bring a balancer, which is given the payload's key", () =>
    Effect.gen(function*() {
      const { client } = yield* replicas()
      const { balancer, keys } = recording()
      const own = yield* balancer
      assert.equal(yield* Connection.withOptions(client.ByNumber(2n), { balancer: own }), "a")
      assert.deepEqual(keys, [2n])
    }).pipe(Effect.scoped))

  it.effect("do not apply to calls after the region", () =>
    Effect.gen(function*() {
      const { balancer, keys } = recording()
      const { client } = yield* replicas(balancer)
      yield* Connection.withOptions(client.Where(), { shardKey: 5n })
      yield* client.Where()
      assert.deepEqual(keys, [5n, undefined])
    }).pipe(Effect.scoped))
})

describe("shardBy", () => {
  it("annotates an Rpc, and changes nothing else of it", () => {
    const key = (payload: bigint) => payload
    for (const annotated of [Component.shardBy(ByNumber, key), ByNumber.pipe(Component.shardBy(key))]) {
      assert.equal(annotated.annotations.mapUnsafe.get(Component.ShardKey.key), key)
      assert.equal(annotated.key, ByNumber.key)
      assert.equal(annotated.payloadSchema, ByNumber.payloadSchema)
    }
    assert.equal(ByNumber.annotations.mapUnsafe.size, 0)
  })

  it.effect("can be annotated on a whole group", () =>
    Effect.gen(function*() {
      const { balancer, keys } = recording()
      const annotated = group.annotateRpcs(Component.ShardKey, () => 7n)
      const { connection } = yield* replicas(balancer)
      const client = yield* clientOver(connection, Component.make("test/Routed", annotated))
      yield* client.Where()
      // A method's own comes first.
      yield* client.ByNumber(1n)
      assert.deepEqual(keys, [7n, 1n])
    }).pipe(Effect.scoped))
})
