/**
 * What a schema refuses: on the way in and out, on both sides. It says what was expected, and where, and never prints
 * what it got.
 */
import { describe, it } from "@effect/vitest"
import { Cause, Effect, Exit, Schema, SchemaTransformation } from "effect"
import { Component } from "effect-call"
import { Rpc, RpcGroup } from "effect/rpc"
import * as assert from "node:assert/strict"
import { makeLog } from "../support/log.ts"
import { clientOver, formats, open } from "./support.ts"

const Positive = Schema.Int.check(Schema.isGreaterThan(0))
class Failed extends Schema.TaggedError<Failed>()("Failed", { code: Positive }) {}
class LooselyFailed extends Schema.TaggedError<LooselyFailed>()("Failed", { code: Schema.Int }) {}

/** Two contracts of one component: one of them takes more than the other. */
const componentOf = <Count extends Schema.Codec<number>, Error extends Schema.Top>(count: Count, error: Error) => {
  const Basket = Schema.Struct({
    lines: Schema.Array(Schema.Struct({ count })),
    extra: Schema.Record(Schema.String, count)
  })
  return Component.make("test/Baskets", RpcGroup.make(Rpc.make("Put", { payload: Basket, success: Basket, error })))
}
const Strict = componentOf(Positive, Failed)
const Loose = componentOf(Schema.Int, LooselyFailed)

const basket = { lines: [{ count: 1 }, { count: 2 }], extra: {} }
const refused = { lines: [{ count: 1 }, { count: -2 }], extra: {} }
/** A path that is too long to print. */
const deep = { lines: [], extra: { ["k".repeat(100_000)]: -1 } }

const expected = "Expected a value greater than 0 at [\"lines\"][1][\"count\"]"
/** What is added where it is a peer's value. */
const mayDiffer = " (client and server may have different contracts)"

for (const format of formats) {
  describe(`in ${format}`, () => {
    it.effect("a payload that the server refuses is a RemoteError, and its handler does not run", () =>
      Effect.gen(function*() {
        let calls = 0
        const log = makeLog()
        const { connection } = yield* open(
          Strict,
          Strict.group.toLayer({ Put: (basket) => Effect.sync(() => (calls++, basket)) })
        ).pipe(Effect.provide(log.layer))
        const client = yield* clientOver(connection, Loose, { format })
        for (const options of [{}, { discard: true }]) {
          const error = yield* Effect.flip(client.Put(refused, options))
          assert.ok(error._tag === "RemoteError")
          assert.equal(error.message, `cannot decode the payload of test/Baskets.Put: ${expected}${mayDiffer}`)
          assert.equal(error.chain.length, 1)
        }
        assert.equal(calls, 0)
        assert.deepEqual(yield* client.Put(basket), basket)
        // A peer's mistake is nothing for this side's log.
        assert.deepEqual(log.lines, [])
      }).pipe(Effect.scoped))

    it.effect("a result that the client refuses is a CommunicationError that names the endpoint", () =>
      Effect.gen(function*() {
        const { connection } = yield* open(Loose, Loose.group.toLayer({ Put: () => Effect.succeed(refused) }))
        const client = yield* clientOver(connection, Strict, { format })
        const error = yield* Effect.flip(client.Put(basket))
        assert.ok(error._tag === "CommunicationError" && error.reason._tag === "Protocol")
        assert.equal(error.message, `cannot decode the result of test/Baskets.Put: ${expected}${mayDiffer}`)
        assert.equal(error.endpoint, "memory://server")
        assert.equal(error.maybeExecuted, true)
      }).pipe(Effect.scoped))

    it.effect("a failure that the client refuses is one as well", () =>
      Effect.gen(function*() {
        const { connection } = yield* open(
          Loose,
          Loose.group.toLayer({ Put: () => Effect.fail(new LooselyFailed({ code: -1 })) })
        )
        const client = yield* clientOver(connection, Strict, { format })
        const error = yield* Effect.flip(client.Put(basket))
        assert.ok(error._tag === "CommunicationError" && error.reason._tag === "Protocol")
        assert.match(
          error.message,
          /^cannot decode the failure of test\/Baskets\.Put: Expected a value greater than 0 at \["code"\]/
        )
        assert.equal(error.endpoint, "memory://server")
      }).pipe(Effect.scoped))

    it.effect("a path of 100 KB is not printed whole, in either direction", () =>
      Effect.gen(function*() {
        const toStrict = yield* open(Strict, Strict.group.toLayer({ Put: () => Effect.never }))
        const sending = yield* clientOver(toStrict.connection, Loose, { format })
        const toLoose = yield* open(Loose, Loose.group.toLayer({ Put: () => Effect.succeed(deep) }))
        const getting = yield* clientOver(toLoose.connection, Strict, { format })
        for (const call of [sending.Put(deep), getting.Put(basket)]) {
          const { message } = yield* Effect.flip(call)
          assert.match(
            message,
            /^cannot decode the \w+ of test\/Baskets\.Put: Expected a value .* at \["extra"\]\["k+… \(client and server may/
          )
          assert.ok(message.length < 1100, `${message.length}`)
        }
        // Nor where a side's own schema refuses it: with all that a log would print of it.
        const log = makeLog()
        const own = yield* open(Strict, Strict.group.toLayer({ Put: () => Effect.succeed(deep) }), { format }).pipe(
          Effect.provide(log.layer)
        )
        yield* Effect.exit(own.client.Put(basket))
        const exit = yield* Effect.exit(own.client.Put(deep))
        assert.ok(Exit.isFailure(exit))
        for (const printed of [log.lines[0]!.cause, Cause.pretty(exit.cause)]) {
          assert.match(printed, /test\/Baskets\.Put cannot be encoded: Expected a value .* at \["extra"\]\["k+…/)
          assert.ok(printed.length < 3000, `${printed.length}`)
        }
      }).pipe(Effect.scoped))

    it.effect("a payload that the client itself refuses is a defect of the caller, and is not sent", () =>
      Effect.gen(function*() {
        let calls = 0
        const { client } = yield* open(
          Strict,
          Strict.group.toLayer({ Put: (basket) => Effect.sync(() => (calls++, basket)) }),
          { format }
        )
        const exit = yield* Effect.exit(client.Put(refused))
        assert.ok(Exit.isFailure(exit) && Cause.hasDies(exit.cause))
        const defect = Cause.squash(exit.cause)
        assert.ok(defect instanceof TypeError)
        assert.equal(defect.message, `the payload of test/Baskets.Put cannot be encoded: ${expected}`)
        assert.equal(calls, 0)
      }).pipe(Effect.scoped))

    it.effect("a result or a failure that does not fit the server's own schema is a defect: it is logged at the server only", () =>
      Effect.gen(function*() {
        const log = makeLog()
        const { client } = yield* open(
          Strict,
          Strict.group.toLayer({
            Put: ({ lines }) =>
              lines.length === 0
                ? Effect.fail(new Failed({ code: -7 }, { disableChecks: true }))
                : Effect.succeed(refused)
          }),
          { format }
        ).pipe(Effect.provide(log.layer))
        const results = [
          yield* Effect.flip(client.Put(basket)),
          yield* Effect.flip(client.Put({ lines: [], extra: {} }))
        ]
        for (const error of results) {
          assert.ok(error._tag === "RemoteError")
          assert.equal(error.message, "internal error: the handler died")
          assert.equal(error.chain.length, 1)
        }
        assert.deepEqual(log.lines.map(({ annotations, level, message }) => ({ level, message, annotations })), [
          { level: "Error", message: "a handler died", annotations: { component: "test/Baskets", method: "Put" } },
          { level: "Error", message: "a handler died", annotations: { component: "test/Baskets", method: "Put" } }
        ])
        assert.ok(log.lines[0]!.cause.includes(`the result of test/Baskets.Put cannot be encoded: ${expected}`))
        assert.match(
          log.lines[1]!.cause,
          /the failure of test\/Baskets\.Put cannot be encoded: Expected a value greater than 0 at \["code"\]/
        )
      }).pipe(Effect.scoped))
  })
}

describe("a schema whose transformation has a bug", () => {
  const Broken = Schema.String.pipe(
    Schema.decodeTo(
      Schema.String,
      SchemaTransformation.transform({
        decode: (text): string => {
          if (text === "bad") throw new Error("a secret of the server")
          return text
        },
        encode: (text) => text
      })
    )
  )
  const Things = Component.make("test/Things", RpcGroup.make(Rpc.make("Do", { payload: Broken })))

  for (const format of formats) {
    it.effect(`is a defect of the server, which keeps its details to itself, in ${format}`, () =>
      Effect.gen(function*() {
        const log = makeLog()
        const { client } = yield* open(Things, Things.group.toLayer({ Do: () => Effect.void }), { format }).pipe(
          Effect.provide(log.layer)
        )
        yield* client.Do("good")
        const error = yield* Effect.flip(client.Do("bad"))
        assert.ok(error._tag === "RemoteError")
        assert.equal(error.message, "internal error: the handler died")
        assert.deepEqual(log.lines.map(({ message }) => message), ["a handler died"])
        assert.match(log.lines[0]!.cause, /a secret of the server/)
      }).pipe(Effect.scoped))

    it.effect(`is a defect of the client, where it reads a result in ${format}`, () =>
      Effect.gen(function*() {
        const Results = Component.make("test/Results", RpcGroup.make(Rpc.make("Do", { success: Broken })))
        const { client } = yield* open(Results, Results.group.toLayer({ Do: () => Effect.succeed("bad") }), { format })
        const exit = yield* Effect.exit(client.Do())
        assert.ok(Exit.isFailure(exit) && Cause.hasDies(exit.cause))
        assert.match(String(Cause.squash(exit.cause)), /a secret of the server/)
      }).pipe(Effect.scoped))
  }
})

describe("bytes that are no JSON", () => {
  it.effect("are refused with what the parser says of them", () =>
    Effect.gen(function*() {
      const { connection } = yield* open(Strict, Strict.group.toLayer({ Put: () => Effect.never }))
      const refusal = (payload: Uint8Array) =>
        Effect.map(
          Effect.flip(connection.call(Strict.keys.get("Put")!, Buffer.concat([Uint8Array.of(0x02), payload]))),
          ({ message }) => message
        )
      const what = "cannot decode the payload of test/Baskets.Put: "
      assert.match(yield* refusal(Buffer.from("{\"lines\":")), new RegExp(`^${what}Expected JSON: Unexpected end`))
      assert.match(
        yield* refusal(Buffer.from("x".repeat(100_000))),
        new RegExp(`^${what}Expected JSON: Unexpected token`)
      )
      assert.ok((yield* refusal(Buffer.from("x".repeat(100_000)))).length < 1100)
      assert.match(yield* refusal(Uint8Array.of(0xff, 0xfe)), new RegExp(`^${what}Expected JSON: .*utf-8`))
      assert.match(yield* refusal(new Uint8Array(0)), new RegExp(`^${what}Expected JSON: Unexpected end`))
    }).pipe(Effect.scoped))
})
