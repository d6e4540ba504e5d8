/**
 * Values that are written and read without the pass of their schema: they have to be those of the codec with it.
 */
import { describe, it } from "@effect/vitest"
import { Effect, Exit, Schema } from "effect"
import { Rpc } from "effect/rpc"
import * as fc from "fast-check"
import * as assert from "node:assert/strict"
import * as Codec from "../../../src/internal/component/codec.ts"
import { hasReplacement } from "../../../src/internal/component/fidelity.ts"
import { MethodCodecs } from "../../../src/internal/component/methodCodecs.ts"

const codecOf = (schema: Schema.Codec<unknown, unknown>) =>
  new MethodCodecs(Rpc.make("Do", { success: schema })).success("binary")

const directOf = (schema: Schema.Codec<unknown, unknown>): Codec.Direct => {
  const { direct } = codecOf(schema)
  assert.ok(direct !== undefined)
  return direct
}

const Everything = Schema.Struct({
  text: Schema.String,
  count: Schema.Number,
  flag: Schema.Boolean,
  large: Schema.BigInt,
  bytes: Schema.Uint8Array,
  when: Schema.Date,
  maybe: Schema.optional(Schema.String),
  nullable: Schema.NullOr(Schema.Number),
  list: Schema.Array(Schema.Struct({ id: Schema.Number, tags: Schema.Array(Schema.String) })),
  byName: Schema.Record(Schema.String, Schema.Number),
  kind: Schema.Union([Schema.Literal("a"), Schema.Literal("b")])
})

const everything = fc.record({
  text: fc.string({ unit: "grapheme" }),
  count: fc.double(),
  flag: fc.boolean(),
  large: fc.bigInt(),
  bytes: fc.uint8Array(),
  when: fc.date({ noInvalidDate: true }),
  maybe: fc.option(fc.string(), { nil: undefined }),
  nullable: fc.option(fc.integer(), { nil: null }),
  list: fc.array(fc.record({ id: fc.nat(), tags: fc.array(fc.string()) }), { maxLength: 4 }),
  byName: fc.dictionary(fc.string({ minLength: 1 }).filter((key) => key !== "__proto__"), fc.integer()),
  kind: fc.constantFrom("a", "b")
})

describe("values without the pass of their schema", () => {
  it("are left to the codec where they contain U+FFFD, which may stand for what UTF-8 does not carry", () => {
    const codec = codecOf(Schema.Struct({ text: Schema.String }))
    assert.equal(codec.direct!.encode({ text: "\ufffd" }), undefined)
    const written = Codec.valueNow(codec.encode({ text: "\ufffd" }))
    assert.deepEqual(codec.direct!.decode(written!.value.slice()), { text: "\ufffd" })
  })

  it("are the same bytes, and the same values, as with it", () => {
    const codec = codecOf(Everything)
    const direct = directOf(Everything)
    fc.assert(fc.property(everything, (value) => {
      const expected = Codec.valueNow(codec.encode(value))
      assert.ok(expected !== undefined)
      const bytes = direct.encode(value)
      // Where U+FFFD is written, the codec finds out what it stands for.
      if (bytes === undefined) assert.ok(hasReplacement(expected.value))
      else assert.deepEqual(bytes, expected.value)
      const decoded = Codec.valueNow(codec.decode(expected.value))
      // A copy: what is encoded may lie in a block that is too large for a parser to keep.
      assert.deepEqual(direct.decode(expected.value.slice()), decoded?.value)
    }))
  })

  it("are refused where the codec refuses them, and the next ones are read anyway", () => {
    const codec = codecOf(Everything)
    const direct = directOf(Everything)
    fc.assert(fc.property(everything, fc.nat(), fc.integer({ min: 1, max: 255 }), (value, at, flip) => {
      const bytes = Codec.valueNow(codec.encode(value))?.value
      assert.ok(bytes !== undefined)
      const broken = bytes.slice()
      broken[at % broken.length]! ^= flip
      const read = direct.decode(broken)
      const expected = codec.decode(broken)
      if (read !== Codec.unread) assert.deepEqual(Codec.valueNow(expected)?.value, read)
      else if (Exit.isExit(expected)) assert.ok(Exit.isFailure(expected))
      for (const cut of [bytes.subarray(0, bytes.length - 1), new Uint8Array([...bytes, 0])]) {
        assert.equal(direct.decode(cut.slice()), Codec.unread)
      }
      assert.notEqual(direct.decode(bytes.slice()), Codec.unread)
    }))
  })

  it("do not change with the buffer that they were read from", () => {
    const direct = directOf(Everything.mapFields(({ bytes, text }) => ({ bytes, text })))
    const bytes = direct.encode({ bytes: Uint8Array.of(1, 2, 3), text: "abc" })!.slice()
    const value = direct.decode(bytes)
    bytes.fill(0xff)
    assert.deepEqual(value, { bytes: Uint8Array.of(1, 2, 3), text: "abc" })
  })

  it("are not values that only the schema can decide about", () => {
    interface Tree {
      readonly children: ReadonlyArray<Tree>
    }
    const Tree: Schema.Codec<Tree> = Schema.Struct({ children: Schema.Array(Schema.suspend(() => Tree)) })
    class Point extends Schema.Class<Point>("Point")({ x: Schema.Number }) {}
    for (
      const schema of [Tree, Point, Schema.NonEmptyString, Schema.NumberFromString, Schema.Struct({ n: Schema.Int })]
    ) {
      assert.equal(codecOf(schema).direct, undefined)
    }
    const strict = Rpc.make("Do", { success: Schema.Struct({ a: Schema.String }) })
      .annotate(Rpc.ParseOptions, { onExcessProperty: "error" })
    assert.equal(new MethodCodecs(strict).success("binary").direct, undefined)
  })
})

describe("a payload is sent unchanged", () => {
  const { Boolean, Literal, Number, Record, String, Struct, Uint8Array, Union } = Schema

  it("where its schema has nothing to make of it", () => {
    for (
      const schema of [
        Struct({ a: String, b: Schema.Array(Struct({ c: Number })) }),
        Struct({ bytes: Uint8Array }),
        Schema.Void
      ]
    ) {
      assert.ok(Codec.isSentAsGiven(schema))
    }
    assert.ok(Codec.isSentAsGiven(Struct({ kind: Union([Literal("a"), Boolean]), byName: Record(String, Number) })))
  })

  it("but not where the schema fills something in, looks where the encoder does not, or picks a member", () => {
    for (
      const schema of [
        Schema.TaggedStruct("A", { a: String }),
        Struct({ a: String.pipe(Schema.withConstructorDefault(Effect.succeed("x"))) }),
        Struct({ deep: Schema.Array(Struct({ a: Schema.optional(String) })) }),
        Schema.StructWithRest(Struct({ a: String }), [Record(String, String)]),
        Union([Struct({ x: Number }), Struct({ x: Number, y: Number })])
      ]
    ) assert.ok(!Codec.isSentAsGiven(schema))
  })
})
