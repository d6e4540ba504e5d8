/**
 * Calls with the same key go to the same replica: to no other one with `sharded`, and to another one while it is down
 * with `consistentHash`.
 *
 * Run it with `npx node examples/balancing/sharding.ts`.
 */
import { NodeRuntime } from "@effect/platform-node"
import { Console, Effect, Exit, Schema, Scope } from "effect"
import { Balancer, Component, Connection, Endpoint, Resolver } from "effect-call"
import { Rpc, RpcGroup } from "effect/rpc"
import * as assert from "node:assert/strict"
import { serve } from "../support/names.ts"

/** Each replica holds the stock of some items, in memory. The key of a call is its item. */
const Stock = Component.make(
  "example/Stock",
  RpcGroup.make(
    Rpc.make("Put", { payload: { item: Schema.String, count: Schema.Int } }).pipe(
      Component.shardBy(({ item }) => item)
    ),
    Rpc.make("Get", {
      payload: { item: Schema.String },
      success: Schema.Struct({ at: Schema.String, count: Schema.Int })
    })
      .pipe(Component.shardBy(({ item }) => item))
  )
)

const startReplica = Effect.fnUntraced(function*(at: string) {
  const counts = new Map<string, number>()
  const handlers = yield* Component.handlers(
    Stock,
    Stock.group.toLayer({
      Put: ({ count, item }) => Effect.sync(() => void counts.set(item, count)),
      Get: ({ item }) => Effect.sync(() => ({ at, count: counts.get(item) ?? 0 }))
    })
  )
  return yield* Endpoint.parse(yield* serve("127.0.0.1:0", handlers))
})

const items = ["tea", "coffee", "cocoa", "milk", "sugar"]

const program = Effect.gen(function*() {
  const mortal = yield* Scope.fork(yield* Effect.scope)
  const replicas = Resolver.constant(
    yield* startReplica("a"),
    yield* startReplica("b"),
    yield* Scope.provide(startReplica("c"), mortal)
  )
  const clientWith = Effect.fnUntraced(function*(balancer: Effect.Effect<Balancer.Balancer>) {
    const connection = yield* Connection.make(replicas, { balancer })
    return yield* Effect.provideService(Component.client(Stock), Connection.Connection, connection)
  })
  const shards = yield* clientWith(Balancer.sharded)
  const caches = yield* clientWith(Balancer.consistentHash)

  /** Asks for each item, and returns the replicas that answered, and the tags of errors. */
  const where = Effect.fnUntraced(function*(client: typeof shards) {
    const found = yield* Effect.forEach(
      items,
      (item) => client.Get({ item }).pipe(Effect.map(({ at }) => at), Effect.catch(({ _tag }) => Effect.succeed(_tag)))
    )
    return new Map(items.map((item, index) => [item, found[index] ?? ""]))
  })
  const show = (title: string, found: ReadonlyMap<string, string>) =>
    Console.log(`${title.padEnd(32)} ${[...found].map(([item, at]) => `${item}: ${at}`).join("  ")}`)

  yield* Effect.forEach(items, (item) => shards.Put({ item, count: item.length }))
  const { count } = yield* shards.Get({ item: "tea" })
  assert.equal(count, 3)
  const sharded = yield* where(shards)
  yield* show("sharded", sharded)
  const hashed = yield* where(caches)
  yield* show("consistentHash", hashed)

  yield* Scope.close(mortal, Exit.void)
  const lost = yield* where(shards)
  yield* show("sharded, without c", lost)
  for (const [item, at] of sharded) assert.equal(lost.get(item), at === "c" ? "Unreachable" : at)
  const moved = yield* where(caches)
  yield* show("consistentHash, without c", moved)
  for (const [item, at] of hashed) assert.ok(at === "c" ? moved.get(item) !== "c" : moved.get(item) === at)
})

program.pipe(Effect.timeout("20 seconds"), Effect.scoped, NodeRuntime.runMain)
