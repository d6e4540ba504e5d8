/** The values that each schema is tried with, and which of them a format refuses. */
import { BigDecimal, Cause, Chunk, DateTime, Duration, Effect, Exit, HashMap, Option, Result, Schema } from "effect"
import * as SchemaBinary from "effect/encoding/SchemaBinary"
import { runInNewContext } from "node:vm"
import { Box, BoxOf, Codes, Failed, json, Named, neverJson, notJson, type Row, Tree } from "./formatSupport.ts"

export const table: Record<string, Row> = {
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
  "a tag together with a record": {
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
