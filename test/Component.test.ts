/** What makes a component: a name and a group of methods, which stays effect/rpc's. */
import { NodeSocket, NodeSocketServer } from "@effect/platform-node"
import { describe, it } from "@effect/vitest"
import { Effect, Equal, Layer, Schema } from "effect"
import { Component, MethodKey } from "effect-call"
import { Rpc, RpcClient, RpcGroup, RpcSerialization, RpcServer, RpcTest } from "effect/rpc"
import { SocketServer } from "effect/socket"
import * as assert from "node:assert/strict"
import { clientOver, open } from "./Component/support.ts"
import { entriesSet } from "./support/mapWork.ts"

class NotFound extends Schema.TaggedError<NotFound>()("NotFound", { id: Schema.Int }) {}

const Item = Schema.Struct({ id: Schema.Int, at: Schema.Date, raw: Schema.Uint8Array })
const group = RpcGroup.make(
  Rpc.make("Get", { payload: { id: Schema.Int }, success: Item, error: NotFound }),
  Rpc.make("Ping")
)
const Items = Component.make("test/Items", group)

const item = (id: number) => ({ id, at: new Date(id * 1000), raw: Uint8Array.of(id) })
const handlers = group.toLayer({
  Get: ({ id }) => id < 10 ? Effect.succeed(item(id)) : Effect.fail(new NotFound({ id })),
  Ping: () => Effect.void
})

/** What an effect dies of. */
const defectOf = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.map(Effect.flip(Effect.sandbox(effect)), ({ reasons }) => String(reasons[0]))

describe("a component", () => {
  it("has a name, its group, and a key for each method", () => {
    assert.equal(Items.name, "test/Items")
    assert.equal(Items.group, group)
    assert.deepEqual([...Items.keys.keys()], ["Get", "Ping"])
    for (const [tag, key] of Items.keys) {
      assert.ok(Equal.equals(key, MethodKey.make("test/Items", tag)))
      assert.deepEqual([key.component, key.method], ["test/Items", tag])
    }
  })

  it("names its methods as its group does, with a prefix where that has one", () => {
    const prefixed = Component.make("test/Items", group.prefix("v2."))
    assert.deepEqual([...prefixed.keys.values()].map(({ method }) => method), ["v2.Get", "v2.Ping"])
  })

  it("may have methods that are streams", () => {
    const streams = group.add(
      Rpc.make("Watch", { success: Schema.Int, stream: true }),
      Rpc.make("Put").pipe(Component.accepts(Schema.Int))
    )
    assert.deepEqual([...Component.make("test/Items", streams).keys.keys()], ["Get", "Ping", "Watch", "Put"])
  })

  it.effect("is served by a handler for each method, under its key", () =>
    Effect.gen(function*() {
      const map = yield* Component.handlers(Items, handlers)
      assert.deepEqual(
        [...map.entries.values()].map(({ key }) => key.hex),
        [...Items.keys.values()].map(({ hex }) => hex)
      )
    }).pipe(Effect.scoped))

  it.effect("is not served by a layer that lacks a handler, which is named", () =>
    Effect.gen(function*() {
      // What the types forbid.
      const lacking = group.omit("Ping").toLayer({ Get: ({ id }) => Effect.succeed(item(id)) }) as typeof handlers
      assert.match(
        yield* defectOf(Component.handlers(Items, lacking)),
        /the given layer has no handler for test\/Items\.Ping/
      )
    }).pipe(Effect.scoped))

  it.effect("refuses options that make no sense, and names them", () =>
    Effect.gen(function*() {
      const { connection } = yield* open(Items, handlers)
      assert.match(
        yield* defectOf(clientOver(connection, Items, { format: "xml" as never })),
        /RangeError: option format: expected "binary" or "json", got xml/
      )
      assert.match(
        yield* defectOf(clientOver(connection, Items, { disableTracing: 1 as never })),
        /RangeError: option disableTracing: expected true or false, got 1/
      )
      assert.match(
        yield* defectOf(Component.handlers(Items, handlers, { disableTracing: 1 as never })),
        /RangeError: option disableTracing: expected true or false, got 1/
      )
    }).pipe(Effect.scoped))

  it.effect("cannot be called or served with a schema that cannot be sent, and says which it is", () =>
    Effect.gen(function*() {
      // Nothing tells the members apart.
      const ambiguous = Schema.Union([Schema.Struct({ x: Schema.Int }), Schema.Struct({ y: Schema.Int })])
      const { connection } = yield* open(Items, handlers)
      const check = Effect.fnUntraced(function*<Rpcs extends Rpc.Any>(
        part: string,
        group: RpcGroup.RpcGroup<Rpcs>,
        layer: Layer.Layer<Rpc.ToHandler<Rpcs>>
      ) {
        const component = Component.make("test/Unsendable", group)
        const expected = new RegExp(`the ${part} of test/Unsendable\\.Do cannot be sent in binary: .*union members`)
        assert.match(yield* defectOf(clientOver(connection, component)), expected)
        // It can be sent in JSON, and served to peers that send JSON.
        const { client, connection: own } = yield* open(component, layer, { format: "json" })
        assert.ok("Do" in client)
        const refused = yield* Effect.flip(
          own.call(MethodKey.make("test/Unsendable", "Do"), Uint8Array.of(0x01, 0, 0, 0, 0, 0, 0, 0, 0, 1, 32))
        )
        // Whatever is written in binary is of another contract.
        assert.equal(refused.message, "client and server have different contracts of the method")
      })
      const payload = RpcGroup.make(Rpc.make("Do", { payload: ambiguous }))
      yield* check("payload", payload, payload.toLayer({ Do: () => Effect.void }))
      const success = RpcGroup.make(Rpc.make("Do", { success: ambiguous }))
      yield* check("success", success, success.toLayer({ Do: () => Effect.succeed({ x: 1 }) }))
      const error = RpcGroup.make(Rpc.make("Do", { error: ambiguous }))
      yield* check("error", error, error.toLayer({ Do: () => Effect.void }))
    }).pipe(Effect.scoped))

  it("is served with work that grows as the number of its methods does", () => {
    const workOf = (methods: number) => {
      const rpcs = Array.from({ length: methods }, (_, i) => Rpc.make(`M${i}`))
      const many = RpcGroup.make(...rpcs)
      // Not typed by its methods, which are too many to be named.
      const layer = many.toLayer(Object.fromEntries(rpcs.map(({ _tag }) => [_tag, () => Effect.void])) as never)
      const component = Component.make("test/Many", many)
      return entriesSet(() => {
        const map = Effect.runSync(Effect.scoped(Component.handlers(component, layer)))
        assert.equal(map.entries.size, methods)
      })
    }
    const [some, twice] = [workOf(400), workOf(800)]
    assert.ok(twice < 2.5 * some, `${some} entries were set for 400 methods, ${twice} for 800`)
  })

  it.effect("fails to be served as its handlers' layer fails", () =>
    Effect.gen(function*() {
      const failing = group.toLayer(Effect.fail("no database"))
      assert.equal(yield* Effect.flip(Component.handlers(Items, failing)), "no database")
    }).pipe(Effect.scoped))
})

/** What any client of the group must do. */
const exercise = Effect.fnUntraced(function*<E>(client: RpcClient.FromGroup<typeof group, E>) {
  const { at, id, raw } = yield* client.Get({ id: 1 })
  assert.deepEqual({ id, at, raw: Uint8Array.from(raw) }, item(1))
  assert.deepEqual(yield* Effect.flip(client.Get({ id: 10 })), new NotFound({ id: 10 }))
  assert.equal(yield* client.Ping(), undefined)
})

describe("a component's group and handlers", () => {
  it.effect("serve the component", () =>
    Effect.gen(function*() {
      const { client } = yield* open(Items, handlers)
      yield* exercise(client)
    }).pipe(Effect.scoped))

  it.effect("still work with RpcTest", () =>
    Effect.flatMap(RpcTest.makeClient(group), exercise).pipe(Effect.scoped, Effect.provide(handlers)))

  it.live("still work with effect/rpc's own server and client", () => {
    const server = RpcServer.layer(group).pipe(
      Layer.provide(handlers),
      Layer.provide(RpcServer.layerProtocolSocketServer),
      Layer.provideMerge(NodeSocketServer.layer({ port: 0, host: "127.0.0.1" })),
      Layer.provide(RpcSerialization.layerSchemaBinary())
    )
    const client = Layer.unwrap(SocketServer.SocketServer.useSync(({ address }) =>
      RpcClient.layerProtocolSocket().pipe(
        Layer.provide(NodeSocket.layerNet({
          host: "127.0.0.1",
          port: address._tag === "UnixPathAddress" ? 0 : address.port
        })),
        Layer.provide(RpcSerialization.layerSchemaBinary())
      )
    ))
    return Effect.flatMap(RpcClient.make(group), exercise).pipe(
      Effect.scoped,
      Effect.provide(client.pipe(Layer.provideMerge(server)))
    )
  })
})
