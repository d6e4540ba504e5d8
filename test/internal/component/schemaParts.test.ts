/** Parts of schemas that are replaced where they are written. */
import { describe, it } from "@effect/vitest"
import { Schema, SchemaAST } from "effect"
import * as assert from "node:assert/strict"
import { isDeclaredJson, replaceParts } from "../../../src/internal/component/schemaParts.ts"

const keep = (part: SchemaAST.AST): SchemaAST.AST => part

/** Booleans in place of strings. */
const noStrings = (part: SchemaAST.AST): SchemaAST.AST => part._tag === "String" ? Schema.Boolean.ast : part

/** The parts that are offered, each with whether it is all that a property holds. */
const offered = (schema: Schema.Top): ReadonlyArray<string> => {
  const parts: Array<string> = []
  replaceParts(schema, (part, isField) => {
    parts.push(isField ? `${part._tag} of a field` : part._tag)
    return part
  })
  return parts
}

describe("a schema", () => {
  it("is itself where none of its parts is replaced", () => {
    for (const schema of [Schema.String, Schema.Struct({ a: Schema.Array(Schema.Date) }), Schema.FiniteFromString]) {
      assert.equal(replaceParts(schema, keep), schema)
    }
  })

  it("gets the parts in place of its own wherever it is written with them", () => {
    const schema = Schema.Struct({ a: Schema.Array(Schema.String), b: Schema.Option(Schema.String) })
    const replaced = SchemaAST.toEncoded(replaceParts(schema, noStrings).ast)
    assert.ok(replaced._tag === "Objects")
    const [a, b] = replaced.propertySignatures.map(({ type }) => type)
    assert.ok(a?._tag === "Arrays" && a.rest[0]?._tag === "Boolean")
    assert.ok(b?._tag === "Declaration" && b.typeParameters[0]?._tag === "Boolean")
  })

  it("is replaced at the end of its transformations, and not before", () => {
    assert.deepEqual(offered(Schema.FiniteFromString), ["String"])
  })

  it("offers the inside of a part before the part, and says which one is all of a property", () => {
    assert.deepEqual(offered(Schema.Struct({ a: Schema.Tuple([Schema.Null]) })), [
      "Null",
      "Arrays of a field",
      "Objects"
    ])
  })

  it("may be recursive", () => {
    interface List {
      readonly value: string
      readonly next: List | null
    }
    const List: Schema.Codec<List> = Schema.Struct({
      value: Schema.String,
      next: Schema.NullOr(Schema.suspend(() => List))
    })
    assert.equal(replaceParts(List, keep), List)
    const replaced = replaceParts(List, noStrings)
    const isList = Schema.is(replaced)
    assert.ok(isList({ value: true, next: { value: false, next: null } }))
    assert.ok(!isList({ value: true, next: { value: "no", next: null } }))
  })
})

describe("a declared type", () => {
  it("is JSON where its annotation says that its values are", () => {
    assert.ok(isDeclaredJson(Schema.Json.ast))
    for (const { ast } of [Schema.Date, Schema.Option(Schema.String), Schema.Uint8Array, Schema.Unknown]) {
      assert.ok(!isDeclaredJson(ast), ast._tag)
    }
  })
})
