/** Writers of both formats give the bytes of Effect's own codecs, whatever the value. */
import { describe, it } from "@effect/vitest"
import { Cause, Effect, Exit, Option, Schema } from "effect"
import { Component } from "effect-call"
import * as SchemaBinary from "effect/encoding/SchemaBinary"
import { Rpc, RpcClient, RpcGroup } from "effect/rpc"
import * as fc from "fast-check"
import * as assert from "node:assert/strict"
import { MethodCodecs } from "../../src/internal/component/methodCodecs.ts"
import { type AnySchema, type Format, Point, send } from "./formatSupport.ts"
import { formats, open } from "./support.ts"
import { table } from "./whatFormatsCarryTable.ts"

describe("the writer", () => {
  for (const format of formats) {
    it.effect(`checks also where an Rpc turns the checks of its schemas off, in ${format}`, () =>
      Effect.gen(function*() {
        const rpc = Rpc.make("Put", { payload: Schema.Unknown }).annotate(Rpc.ParseOptions, { disableChecks: true })
        const codec = new MethodCodecs(rpc).payload(format)
        assert.ok(Exit.isFailure(yield* Effect.exit(codec.encode([NaN]))))
        const text = Rpc.make("Put", { payload: Schema.String }).annotate(Rpc.ParseOptions, { disableChecks: true })
        const encoded = yield* Effect.exit(new MethodCodecs(text).payload(format).encode("\ud800"))
        assert.equal(Exit.isFailure(encoded), format === "binary")
      }))

    it.effect(`leaves out of what is Unknown or Any what JSON leaves out, in ${format}`, () =>
      Effect.gen(function*() {
        const arrived = function*(schema: AnySchema, value: unknown) {
          const outcomes = yield* send(schema, format, [value])
          return outcomes.map(({ outcome }) => "arrived" in outcome ? outcome.arrived : outcome)
        }
        const thrice = (value: unknown) => [value, value, value]
        for (const hole of [Schema.Unknown, Schema.Any]) {
          assert.deepEqual(yield* arrived(hole, { a: undefined, b: [{ c: undefined }] }), thrice({ b: [{}] }))
          assert.deepEqual(yield* arrived(hole, { [Symbol.for("a")]: 1, b: 2 }), thrice({ b: 2 }))
          const Optional = Schema.Struct({ a: Schema.optionalKey(hole) })
          assert.deepEqual(yield* arrived(Optional, { a: undefined }), thrice({}))
          assert.deepEqual(yield* arrived(Optional, {}), thrice({}))
          // Binary has undefined for it, where JSON would have null.
          const OrUndefined = Schema.Struct({ a: Schema.optional(hole) })
          assert.deepEqual(
            yield* arrived(OrUndefined, { a: undefined }),
            thrice(format === "binary" ? { a: undefined } : {})
          )
          assert.deepEqual(yield* arrived(OrUndefined, { a: null }), thrice({ a: null }))
        }
      }).pipe(Effect.scoped))

    it.effect(`carries -0, but for JSON, which has none, in ${format}`, () =>
      Effect.gen(function*() {
        for (const [schema, carries] of [[Schema.Number, format === "binary"], [Schema.Unknown, false]] as const) {
          for (const { outcome } of yield* send(schema, format, [-0])) {
            assert.ok("arrived" in outcome)
            assert.ok(Object.is(outcome.arrived, carries ? -0 : 0))
          }
        }
      }).pipe(Effect.scoped))

    it.effect(`tells the members of a union apart, but for JSON, where they are alike in it, in ${format}`, () =>
      Effect.gen(function*() {
        for (
          const [schema, value, inJson] of [
            [Schema.NullishOr(Schema.String), undefined, null],
            [Schema.Union([Schema.String, Schema.BigInt]), "1", 1n]
          ] as const
        ) {
          for (const { outcome } of yield* send(schema, format, [value])) {
            assert.deepEqual(outcome, { arrived: format === "binary" ? value : inJson })
          }
        }
      }).pipe(Effect.scoped))

    it.effect(`carries headers of any text, in ${format}`, () =>
      Effect.gen(function*() {
        const headers = { lone: "\ud800", "lone-\udfff": "a", replaced: "\ufffd" }
        const Headers = Component.make(
          "test/Headers",
          RpcGroup.make(Rpc.make("Get", { success: Schema.Record(Schema.String, Schema.Boolean) }))
        )
        const { client } = yield* open(
          Headers,
          Headers.group.toLayer({
            Get: (_, { headers: got }) =>
              Effect.succeed(Object.fromEntries(
                Object.entries(headers).map(([name, text], i) => [`${i}`, got[name] === text])
              ))
          }),
          { format }
        )
        assert.deepEqual(yield* RpcClient.withHeaders(client.Get(), headers), { 0: true, 1: true, 2: true })
      }).pipe(Effect.scoped))
  }

  it.effect("writes the bytes that Effect's own codecs write", () =>
    Effect.gen(function*() {
      for (const [name, { arrives = [], schema }] of Object.entries(table)) {
        const codecs = new MethodCodecs(Rpc.make("Put", { payload: schema }))
        for (const value of arrives) {
          const binary = yield* codecs.payload("binary").encode(value)
          const expected = Schema.encodeSync(SchemaBinary.toCodec(schema))(value)
          assert.deepEqual(Uint8Array.from(binary), Uint8Array.from(expected), name)
          const json = yield* codecs.payload("json").encode(value)
          const expectedJson: unknown = JSON.parse(JSON.stringify(Schema.encodeSync(Schema.toCodecJson(schema))(value)))
          assert.deepEqual(JSON.parse(Buffer.from(json).toString()), expectedJson, name)
        }
      }
    }))
})

/** Any 16-bit units, with many surrogates among them. */
const anyText = fc.array(
  fc.oneof(fc.integer({ min: 0xd800, max: 0xdfff }), fc.constantFrom(0xfffd, 0x61, 0xe9, 0), fc.nat(0xffff)),
  { maxLength: 6 }
).map((units) => String.fromCharCode(...units))

const anything = fc.anything({
  key: fc.oneof(anyText, fc.constantFrom("toJSON", "constructor", "length", "__proto__")),
  values: [
    fc.double(),
    anyText,
    fc.boolean(),
    fc.constantFrom(null, undefined, -0, 1n, Symbol.for("a"), () => 1, new Point(), /a/)
  ],
  withBoxedValues: true,
  withDate: true,
  withMap: true,
  withSet: true,
  withTypedArray: true,
  withSparseArray: true,
  withNullPrototype: true,
  withObjectString: true
})

/** What arrives of a value that JSON carries: without undefined properties, and with 0 for -0. */
const asJson = (value: unknown): unknown => {
  if (value === 0) return 0
  if (Array.isArray(value)) return value.map(asJson)
  if (typeof value !== "object" || value === null) return value
  return Object.fromEntries(
    Object.entries(value).filter(([, inner]) => inner !== undefined).map(([key, inner]) => [key, asJson(inner)])
  )
}

describe("any value", () => {
  /** Checks that values arrive as they are, or are refused, and that there are some of both. */
  const checkAll = (schema: AnySchema, format: Format, value: fc.Arbitrary<unknown>, expected = (v: unknown) => v) => {
    const codec = new MethodCodecs(Rpc.make("Do", { payload: schema })).payload(format)
    const counts = { arrived: 0, refused: 0 }
    fc.assert(
      fc.property(value, (value) => {
        const direct = codec.direct?.encode(value)
        const encoded = direct === undefined ? Effect.runSyncExit(codec.encode(value)) : Exit.succeed(direct)
        if (Exit.isFailure(encoded)) {
          assert.ok(Schema.isSchemaError(Cause.squash(encoded.cause)), Cause.pretty(encoded.cause))
          counts.refused++
          return
        }
        counts.arrived++
        assert.deepStrictEqual(Effect.runSync(codec.decode(Uint8Array.from(encoded.value))), expected(value))
      }),
      { numRuns: 1000, seed: 11 }
    )
    return counts
  }

  for (const format of formats) {
    for (const [name, hole] of [["Unknown", Schema.Unknown], ["Any", Schema.Any]] as const) {
      it(`${name} arrives in ${format} unchanged, or is refused by its writer`, () => {
        const { arrived, refused } = checkAll(hole, format, anything, asJson)
        assert.ok(arrived > 100 && refused > 100, JSON.stringify({ arrived, refused }))
        const field = checkAll(
          Schema.Struct({ id: Schema.Number, list: Schema.Array(hole) }),
          format,
          anything.map((value) => ({ id: 1, list: [value] })),
          asJson
        )
        assert.ok(field.arrived > 100 && field.refused > 100, JSON.stringify(field))
      })
    }

    it(`text arrives in ${format} unchanged, or is refused by its writer`, () => {
      const Texts = Schema.Struct({
        text: Schema.String,
        checked: Schema.String.check(Schema.isMaxLength(100)),
        option: Schema.Option(Schema.String),
        record: Schema.Record(Schema.String, Schema.String),
        template: Schema.TemplateLiteral(["a", Schema.String]),
        map: Schema.ReadonlyMap(Schema.String, Schema.Array(Schema.String)),
        unknown: Schema.Unknown
      })
      // Mostly of a kind that UTF-8 carries, so that not all are refused.
      const text = fc.oneof({ weight: 30, arbitrary: fc.string() }, { weight: 1, arbitrary: anyText })
      const value = fc.record({
        text,
        checked: text,
        option: text.map(Option.some),
        record: fc.dictionary(text, text, { noNullPrototype: true }),
        template: text.map((text) => `a${text}`),
        map: fc.array(fc.tuple(text, fc.array(text))).map((entries) => new Map(entries)),
        unknown: anyText
      }, { noNullPrototype: true })
      for (const [schema, values] of [[Texts, value], [Schema.String, anyText]] as const) {
        const { arrived, refused } = checkAll(schema, format, values)
        assert.ok(arrived > 100, `${arrived}`)
        if (format === "binary") assert.ok(refused > 100, `${refused}`)
        else assert.equal(refused, 0)
      }
    })
  }
})
