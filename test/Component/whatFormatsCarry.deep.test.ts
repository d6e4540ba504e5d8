/** Each format carries a value as it is, or its writer refuses it: nothing arrives as something else, and no peer is blamed. */
import { describe, it } from "@effect/vitest"
import {
  BigDecimal,
  Cause,
  Chunk,
  DateTime,
  Duration,
  Effect,
  Equal,
  Exit,
  HashMap,
  Option,
  Result,
  Schema,
  SchemaTransformation
} from "effect"
import { CallError, Component } from "effect-call"
import * as SchemaBinary from "effect/encoding/SchemaBinary"
import { Rpc, RpcClient, RpcGroup } from "effect/rpc"
import * as fc from "fast-check"
import * as assert from "node:assert/strict"
import { isDeepStrictEqual } from "node:util"
import { runInNewContext } from "node:vm"
import * as Codec from "../../src/internal/component/codec.ts"
import { makeLog } from "../support/log.ts"
import { formats, open } from "./support.ts"

type Format = typeof formats[number]

/** None of the schemas here needs anything. */
type AnySchema = Schema.Codec<unknown, unknown>

/** What became of a value: it arrived, or its writer refused it, for a reason. */
type Outcome = { readonly arrived: unknown } | { readonly refused: string }

/** Sends a value as a payload, as a result and as a failure. */
const send = Effect.fnUntraced(function*(schema: AnySchema, format: Format, values: ReadonlyArray<unknown>) {
  const Values = Component.make(
    "test/Values",
    RpcGroup.make(
      Rpc.make("Put", { payload: schema }),
      Rpc.make("Get", { success: schema }),
      Rpc.make("Fail", { error: schema })
    )
  )
  let given: unknown
  const received: Array<unknown> = []
  const log = makeLog()
  const { client } = yield* open(
    Values,
    Values.group.toLayer({
      Put: (payload) => Effect.sync(() => void received.push(payload)),
      Get: () => Effect.sync(() => given),
      Fail: () => Effect.suspend(() => Effect.fail(given))
    }),
    { format }
  ).pipe(Effect.provide(log.layer))

  const reasonIn = (text: string, what: string, method: string) => {
    const start = `the ${what} of test/Values.${method} cannot be encoded: `
    assert.ok(text.includes(start), text)
    return text.slice(text.indexOf(start) + start.length).split("\n")[0]!
  }
  /** A server tells its log why, and its caller nothing but that it is at fault. */
  const logged = (error: unknown, what: string, method: string): string => {
    assert.ok(error instanceof CallError.RemoteError, String(error))
    assert.equal(error.message, "internal error: the handler died")
    return reasonIn(log.lines.at(-1)!.cause, what, method)
  }

  const outcomes: Array<{ readonly value: unknown; readonly as: string; readonly outcome: Outcome }> = []
  for (const value of values) {
    given = value
    received.length = 0
    const put = yield* Effect.exit(client.Put(value))
    if (Exit.isFailure(put)) {
      assert.ok(Cause.hasDies(put.cause), Cause.pretty(put.cause))
      assert.equal(received.length, 0)
      const refused = reasonIn(String(Cause.squash(put.cause)), "payload", "Put")
      outcomes.push({ value, as: "a payload", outcome: { refused } })
    } else outcomes.push({ value, as: "a payload", outcome: { arrived: received[0] } })

    const got = yield* Effect.exit(client.Get())
    const result = Exit.isSuccess(got)
      ? { arrived: got.value }
      : { refused: logged(Cause.squash(got.cause), "result", "Get") }
    outcomes.push({ value, as: "a result", outcome: result })

    const error = yield* Effect.flip(client.Fail())
    const failure = error instanceof CallError.RemoteError
      ? { refused: logged(error, "failure", "Fail") }
      : { arrived: error }
    outcomes.push({ value, as: "a failure", outcome: failure })
  }
  return outcomes
})

const isSame = (a: unknown, b: unknown): boolean => isDeepStrictEqual(a, b) || Equal.equals(a, b)

interface Row {
  readonly schema: AnySchema
  /** What arrives in both formats. */
  readonly arrives?: ReadonlyArray<unknown>
  /** What arrives in one format, and is refused in the other one. */
  readonly arrivesInJson?: ReadonlyArray<unknown>
  /** What is refused in both, and why. */
  readonly refused?: ReadonlyArray<readonly [unknown, RegExp]>
  /** What is compared, where it is not the value itself. */
  readonly by?: (value: unknown) => unknown
}

class Point {
  readonly x = 1
}
class Named extends Schema.Class<Named>("Named")({ name: Schema.String, more: Schema.Unknown }) {}
class Failed extends Schema.TaggedError<Failed>()("Failed", { why: Schema.String }) {}

interface Tree {
  readonly name: string
  readonly more: unknown
  readonly children: ReadonlyArray<Tree>
}
const Tree = Schema.Struct({
  name: Schema.String,
  more: Schema.Unknown,
  children: Schema.Array(Schema.suspend((): Schema.Codec<Tree> => Tree))
})

/** It is made of text, and is none itself. */
const Codes = Schema.String.pipe(
  Schema.decodeTo(
    Schema.Array(Schema.Number),
    SchemaTransformation.transform({
      decode: (text): ReadonlyArray<number> => Array.from({ length: text.length }, (_, i) => text.charCodeAt(i)),
      encode: (codes: ReadonlyArray<number>) => String.fromCharCode(...codes)
    })
  )
)

/** A declared type that is written as anything at all. */
const Box = Schema.declare((u): u is { readonly content: unknown } => u instanceof BoxOf, {
  toCodecJson: () => ({
    to: Schema.Any.ast,
    transformation: SchemaTransformation.transform({
      decode: (content) => new BoxOf(content),
      encode: (box: BoxOf) => box.content
    })
  })
})
class BoxOf {
  readonly content: unknown
  constructor(content: unknown) {
    this.content = content
  }
}

const cyclic: Record<string, unknown> = {}
cyclic["self"] = [cyclic]
/** Deeper than the stack. */
let deep: unknown = 1
for (let i = 0; i < 50_000; i++) deep = [deep]

const twice = { a: 1 }
const json = [[twice, twice], null, true, 0, -1.5, 1e300, "", "a", "\ud800", { "\udfff": "\udc00" }, [], [1, [null, {
  a: "\ufffd"
}]], {
  a: { b: [] },
  ["__proto__"]: 1
}]
const notJson: ReadonlyArray<readonly [unknown, RegExp]> = [
  [{ a: [0, () => 1] }, /^Expected a value that JSON carries, got a function at \["a"\]\[1\]$/],
  [{ a: Symbol.for("a") }, /got a symbol at \["a"\]$/],
  [[1n], /got a bigint at \[0\]$/],
  [[undefined], /got undefined at \[0\]$/],
  // oxlint-disable-next-line no-sparse-arrays
  [[1, , 2], /got undefined at \[1\]$/],
  [[NaN], /got NaN at \[0\]$/],
  [{ a: Infinity }, /got Infinity at \["a"\]$/],
  [{ a: -Infinity }, /got -Infinity at \["a"\]$/],
  [new Map([[1, 2]]), /got an instance of Map$/],
  [[new Set()], /got an instance of Set at \[0\]$/],
  [new Date(0), /got an instance of Date$/],
  [new Point(), /got an instance of Point$/],
  [Object.create({ inherited: 1 }), /got an instance of Object$/],
  [new Error("no"), /got an instance of Error$/],
  [Uint8Array.of(1), /got an instance of Uint8Array$/],
  [Object("text"), /got an instance of String$/],
  [Option.some(1), /got an instance of /],
  [Object.defineProperty({ a: 1 }, "toJSON", { value: () => 5 }), /got an object with a toJSON method$/],
  [[Object.assign([1], { toJSON: () => 5 })], /got an object with a toJSON method at \[0\]$/],
  [cyclic, /got a value that contains itself at \["self"\]\[0\]$/],
  [deep, /./],
  [
    {
      get a() {
        throw new Error("a secret")
      }
    },
    /got one that throws where it is read$/
  ]
]
/** The same, with what is not even an object. */
const neverJson: Row["refused"] = [
  [undefined, /^Expected a value that JSON carries, got undefined$/],
  [() => 1, /got a function$/],
  [Symbol.for("a"), /got a symbol$/],
  [1n, /got a bigint$/],
  [NaN, /got NaN$/],
  ...notJson
]
const table: Record<string, Row> = {
  Unknown: {
    schema: Schema.Unknown,
    arrives: json,
    refused: neverJson
  },
  Any: { schema: Schema.Any, arrives: json, refused: neverJson },
  ObjectKeyword: {
    schema: Schema.ObjectKeyword,
    arrives: json.filter((value) => typeof value === "object" && value !== null),
    refused: [[() => 1, /got a function$/], ...notJson]
  },
  Json: {
    schema: Schema.Json,
    arrives: json,
    refused: [[undefined, /./], [NaN, /./], [new Map(), /./], [[undefined], /./]]
  },
  "an object of another realm": {
    schema: Schema.Unknown,
    arrives: [runInNewContext("({ a: [1, {}] })")],
    by: JSON.stringify
  },
  "a field that is Any": {
    schema: Schema.Struct({ id: Schema.Number, more: Schema.Any }),
    arrives: json.map((more) => ({ id: 1, more })),
    refused: [
      [{ id: 1, more: undefined }, /got undefined at \["more"\]$/],
      [{ id: 1, more: { of: new Map() } }, /got an instance of Map at \["more"\]\["of"\]$/]
    ]
  },
  "a class with Unknown": {
    schema: Named,
    arrives: [new Named({ name: "a", more: { b: 1 } })],
    arrivesInJson: [new Named({ name: "\udead", more: 1 })],
    refused: [[new Named({ name: "a", more: [NaN] }), /got NaN at \["more"\]\[0\]$/]]
  },
  "a recursive schema": {
    schema: Tree,
    arrives: [{ name: "\ufffd", more: "\ud800", children: [{ name: "", more: null, children: [] }] }],
    arrivesInJson: [{ name: "", more: 1, children: [{ name: "\ud800", more: 1, children: [] }] }],
    refused: [[
      { name: "", more: 1, children: [{ name: "", more: 1n, children: [] }] },
      /got a bigint at \["children"\]\[0\]\["more"\]$/
    ]]
  },
  "a declared type that is written as Any": {
    schema: Box,
    arrives: [new BoxOf(1), new BoxOf({ a: [] })],
    refused: [[new BoxOf(undefined), /got undefined$/], [new BoxOf(new Map()), /got an instance of Map$/]]
  },
  "Unknown in standard types": {
    schema: Schema.Struct({
      option: Schema.Option(Schema.Unknown),
      map: Schema.HashMap(Schema.String, Schema.Unknown),
      record: Schema.Record(Schema.String, Schema.Unknown),
      tuple: Schema.Tuple([Schema.Unknown])
    }),
    arrives: [{ option: Option.some([1]), map: HashMap.make(["\ufffd", {}]), record: { a: 1 }, tuple: [null] }],
    arrivesInJson: [{ option: Option.none(), map: HashMap.make(["\ud800", 1]), record: {}, tuple: [1] }],
    refused: [
      [{ option: Option.some(NaN), map: HashMap.empty(), record: {}, tuple: [1] }, /got NaN at \["option"\]/],
      [{ option: Option.none(), map: HashMap.make(["a", NaN]), record: {}, tuple: [1] }, /got NaN at \["map"\]/],
      [
        { option: Option.none(), map: HashMap.empty(), record: { b: NaN }, tuple: [1] },
        /got NaN at \["record"\]\["b"\]/
      ],
      [{ option: Option.none(), map: HashMap.empty(), record: {}, tuple: [NaN] }, /got NaN at \["tuple"\]\[0\]/]
    ]
  },
  "a union with Unknown": {
    schema: Schema.Union([Schema.Struct({ a: Schema.Number }), Schema.Unknown]),
    arrives: [{ a: 1 }, [1], null],
    refused: [[new Map(), /got an instance of Map/], [undefined, /got undefined/]]
  },
  String: {
    schema: Schema.String,
    arrives: ["", "a", "\ufffd", "a \ud83d\ude00 \ufffd", "\0", "\ufffd".repeat(1000)],
    arrivesInJson: ["\ud800", "\udfff", "a\ud800b", "\ude00\ud83d", `${"a".repeat(10_000)}\ud800`, "\ufffd\ud800"]
  },
  "a String with checks": {
    schema: Schema.NonEmptyString,
    arrives: ["a", "\ufffd"],
    arrivesInJson: ["\ud800"]
  },
  "text that is made of something else": {
    schema: Codes,
    arrives: [[97, 0xfffd], [0xd83d, 0xde00]],
    arrivesInJson: [[0xd800], [97, 0xdfff]]
  },
  "texts inside": {
    schema: Schema.Struct({ id: Schema.Number, tags: Schema.Array(Schema.Struct({ tag: Schema.String })) }),
    arrives: [{ id: 1, tags: [{ tag: "\ufffd" }] }],
    arrivesInJson: [{ id: 1, tags: [{ tag: "a" }, { tag: "\ud800" }] }]
  },
  "TemplateLiteral": {
    schema: Schema.TemplateLiteral(["a-", Schema.String]),
    arrives: ["a-b", "a-\ufffd"],
    arrivesInJson: ["a-\ud800"]
  },
  "Literals": {
    schema: Schema.Literals(["a", "\ud800", "\ud801"]),
    arrives: ["a"],
    arrivesInJson: ["\ud800", "\ud801"]
  },
  "Enum": {
    schema: Schema.Enum({ A: "a", B: "\ud800" }),
    arrives: ["a"],
    arrivesInJson: ["\ud800"]
  },
  "Record": {
    schema: Schema.Record(Schema.String, Schema.String),
    arrives: [{}, { "\ufffd": "\ufffd" }, JSON.parse("{\"__proto__\":\"a\"}")],
    arrivesInJson: [{ "\ud800": "a" }, { "\ud800": "a", "\ud801": "b" }, { a: "\ud800" }]
  },
  "Symbol": {
    schema: Schema.Symbol,
    arrives: [Symbol.for("a"), Symbol.for("\ufffd")],
    arrivesInJson: [Symbol.for("\ud800")],
    refused: [[Symbol("a"), /./]]
  },
  "a union of tagged structs": {
    schema: Schema.Union([
      Schema.TaggedStruct("A", { text: Schema.String }),
      Schema.TaggedStruct("B", { record: Schema.Record(Schema.String, Schema.Number) }),
      Schema.String
    ]),
    arrives: [{ _tag: "A", text: "\ufffd" }, { _tag: "B", record: { "\ufffd": 1 } }, "\ufffd"],
    arrivesInJson: [{ _tag: "A", text: "\ud800" }, { _tag: "B", record: { "\ud800": 1 } }, "\ud800"]
  },
  "a tag with a record beside it": {
    schema: Schema.Union([
      Schema.StructWithRest(Schema.TaggedStruct("A", { n: Schema.Number }), [
        Schema.Record(Schema.String, Schema.Union([Schema.String, Schema.Number]))
      ]),
      Schema.TaggedStruct("B", { text: Schema.String })
    ]),
    arrives: [{ _tag: "B", text: "\ufffd" }, { _tag: "A", n: 1, "\ufffd": "\ufffd" }],
    arrivesInJson: [{ _tag: "A", n: 1, more: "\ud800" }, { _tag: "A", n: 1, "\ud800": 1 }]
  },
  "tuples": {
    schema: Schema.TupleWithRest(Schema.Tuple([Schema.String, Schema.Unknown]), [Schema.Unknown]),
    arrives: [["\ufffd", 1], ["", null, "\ud800", {}]],
    arrivesInJson: [["\ud800", 1]],
    refused: [[["", 1, undefined], /got undefined at \[2\]$/]]
  },
  "an error": {
    schema: Failed,
    arrives: [new Failed({ why: "\ufffd" })],
    arrivesInJson: [new Failed({ why: "\ud800" })],
    by: String
  },
  "ErrorInstance": {
    schema: Schema.ErrorInstance(),
    arrives: [new Error("\ufffd", { cause: { a: 1 } })],
    arrivesInJson: [new TypeError("\ud800")],
    by: (error) => [String(error), Object(error).cause]
  },
  "Number": {
    schema: Schema.Number,
    arrives: [0, 1.5, 2 ** 60, 5e-324, 1.7e308, NaN, Infinity, -Infinity]
  },
  "Finite": { schema: Schema.Finite, arrives: [0, 1.5], refused: [[NaN, /finite/], [Infinity, /finite/]] },
  "BigInt": { schema: Schema.BigInt, arrives: [0n, -1n, 2n ** 200n] },
  "Boolean, Null, Undefined": {
    schema: Schema.Tuple([Schema.Boolean, Schema.Null, Schema.Undefined]),
    arrives: [[true, null, undefined], [false, null, undefined]]
  },
  "Date": {
    schema: Schema.Date,
    arrives: [new Date(0), new Date(8.64e15), new Date(-1)],
    refused: [[new Date(NaN), /Date/]]
  },
  "DateTimeUtc": { schema: Schema.DateTimeUtc, arrives: [DateTime.makeUnsafe(0)] },
  "DateTimeZoned": {
    schema: Schema.DateTimeZoned,
    arrives: [
      DateTime.makeZonedUnsafe(0, { timeZone: "Europe/Berlin" }),
      DateTime.makeZonedUnsafe(0, { timeZone: 3600_000 })
    ]
  },
  "Duration": {
    schema: Schema.Duration,
    arrives: [Duration.millis(5), Duration.nanos(1n), Duration.infinity, Duration.negativeInfinity, Duration.zero]
  },
  "BigDecimal": { schema: Schema.BigDecimal, arrives: [BigDecimal.fromStringUnsafe("-1.50")] },
  "Uint8Array": { schema: Schema.Uint8Array, arrives: [new Uint8Array(0), Uint8Array.of(0xef, 0xbf, 0xbd)] },
  "URL": { schema: Schema.URL, arrives: [new URL("https://example.com/a?b#c")], by: String },
  "RegExp": { schema: Schema.RegExp, arrives: [/a.b/gi, /\ufffd/], arrivesInJson: [new RegExp("\ud800")] },
  "Option": {
    schema: Schema.Option(Schema.String),
    arrives: [Option.none(), Option.some("\ufffd")],
    arrivesInJson: [Option.some("\ud800")]
  },
  "Result": {
    schema: Schema.Result(Schema.String, Schema.Number),
    arrives: [Result.succeed("a"), Result.fail(NaN)],
    arrivesInJson: [Result.succeed("\ud800")]
  },
  "Exit": {
    schema: Schema.Exit(Schema.String, Schema.String, Schema.Unknown),
    arrives: [Exit.succeed("a"), Exit.fail("\ufffd"), Exit.die({ a: 1 }), Exit.interrupt(1)],
    arrivesInJson: [Exit.succeed("\ud800"), Exit.fail("\ud800")],
    refused: [[Exit.die(new Map()), /got an instance of Map/]]
  },
  "Cause": {
    schema: Schema.Cause(Schema.String, Schema.Unknown),
    arrives: [Cause.fail("a"), Cause.die(1), Cause.interrupt(1), Cause.combine(Cause.fail("a"), Cause.die("b"))],
    arrivesInJson: [Cause.fail("\ud800")],
    refused: [[Cause.die(NaN), /got NaN/]]
  },
  "HashMap": { schema: Schema.HashMap(Schema.String, Schema.Number), arrives: [HashMap.make(["a", 1])] },
  "Chunk": { schema: Schema.Chunk(Schema.Number), arrives: [Chunk.make(1, NaN)] },
  "ReadonlyMap": {
    schema: Schema.ReadonlyMap(Schema.String, Schema.Date),
    arrives: [new Map([["a", new Date(0)]])],
    arrivesInJson: [new Map([["\ud800", new Date(0)]])]
  },
  // What another member does not take is taken as JSON, and then written as what that member stands for.
  "String or Unknown": {
    schema: Schema.Union([Schema.String, Schema.Unknown]),
    arrives: ["\ufffd", 1, { a: "\ufffd" }, { "\ud800": "\udc00" }],
    arrivesInJson: ["\ud800"]
  },
  "a record or Json": {
    schema: Schema.Union([Schema.Record(Schema.String, Schema.String), Schema.Json]),
    arrives: [{ a: "\ufffd" }, "\ud800", ["\ud800"]],
    arrivesInJson: [{ "\ud800": "a" }, { a: "\ud800" }]
  },
  "declared types that may be missing": {
    schema: Schema.Struct({
      text: Schema.String,
      url: Schema.optionalKey(Schema.URL),
      zone: Schema.optionalKey(Schema.TimeZone),
      box: Schema.optionalKey(Box)
    }),
    arrives: [{ text: "\ufffd" }, { text: "a", box: new BoxOf([1]) }]
  },
  "declared types with a number for their name": {
    schema: Schema.Struct({
      text: Schema.String,
      url: Schema.URL.pipe(SchemaBinary.fieldId(10)),
      box: Schema.optionalKey(Box).pipe(SchemaBinary.fieldId(11)),
      other: Box.pipe(SchemaBinary.fieldId(12))
    }),
    arrives: [{ text: "\ufffd", url: new URL("https://example.com/"), box: new BoxOf(1), other: new BoxOf(2) }]
  },
  "Unknown with a default": {
    schema: Schema.Struct({ a: Schema.Unknown.pipe(Schema.withDecodingDefaultKey(Effect.succeed(1))) }),
    arrives: [{ a: null }, { a: 2 }],
    refused: [[{ a: undefined }, /got undefined at \["a"\]$/]]
  },
  "Unknown that is optional": {
    schema: Schema.Struct({ a: Schema.OptionFromOptionalKey(Schema.Unknown) }),
    arrives: [{ a: Option.none() }, { a: Option.some(2) }],
    refused: [[{ a: Option.some(undefined) }, /got undefined at \["a"\]$/]]
  },
  "Unknown that is an optional element": {
    schema: Schema.Tuple([Schema.optionalKey(Schema.Unknown), Schema.optionalKey(Schema.Unknown)]),
    arrives: [[], [1], [null, 1]],
    refused: [[[undefined, 1], /got undefined at \[0\]$/], [[1, undefined], /got undefined at \[1\]$/]]
  },
  "ReadonlySet": { schema: Schema.ReadonlySet(Schema.BigInt), arrives: [new Set([1n, 2n])] }
}

for (const format of formats) {
  describe(`in ${format}`, () => {
    for (const [name, { arrives = [], arrivesInJson = [], by, refused = [], schema }] of Object.entries(table)) {
      it.effect(`${name}: what arrives is what was sent, and the rest is refused where it is written`, () =>
        Effect.gen(function*() {
          const carried = [...arrives, ...(format === "json" ? arrivesInJson : [])]
          for (const { as, outcome, value } of yield* send(schema, format, carried)) {
            assert.ok("arrived" in outcome, `as ${as}: ${"refused" in outcome ? outcome.refused : ""}`)
            const [got, sent] = by === undefined ? [outcome.arrived, value] : [by(outcome.arrived), by(value)]
            if (!isSame(got, sent)) assert.deepStrictEqual(got, sent, `as ${as}`)
          }
          const reasons = new Map(refused)
          for (const { as, outcome, value } of yield* send(schema, format, [...reasons.keys()])) {
            assert.ok("refused" in outcome, `as ${as}: a value arrived that was to be refused`)
            assert.match(outcome.refused, reasons.get(value)!)
          }
          if (format === "json") return
          for (const { as, outcome } of yield* send(schema, format, arrivesInJson)) {
            assert.ok("refused" in outcome, `as ${as}: text arrived that UTF-8 has no form for`)
            assert.match(
              outcome.refused,
              /^Expected (text|a key) without lone surrogates, which only format "json" carries/
            )
          }
        }).pipe(Effect.scoped))
    }
  })
}

describe("a schema that makes itself anew each time", () => {
  interface List {
    readonly value: unknown
    readonly next: List | null
  }
  const list = (item: AnySchema): Schema.Codec<List> =>
    Schema.Struct({ value: item, next: Schema.NullOr(Schema.suspend(() => list(item))) })

  it.effect("is carried in JSON, as deep as its values are", () =>
    Effect.gen(function*() {
      const values = [{ value: "a", next: { value: "b", next: { value: "c", next: null } } }]
      for (const { outcome, value } of yield* send(list(Schema.String), "json", values)) {
        assert.ok("arrived" in outcome)
        assert.deepEqual(outcome.arrived, value)
      }
    }).pipe(Effect.scoped))
})

describe("a time whose offset is not of whole minutes", () => {
  const times = [
    DateTime.makeZonedUnsafe(0, { timeZone: "Africa/Monrovia" }),
    DateTime.makeZonedUnsafe(-5e12, { timeZone: "Europe/Amsterdam" }),
    DateTime.makeZonedUnsafe(0, { timeZone: 90_000 })
  ]

  it.effect("is carried in binary, and refused in JSON", () =>
    Effect.gen(function*() {
      for (const { outcome, value } of yield* send(Schema.DateTimeZoned, "binary", times)) {
        assert.ok("arrived" in outcome && Equal.equals(outcome.arrived, value))
      }
      for (
        const { outcome } of yield* send(
          Schema.Struct({ at: Schema.DateTimeZoned }),
          "json",
          times.map((at) => ({ at }))
        )
      ) {
        assert.ok("refused" in outcome)
        assert.match(
          outcome.refused,
          /^Expected a time whose offset is of whole minutes, for which JSON has a form at \["at"\]/
        )
      }
    }).pipe(Effect.scoped))
})

describe("the writer", () => {
  for (const format of formats) {
    it.effect(`checks also where an Rpc turns the checks of its schemas off, in ${format}`, () =>
      Effect.gen(function*() {
        const rpc = Rpc.make("Put", { payload: Schema.Unknown }).annotate(Rpc.ParseOptions, { disableChecks: true })
        const codec = new Codec.MethodCodecs(rpc).payload(format)
        assert.ok(Exit.isFailure(yield* Effect.exit(codec.encode([NaN]))))
        const text = Rpc.make("Put", { payload: Schema.String }).annotate(Rpc.ParseOptions, { disableChecks: true })
        const encoded = yield* Effect.exit(new Codec.MethodCodecs(text).payload(format).encode("\ud800"))
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
        const codecs = new Codec.MethodCodecs(Rpc.make("Put", { payload: schema }))
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

describe("whatever the value", () => {
  /** Checks that values arrive as they are, or are refused, and that there are some of both. */
  const checkAll = (schema: AnySchema, format: Format, value: fc.Arbitrary<unknown>, expected = (v: unknown) => v) => {
    const codec = new Codec.MethodCodecs(Rpc.make("Do", { payload: schema })).payload(format)
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
      it(`${name} arrives in ${format} as it is, or is refused by its writer`, () => {
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

    it(`text arrives in ${format} as it is, or is refused by its writer`, () => {
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
