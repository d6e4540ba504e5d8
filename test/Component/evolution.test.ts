/** Two versions of a contract at once: clients are older or newer than servers while either is being replaced. */
import { describe, it } from "@effect/vitest"
import { Effect, Schema } from "effect"
import { Component } from "effect-call"
import { Rpc, RpcGroup, RpcMiddleware } from "effect/rpc"
import * as assert from "node:assert/strict"
import { clientOver, formats, open } from "./support.ts"

class NotFound extends Schema.TaggedError<NotFound>()("NotFound", { item: Schema.String }) {}
class SoldOut extends Schema.TaggedError<SoldOut>()("SoldOut", { until: Schema.Date }) {}

/** Failures that nothing tells apart but their type. */
const Untagged = Component.make("test/Untagged", RpcGroup.make(Rpc.make("Do", { error: Schema.String })))
class Refused extends Schema.TaggedError<Refused>()("Refused", {}) {}
class Guard extends RpcMiddleware.Service<Guard>()("Guard", { error: Refused }) {}
const Guarded = Component.make(
  "test/Untagged",
  RpcGroup.make(Rpc.make("Do", { error: Schema.String }).middleware(Guard))
)

for (const format of formats) {
  describe(`a method that gets one more kind of failure, in ${format}`, () => {
    const failing = { Do: () => Effect.fail("sold out") }

    it.effect("is still understood by peers that know only the first", () =>
      Effect.gen(function*() {
        const { connection } = yield* open(Guarded, Guarded.group.toLayer(failing)).pipe(
          Effect.provideService(Guard, (effect) => effect)
        )
        const client = yield* clientOver(connection, Untagged, { format })
        assert.equal(yield* Effect.flip(client.Do()), "sold out")
      }).pipe(Effect.scoped))

    it.effect("understands peers that know only the first", () =>
      Effect.gen(function*() {
        const { connection } = yield* open(Untagged, Untagged.group.toLayer(failing))
        const client = yield* clientOver(connection, Guarded, { format })
        assert.equal(yield* Effect.flip(client.Do()), "sold out")
      }).pipe(Effect.scoped))
  })
}

const Old = Component.make(
  "test/Orders",
  RpcGroup.make(
    Rpc.make("Order", {
      payload: { item: Schema.String },
      success: Schema.Struct({ id: Schema.Int, state: Schema.Literals(["new", "sent"]) }),
      error: NotFound
    })
  )
)

/** It has a field that older peers leave out, an optional one, one more error and one more method. */
const New = Component.make(
  "test/Orders",
  RpcGroup.make(
    Rpc.make("Order", {
      payload: {
        count: Schema.Int.pipe(Schema.withDecodingDefaultKey(Effect.succeed(1))),
        item: Schema.String,
        note: Schema.optionalKey(Schema.String)
      },
      success: Schema.Struct({
        by: Schema.String.pipe(Schema.withDecodingDefaultKey(Effect.succeed("nobody"))),
        id: Schema.Int,
        note: Schema.optionalKey(Schema.String),
        state: Schema.Literals(["new", "sent", "lost"])
      }),
      error: Schema.Union([NotFound, SoldOut])
    }),
    Rpc.make("Cancel", { payload: { id: Schema.Int } })
  )
)

/** The server of each version; they answer by the item, and keep what they were called with. */
const serveOld = (called: Array<unknown>) =>
  Old.group.toLayer({
    Order: (payload) => {
      called.push(payload)
      return payload.item === "?" ? Effect.fail(new NotFound({ item: "?" })) : Effect.succeed({ id: 1, state: "sent" })
    }
  })
const serveNew = (called: Array<unknown>) =>
  New.group.toLayer({
    Order: (payload) => {
      called.push(payload)
      if (payload.item === "?") return Effect.fail(new NotFound({ item: "?" }))
      if (payload.item === "gone") return Effect.fail(new SoldOut({ until: new Date(0) }))
      return Effect.succeed({ id: 2, by: "Ada", note: "soon", state: payload.item === "lost" ? "lost" : "sent" })
    },
    Cancel: () => Effect.void
  })

for (const format of formats) {
  describe(`an old client, in ${format}, of a new server`, () => {
    const opened = Effect.gen(function*() {
      const called: Array<unknown> = []
      const { connection } = yield* open(New, serveNew(called))
      return { called, client: yield* clientOver(connection, Old, { format }) }
    })

    it.effect("leaves out what it does not know: a default is filled in, and what is optional is not there", () =>
      Effect.gen(function*() {
        const { called, client } = yield* opened
        yield* client.Order({ item: "tea" })
        assert.deepEqual(called, [{ item: "tea", count: 1 }])
      }).pipe(Effect.scoped))

    it.effect("passes over the fields of a result that it does not know", () =>
      Effect.gen(function*() {
        const { client } = yield* opened
        assert.deepEqual(yield* client.Order({ item: "tea" }), { id: 2, state: "sent" })
      }).pipe(Effect.scoped))

    it.effect("reads the failures that it knows, and fails with a clear error for another", () =>
      Effect.gen(function*() {
        const { client } = yield* opened
        assert.deepEqual(yield* Effect.flip(client.Order({ item: "?" })), new NotFound({ item: "?" }))
        const unknown = yield* Effect.flip(client.Order({ item: "gone" }))
        assert.ok(unknown._tag === "CommunicationError" && unknown.reason._tag === "Protocol")
        assert.match(unknown.message, /^cannot decode the failure of test\/Orders\.Order: ./)
        assert.equal(unknown.maybeExecuted, true)
      }).pipe(Effect.scoped))

    it.effect("cannot read a value that it does not know in place of one that it needs", () =>
      Effect.gen(function*() {
        const { client } = yield* opened
        const unknown = yield* Effect.flip(client.Order({ item: "lost" }))
        assert.ok(unknown._tag === "CommunicationError" && unknown.reason._tag === "Protocol")
        assert.match(unknown.message, /^cannot decode the result of test\/Orders\.Order: .*state/)
      }).pipe(Effect.scoped))
  })

  describe(`a new client, in ${format}, of an old server`, () => {
    const opened = Effect.gen(function*() {
      const called: Array<unknown> = []
      const { connection } = yield* open(Old, serveOld(called))
      return { called, client: yield* clientOver(connection, New, { format }) }
    })

    it.effect("may send fields that the server does not know, which passes over them", () =>
      Effect.gen(function*() {
        const { called, client } = yield* opened
        yield* client.Order({ item: "tea", count: 3, note: "soon" })
        assert.deepEqual(called, [{ item: "tea" }])
      }).pipe(Effect.scoped))

    it.effect("fills in the defaults of a result, and what is optional is not there", () =>
      Effect.gen(function*() {
        const { client } = yield* opened
        assert.deepEqual(yield* client.Order({ item: "tea", count: 1 }), { id: 1, by: "nobody", state: "sent" })
      }).pipe(Effect.scoped))

    it.effect("knows the server's failures", () =>
      Effect.gen(function*() {
        const { client } = yield* opened
        assert.deepEqual(yield* Effect.flip(client.Order({ item: "?", count: 1 })), new NotFound({ item: "?" }))
      }).pipe(Effect.scoped))

    it.effect("fails with a clear error for a method that the server does not have", () =>
      Effect.gen(function*() {
        const { client } = yield* opened
        const error = yield* Effect.flip(client.Cancel({ id: 1 }))
        assert.ok(error._tag === "RemoteError" && error.isUnknownMethod)
      }).pipe(Effect.scoped))
  })
}
