import { describe, it } from "@effect/vitest"
import { Effect, Option, Schema } from "effect"
import * as SchemaBinary from "effect/encoding/SchemaBinary"
import { Rpc } from "effect/rpc"
import * as assert from "node:assert/strict"
import { type Contract, contractOf, fingerprintOf } from "../../../src/internal/component/contract.ts"
import { schemasOf } from "../../../src/internal/component/methodCodecs.ts"
import { pairs } from "../../Component/schemaPairs.ts"

/** The contract of a method with this result. */
const ofResult = (success: Schema.Top): Contract => {
  const rpc = Rpc.make("Do", { success }) as unknown as Rpc.AnyWithProps // `Rpc.Any` hides what each Rpc has
  return contractOf(schemasOf(rpc))
}
const same = (one: Schema.Top, other: Schema.Top): boolean => {
  const first = ofResult(one)
  const second = ofResult(other)
  const isSame = JSON.stringify(first) === JSON.stringify(second)
  const { high, low } = fingerprintOf(first)
  const fingerprint = fingerprintOf(second)
  assert.equal(low === fingerprint.low && high === fingerprint.high, isSame)
  return isSame
}

class Node extends Schema.Class<Node>("Node")({
  name: Schema.String,
  next: Schema.NullOr(Schema.suspend((): Schema.Codec<unknown> => Node as unknown as Schema.Codec<unknown>))
}) {}

describe("a contract", () => {
  it("is plain data: names, types, and what may be missing", () => {
    const rpc = Rpc.make("Order", {
      payload: { item: Schema.NonEmptyString, count: Schema.optionalKey(Schema.Int) },
      success: Schema.Array(Schema.Date),
      error: Schema.TaggedStruct("NotFound", { id: Schema.BigInt })
    }) as unknown as Rpc.AnyWithProps // `Rpc.Any` hides what each Rpc has
    const contract = contractOf(schemasOf(rpc))
    assert.deepEqual(contract, {
      payload: 0,
      success: 3,
      error: 5,
      items: null,
      shapes: [
        {
          _tag: "Struct",
          fields: [
            { name: "count", id: null, isOptional: true, shape: 1 },
            { name: "item", id: null, isOptional: false, shape: 2 }
          ],
          records: []
        },
        { _tag: "Leaf", type: "integer" },
        { _tag: "Leaf", type: "string" },
        { _tag: "Array", elements: [], rest: [4] },
        { _tag: "Leaf", type: "date" },
        { _tag: "Union", members: [6] },
        {
          _tag: "Struct",
          fields: [
            { name: "_tag", id: null, isOptional: false, shape: 7 },
            { name: "id", id: null, isOptional: false, shape: 8 }
          ],
          records: []
        },
        { _tag: "Literal", type: "string", text: "NotFound" },
        { _tag: "Leaf", type: "bigint" }
      ]
    })
    assert.deepEqual(JSON.parse(JSON.stringify(contract)), contract)
  })

  it("has one form, in any way a recursive schema was put together", () => {
    const Unrolled = Schema.Struct({ name: Schema.String, next: Schema.NullOr(Node) })
    const Twice = Schema.Struct({ name: Schema.String, next: Schema.NullOr(Unrolled) })
    assert.ok(same(Node, Unrolled))
    assert.ok(same(Node, Twice))
    assert.ok(same(Schema.Exit(Schema.Int, Node, Schema.Defect()), Schema.Exit(Schema.Int, Twice, Schema.Defect())))
    assert.ok(
      !same(Node, Schema.Struct({ name: Schema.String, next: Schema.NullOr(Schema.Struct({ name: Schema.String })) }))
    )
  })

  it("does not depend on what was described before it", () => {
    const before = JSON.stringify(ofResult(Schema.Exit(Schema.Int, Node, Schema.Defect())))
    ofResult(Node)
    ofResult(Schema.Array(Node))
    assert.equal(JSON.stringify(ofResult(Schema.Exit(Schema.Int, Node, Schema.Defect()))), before)
  })

  it("does not depend on checks, brands, docs, names of classes, or what a value is decoded to", () => {
    const Age = Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 150 }))
    assert.ok(same(Age, Schema.Int))
    assert.ok(same(Schema.String.pipe(Schema.brand("Id")), Schema.String))
    assert.ok(same(Schema.String.annotate({ title: "a text", description: "which it is" }), Schema.String))
    assert.ok(same(Schema.NumberFromString, Schema.String))
    assert.ok(same(Schema.Redacted(Schema.String), Schema.String))
    assert.ok(same(Schema.TemplateLiteral(["a", Schema.Int]), Schema.String))
    const withDefault = Schema.Int.pipe(Schema.withConstructorDefault(Effect.succeed(1)))
    assert.ok(same(Schema.Struct({ n: withDefault }), Schema.Struct({ n: Schema.Int })))
  })

  it("depends on what binary writes in another way: whole numbers, the ids of fields, the order of a union", () => {
    assert.ok(!same(Schema.Int, Schema.Finite))
    const field = (id: number) => Schema.Struct({ a: Schema.Int.pipe(SchemaBinary.fieldId(id)) })
    assert.ok(!same(field(1), field(2)))
    assert.ok(!same(field(1), Schema.Struct({ a: Schema.Int })))
    assert.ok(!same(Schema.Union([Schema.Int, Schema.String]), Schema.Union([Schema.String, Schema.Int])))
    assert.ok(!same(Schema.Struct({ a: Schema.Int }), Schema.Struct({ a: Schema.optionalKey(Schema.Int) })))
    assert.ok(!same(Schema.Tuple([Schema.Int]), Schema.Tuple([Schema.optionalKey(Schema.Int)])))
    assert.ok(!same(Schema.Option(Schema.Int), Schema.Array(Schema.Int)))
    assert.ok(!same(Schema.Literal(1), Schema.Literal("1")))
    assert.ok(!same(Schema.Literal(true), Schema.Literal(false)))
    assert.ok(!same(Schema.UniqueSymbol(Symbol.for("a")), Schema.UniqueSymbol(Symbol.for("b"))))
    assert.ok(!same(Schema.Enum({ A: "a" }), Schema.Enum({ A: "b" })))
    // By a literal that is suspended, the members of a union are not told apart.
    const tagged = (tag: Schema.Codec<string>) => Schema.Union([Schema.Struct({ tag, x: Schema.Int }), Schema.String])
    assert.ok(!same(tagged(Schema.Literal("a")), tagged(Schema.suspend(() => Schema.Literal("a")))))
  })

  it("depends on which keys have which values, where there are several kinds of keys", () => {
    const beginning = (prefix: string) => Schema.TemplateLiteral([prefix, Schema.String])
    const matching = (prefix: string) => Schema.String.check(Schema.isStartingWith(prefix))
    for (const keys of [beginning, matching]) {
      const of = (text: string, bytes: string) =>
        Schema.StructWithRest(Schema.Struct({}), [
          Schema.Record(keys(text), Schema.String),
          Schema.Record(keys(bytes), Schema.Uint8Array)
        ])
      assert.ok(same(of("a", "b"), of("a", "b")))
      assert.ok(!same(of("a", "b"), of("b", "a")))
    }
    assert.ok(same(Schema.Record(beginning("a"), Schema.Int), Schema.Record(Schema.String, Schema.Int)))
  })

  it("is one of its own where checks of keys say nothing of themselves, and there are several records", () => {
    const records = (filter: (key: string) => boolean) =>
      Schema.StructWithRest(Schema.Struct({}), [
        Schema.Record(Schema.String.check(Schema.makeFilter(filter)), Schema.Number),
        Schema.Record(Schema.String.check(Schema.isMinLength(3)), Schema.String)
      ])
    const one = records((key) => key.length < 3)
    assert.ok(same(one, one))
    assert.ok(!same(one, records((key) => key.length < 2)))
    // One record needs no check to be read.
    const single = (filter: (key: string) => boolean) =>
      Schema.Record(Schema.String.check(Schema.makeFilter(filter)), Schema.Number)
    assert.ok(same(single((key) => key.length < 3), single((key) => key.length < 2)))
  })

  it("depends on the shape of keys, where there are several records", () => {
    const records = (one: Schema.String, other: Schema.String) =>
      Schema.StructWithRest(Schema.Struct({}), [Schema.Record(one, Schema.Int), Schema.Record(other, Schema.String)])
    const short = Schema.String.check(Schema.isMaxLength(1))
    const long = Schema.String.check(Schema.isMinLength(2))
    assert.ok(same(records(short, long), records(short, long)))
    assert.ok(!same(records(short, long), records(long, short)))
    assert.ok(same(Schema.Record(short, Schema.Int), Schema.Record(long, Schema.Int)))
  })

  it("tells payload, result and failure apart", () => {
    const of = (options: { payload?: Schema.Top; success?: Schema.Top; error?: Schema.Top }) => {
      const rpc = Rpc.make("Do", options) as unknown as Rpc.AnyWithProps // `Rpc.Any` hides what each Rpc has
      return JSON.stringify(fingerprintOf(contractOf(schemasOf(rpc))))
    }
    const all = [{ payload: Schema.Int }, { success: Schema.Int }, { error: Schema.Int }, {}].map(of)
    assert.equal(new Set(all).size, all.length)
  })

  it("is described for a schema that shares its parts without end", () => {
    // Written out, it would have 2^60 leaves.
    let schema: Schema.Top = Schema.Int
    for (let i = 0; i < 60; i++) schema = Schema.Tuple([schema, schema])
    assert.equal(ofResult(schema).shapes.length, 64)
  })
})

/** What SchemaBinary itself says of the layout of a schema: the hash in front of what it writes in its other mode. */
const layoutOf = (schema: Schema.Top, value: unknown): string => {
  const codec = SchemaBinary.toCodec(schema as Schema.Codec<unknown, unknown>, { fingerprint: true })
  const frame = Schema.encodeSync(codec)(value)
  // A length of up to two bytes, the envelope, and the hash.
  const at = frame[0]! < 0x80 ? 2 : 3
  assert.equal(frame[at - 1], 0x21)
  return Buffer.from(frame.subarray(at, at + 8)).toString("hex")
}

describe("two schemas of one contract", () => {
  const sides = [
    // That hash tells how a recursive schema was put together.
    ...pairs.flatMap(([name, , one, other]) => name.startsWith("a tree") ? [] : [one, other]),
    { schema: Schema.Option(Schema.NumberFromString), values: [Option.some(1)] },
    { schema: Schema.Option(Schema.String), values: [Option.some("1")] }
  ].map(({ schema, values }) => ({ contract: JSON.stringify(ofResult(schema)), layout: layoutOf(schema, values[0]) }))

  it("have one layout in SchemaBinary", () => {
    let equal = 0
    for (const [i, one] of sides.entries()) {
      for (const other of sides.slice(i + 1)) {
        if (one.contract !== other.contract) continue
        equal++
        assert.equal(one.layout, other.layout)
      }
    }
    assert.ok(equal > 100, `${equal}`)
  })
})
