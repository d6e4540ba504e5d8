/** Pairs of schemas that a method may have at its two ends, each with some of its values. */
import { BigDecimal, DateTime, Duration, Effect, Option, Result, Schema } from "effect"

export type Codec = Schema.Codec<unknown, unknown>

/** A schema with some of its values. */
export interface Side {
  readonly schema: Codec
  readonly values: ReadonlyArray<unknown>
}

const side = <S extends Schema.Codec<unknown, unknown>>(schema: S, ...values: ReadonlyArray<S["Type"]>): Side => ({
  schema,
  values
})

class Point extends Schema.Class<Point>("Point")({ x: Schema.Int, y: Schema.Int }) {}
class Pixel extends Schema.Class<Pixel>("Pixel")({ x: Schema.Int, y: Schema.Int }) {}
class Circle extends Schema.TaggedClass<Circle>()("Circle", { r: Schema.Int }) {}
class Square extends Schema.TaggedClass<Square>()("Square", { a: Schema.Int }) {}
class Disc extends Schema.TaggedClass<Disc>()("Circle", { r: Schema.String }) {}

export interface Tree {
  readonly name: string
  readonly children: ReadonlyArray<Tree>
}
const Tree = Schema.Struct({
  name: Schema.String,
  children: Schema.Array(Schema.suspend((): Schema.Codec<Tree> => Tree))
})
export interface NumberedTree {
  readonly name: number
  readonly children: ReadonlyArray<NumberedTree>
}
const NumberedTree = Schema.Struct({
  name: Schema.Int,
  children: Schema.Array(Schema.suspend((): Schema.Codec<NumberedTree> => NumberedTree))
})
/** The same tree, unrolled once. */
const Unrolled = Schema.Struct({ name: Schema.String, children: Schema.Array(Tree) })
const tree: Tree = { name: "root", children: [{ name: "leaf", children: [] }] }

const tenth = BigDecimal.fromStringUnsafe("0.1")

const X = Schema.Struct({ x: Schema.Int })

/** Numbers under keys that begin with one text, texts under keys that begin with another. */
const records = (numbers: string, texts: string): Codec =>
  Schema.StructWithRest(Schema.Struct({}), [
    Schema.Record(Schema.TemplateLiteral([numbers, Schema.String]), Schema.Number),
    Schema.Record(Schema.TemplateLiteral([texts, Schema.String]), Schema.String)
  ])

/** Keys that begin with one text have texts, keys that begin with the other have bytes. */
const keyed = (text: string, bytes: string): Codec =>
  Schema.StructWithRest(Schema.Struct({}), [
    Schema.Record(Schema.TemplateLiteral([text, Schema.String]), Schema.String),
    Schema.Record(Schema.TemplateLiteral([bytes, Schema.String]), Schema.Uint8Array)
  ])

/** What two schemas are to each other: the same on the wire, or apart. What comes of two that are apart, JSON says. */
export type Relation = "equal" | "apart"

/** Pairs of schemas, with what each writes. Both directions are tried. */
export const pairs: ReadonlyArray<readonly [name: string, Relation, Side, Side]> = [
  // Primitives.
  ["Int and String", "apart", side(Schema.Int, 3, 65), side(Schema.String, "", "A", "3")],
  ["Boolean and Int", "apart", side(Schema.Boolean, true, false), side(Schema.Int, 0, 1)],
  ["Boolean and String", "apart", side(Schema.Boolean, true, false), side(Schema.String, "true", "")],
  ["Int and Finite", "apart", side(Schema.Int, 3, -7, 2 ** 40), side(Schema.Finite, 1.5, 3, 2 ** 50)],
  ["Number and Finite", "equal", side(Schema.Number, 1.5, NaN, Infinity), side(Schema.Finite, 1.5)],
  ["Number and String", "apart", side(Schema.Number, 1.5, NaN), side(Schema.String, "1.5", "NaN")],
  ["BigInt and Int", "apart", side(Schema.BigInt, 3n, 2n ** 70n), side(Schema.Int, 3)],
  ["BigInt and String", "apart", side(Schema.BigInt, 3n, -1n), side(Schema.String, "3", "x")],
  ["Void and Null", "apart", side(Schema.Void, undefined), side(Schema.Null, null)],
  ["Void and Int", "apart", side(Schema.Void, undefined), side(Schema.Int, 0, 1)],
  ["Void and a struct", "apart", side(Schema.Void, undefined), side(X, { x: 1 })],
  ["Void and Undefined", "equal", side(Schema.Void, undefined), side(Schema.Undefined, undefined)],
  ["Symbol and String", "apart", side(Schema.Symbol, Symbol.for("a")), side(Schema.String, "a", "Symbol(a)")],
  ["BigDecimal and Number", "apart", side(Schema.BigDecimal, tenth), side(Schema.Number, 0.1)],
  ["Uint8Array and String", "apart", side(Schema.Uint8Array, Uint8Array.of(65, 66)), side(Schema.String, "QUI=", "?")],
  ["Date and String", "apart", side(Schema.Date, new Date(0)), side(Schema.String, "1970-01-01T00:00:00.000Z", "x")],
  ["Date and Int", "apart", side(Schema.Date, new Date(5)), side(Schema.Int, 5)],
  ["Date and DateTimeUtc", "apart", side(Schema.Date, new Date(5)), side(Schema.DateTimeUtc, DateTime.makeUnsafe(5))],
  [
    "DateTimeZoned and DateTimeUtc",
    "apart",
    side(Schema.DateTimeZoned, DateTime.makeZonedUnsafe(5, { timeZone: 0 })),
    side(Schema.DateTimeUtc, DateTime.makeUnsafe(5))
  ],
  ["Duration and Int", "apart", side(Schema.Duration, Duration.millis(5), Duration.infinity), side(Schema.Int, 5)],
  ["Unknown and Int", "apart", side(Schema.Unknown, 3, "3", null, { a: [1] }), side(Schema.Int, 3)],
  ["Unknown and a struct", "apart", side(Schema.Unknown, { x: 1 }, { x: "1" }, []), side(X, { x: 1 })],
  ["URL and String", "equal", side(Schema.URL, new URL("http://a/b")), side(Schema.String, "http://a/", "no url")],
  // Literals and enums.
  ["a literal and another one", "apart", side(Schema.Literal("a"), "a"), side(Schema.Literal("b"), "b")],
  ["a literal and String", "apart", side(Schema.Literal("a"), "a"), side(Schema.String, "a", "b")],
  [
    "literals and more of them",
    "apart",
    side(Schema.Literals(["a", "b"]), "a", "b"),
    side(Schema.Literals(["b", "a", "c"]), "a", "b", "c")
  ],
  [
    "an enum and its values as literals",
    "equal",
    side(Schema.Enum({ A: "a", B: "b" }), "a", "b"),
    side(Schema.Literals(["a", "b"]), "a", "b")
  ],
  ["a text and a number as literals", "apart", side(Schema.Literal("1"), "1"), side(Schema.Literal(1), 1)],
  // Nullable and optional.
  ["NullOr(Int) and Int", "apart", side(Schema.NullOr(Schema.Int), null, 1), side(Schema.Int, 0, 1)],
  ["NullOr(String) and String", "apart", side(Schema.NullOr(Schema.String), null, ""), side(Schema.String, "", "x")],
  [
    "NullOr(Int) and NullOr(Boolean)",
    "apart",
    side(Schema.NullOr(Schema.Int), null, 1),
    side(Schema.NullOr(Schema.Boolean), null, true)
  ],
  [
    "NullOr(Int) and UndefinedOr(Int)",
    "apart",
    side(Schema.NullOr(Schema.Int), null, 1),
    side(Schema.UndefinedOr(Schema.Int), undefined, 1)
  ],
  [
    "Option(Int) and NullOr(Int)",
    "apart",
    side(Schema.Option(Schema.Int), Option.none(), Option.some(1)),
    side(Schema.NullOr(Schema.Int), null, 1)
  ],
  [
    "Result(Int, String) and Result(String, Int)",
    "apart",
    side(Schema.Result(Schema.Int, Schema.String), Result.succeed(1), Result.fail("A")),
    side(Schema.Result(Schema.String, Schema.Int), Result.succeed("A"), Result.fail(1))
  ],
  [
    "Option(Int) and Option(String)",
    "apart",
    side(Schema.Option(Schema.Int), Option.none(), Option.some(65)),
    side(Schema.Option(Schema.String), Option.none(), Option.some("A"))
  ],
  // Structs.
  [
    "structs whose fields are in another order",
    "equal",
    side(Schema.Struct({ a: Schema.Int, b: Schema.String }), { a: 1, b: "x" }),
    side(Schema.Struct({ b: Schema.String, a: Schema.Int }), { a: 2, b: "y" })
  ],
  ["a field whose type changed", "apart", side(X, { x: 1 }), side(Schema.Struct({ x: Schema.String }), { x: "1" })],
  ["a field whose name changed", "apart", side(X, { x: 1 }), side(Schema.Struct({ z: Schema.Int }), { z: 1 })],
  [
    "a field that one does not know",
    "apart",
    side(Schema.Struct({ x: Schema.Int, note: Schema.String }), { x: 1, note: "n" }),
    side(X, { x: 2 })
  ],
  [
    "a field that may be missing",
    "apart",
    side(Schema.Struct({ x: Schema.Int, note: Schema.optionalKey(Schema.String) }), { x: 1 }, { x: 1, note: "n" }),
    side(X, { x: 2 })
  ],
  [
    "a field that may be missing, and one that may not",
    "apart",
    side(Schema.Struct({ x: Schema.optionalKey(Schema.Int) }), {}, { x: 1 }),
    side(X, { x: 0 })
  ],
  [
    "a field that may be missing or undefined, and one that may be missing",
    "apart",
    side(Schema.Struct({ x: Schema.optional(Schema.Int) }), {}, { x: 1 }, { x: undefined }),
    side(Schema.Struct({ x: Schema.optionalKey(Schema.Int) }), {}, { x: 1 })
  ],
  [
    "a field that may be missing, of another type",
    "apart",
    side(Schema.Struct({ x: Schema.Int, note: Schema.optionalKey(Schema.String) }), { x: 1, note: "7" }),
    side(Schema.Struct({ x: Schema.Int, note: Schema.optionalKey(Schema.Int) }), { x: 1, note: 7 }, { x: 1 })
  ],
  [
    "a field with a default",
    "apart",
    side(X, { x: 1 }),
    side(Schema.Struct({ x: Schema.Int, y: Schema.Int.pipe(Schema.withDecodingDefaultKey(Effect.succeed(9))) }), {
      x: 1,
      y: 2
    })
  ],
  [
    "a field that is nullable, and one that is not",
    "apart",
    side(Schema.Struct({ x: Schema.NullOr(Schema.Int) }), { x: null }, { x: 4 }),
    side(X, { x: 0 }, { x: 1 })
  ],
  [
    "a struct in a field, and a text",
    "apart",
    side(Schema.Struct({ p: X }), { p: { x: 1 } }),
    side(Schema.Struct({ p: Schema.String }), { p: "x" })
  ],
  ["an empty struct and one with a field", "apart", side(Schema.Struct({}), {}), side(X, { x: 1 })],
  // Arrays, tuples, records.
  [
    "Array(Int) and Array(String)",
    "apart",
    side(Schema.Array(Schema.Int), [], [1, 2]),
    side(Schema.Array(Schema.String), [], ["a"])
  ],
  ["Array(Int) and Int", "apart", side(Schema.Array(Schema.Int), [], [1]), side(Schema.Int, 0, 1)],
  [
    "arrays of structs with another field",
    "apart",
    side(Schema.Array(X), [{ x: 1 }, { x: 2 }]),
    side(Schema.Array(Schema.Struct({ y: Schema.Int })), [{ y: 1 }])
  ],
  [
    "a tuple and a longer one",
    "apart",
    side(Schema.Tuple([Schema.Int]), [1]),
    side(Schema.Tuple([Schema.Int, Schema.Int]), [1, 2])
  ],
  [
    "a tuple whose last element may be missing, and one where it may not",
    "apart",
    side(Schema.Tuple([Schema.Int, Schema.optionalKey(Schema.Int)]), [1], [1, 2]),
    side(Schema.Tuple([Schema.Int, Schema.Int]), [1, 2])
  ],
  [
    "tuples in another order",
    "apart",
    side(Schema.Tuple([Schema.Int, Schema.String]), [1, "a"]),
    side(Schema.Tuple([Schema.String, Schema.Int]), ["a", 1])
  ],
  [
    "a tuple and an array",
    "apart",
    side(Schema.Tuple([Schema.Int, Schema.Int]), [1, 2]),
    side(Schema.Array(Schema.Int), [1], [1, 2])
  ],
  [
    "records of other values",
    "apart",
    side(Schema.Record(Schema.String, Schema.Int), {}, { a: 1 }),
    side(Schema.Record(Schema.String, Schema.String), {}, { a: "1" })
  ],
  [
    "records whose keys look otherwise",
    "apart",
    side(records("a", "b"), { a1: 3, b1: "x" }),
    side(records("b", "a"), { b1: 3, a1: "x" })
  ],
  [
    "a record and a struct",
    "apart",
    side(Schema.Record(Schema.String, Schema.Int), {}, { x: 1 }, { y: 1 }),
    side(X, { x: 1 })
  ],
  [
    "a map and an array of pairs",
    "equal",
    side(Schema.ReadonlyMap(Schema.String, Schema.Int), new Map([["a", 1]])),
    side(Schema.Array(Schema.Tuple([Schema.String, Schema.Int])), [["a", 1]])
  ],
  [
    "keys of two kinds, and the same with their values exchanged",
    "apart",
    side(keyed("a", "b"), { a1: "QUI=", b1: Uint8Array.of(65, 66) }),
    side(keyed("b", "a"), { b1: "QUI=", a1: Uint8Array.of(65, 66) })
  ],
  // Unions.
  [
    "a union and one with a member more",
    "apart",
    side(Schema.Union([Circle, Square]), new Circle({ r: 1 }), new Square({ a: 2 })),
    side(Circle, new Circle({ r: 3 }))
  ],
  [
    "a union and one in another order",
    "apart",
    side(Schema.Union([Circle, Square]), new Circle({ r: 1 }), new Square({ a: 2 })),
    side(Schema.Union([Square, Circle]), new Circle({ r: 1 }), new Square({ a: 2 }))
  ],
  [
    "a member whose field changed",
    "apart",
    side(Schema.Union([Circle, Square]), new Circle({ r: 1 }), new Square({ a: 2 })),
    side(Schema.Union([Disc, Square]), new Disc({ r: "1" }), new Square({ a: 2 }))
  ],
  [
    "an untagged union and one of its members",
    "apart",
    side(Schema.Union([Schema.Int, Schema.String]), 1, "x"),
    side(Schema.Int, 1)
  ],
  [
    "untagged unions of other members",
    "apart",
    side(Schema.Union([Schema.Int, Schema.String]), 1, "1"),
    side(Schema.Union([Schema.Boolean, Schema.String]), true, "true")
  ],
  // Classes, brands, transformations.
  [
    "a class and a struct",
    "equal",
    side(Point, new Point({ x: 1, y: 2 })),
    side(Schema.Struct({ x: Schema.Int, y: Schema.Int }), { x: 3, y: 4 })
  ],
  ["a class and another one", "equal", side(Point, new Point({ x: 1, y: 2 })), side(Pixel, new Pixel({ x: 3, y: 4 }))],
  [
    "a class and another struct",
    "apart",
    side(Point, new Point({ x: 1, y: 2 })),
    side(Schema.Struct({ x: Schema.Int, y: Schema.String }), { x: 3, y: "4" })
  ],
  [
    "a brand and what it is made of",
    "equal",
    side(Schema.String.pipe(Schema.brand("Id")) as unknown as Codec, "a"),
    side(Schema.String, "a", "")
  ],
  ["a check and none", "equal", side(Schema.NonEmptyString, "a"), side(Schema.String, "a", "")],
  [
    "a transformation and what it is encoded as",
    "equal",
    side(Schema.NumberFromString as Codec, 3),
    side(Schema.String, "3", "x")
  ],
  ["a transformation and its type", "apart", side(Schema.NumberFromString as Codec, 3), side(Schema.Number, 3)],
  // Recursive ones.
  [
    "a tree and one with another name",
    "apart",
    side(Tree as Codec, tree),
    side(NumberedTree as Codec, { name: 1, children: [{ name: 2, children: [] }] })
  ],
  [
    "a tree and the same, put together in another way",
    "equal",
    side(Tree as Codec, tree),
    side(Unrolled as Codec, tree)
  ]
]
