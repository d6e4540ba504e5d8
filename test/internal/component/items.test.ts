import { describe, it } from "@effect/vitest"
import { Context, Effect, Exit, Schema } from "effect"
import { Rpc } from "effect/rpc"
import * as FastCheck from "fast-check"
import * as assert from "node:assert/strict"
import { type Items, makeItemCodec, maxValues } from "../../../src/internal/component/items.ts"
import { formats } from "../../Component/support.ts"

const usual = Context.get(Context.empty(), Rpc.ParseOptions)
const codec = (schema: Schema.Top, format: "binary" | "json") => makeItemCodec(schema, format, usual)

const Person = Schema.Struct({ name: Schema.String, age: Schema.Int, at: Schema.optionalKey(Schema.Date) })
const Plain = Schema.Struct({ name: Schema.String, age: Schema.Number })
const person = FastCheck.record(
  {
    name: FastCheck.string({ unit: "grapheme" }),
    age: FastCheck.integer(),
    at: FastCheck.date({ noInvalidDate: true })
  },
  { requiredKeys: ["name", "age"], noNullPrototype: true }
)
const plain = FastCheck.record(
  { name: FastCheck.string({ unit: "grapheme" }), age: FastCheck.integer() },
  { noNullPrototype: true }
)

/** The values of the items, read one by one. */
const read = (schema: Schema.Top, format: "binary" | "json", items: Items) =>
  items.flatMap((item) => Effect.runSync(codec(schema, format).decode(item)))

for (const format of formats) {
  describe(`items in ${format}`, () => {
    it("are whole chunks, with a byte of their format", () => {
      for (
        const [schema, arbitrary] of [[Person, person], [Plain, plain], [Schema.String, FastCheck.string()]] as const
      ) {
        FastCheck.assert(
          FastCheck.property(FastCheck.array<unknown>(arbitrary, { minLength: 1 }), (values) => {
            const items = Effect.runSync(codec(schema, format).encode(values))
            assert.equal(items.length, 1)
            assert.equal(items[0][0], format === "binary" ? 1 : 2)
            assert.deepEqual(read(schema, format, items), values)
          })
        )
      }
    })

    it("are cut between values where a chunk is very large", () => {
      for (const schema of [Plain, Person]) {
        const values = Array.from({ length: maxValues }, (_, age) => ({ name: "x".repeat(200), age }))
        const items = Effect.runSync(codec(schema, format).encode(values))
        assert.ok(items.length > 1)
        for (const item of items) assert.ok(item.length <= 262_145, `${item.length} bytes`)
        assert.deepEqual(read(schema, format, items), values)
      }
    })

    it("are not cut inside a value", () => {
      const large = "x".repeat(300_000)
      const items = Effect.runSync(codec(Schema.String, format).encode([large, "y", large]))
      assert.deepEqual(read(Schema.String, format, items), [large, "y", large])
    })

    it("cannot be made of a value that the schema refuses, nor of a part of the chunk", () => {
      const encoded = Effect.runSyncExit(codec(Person, format).encode([{ name: "a", age: 1 }, { name: "b", age: 0.5 }]))
      assert.ok(Exit.isFailure(encoded))
    })

    it("cannot be read when they are cut short or damaged; reading does not throw", () => {
      const [item] = Effect.runSync(codec(Person, format).encode([{ name: "abc", age: 1 }, { name: "def", age: 2 }]))
      for (let length = 2; length < item.length; length++) {
        const exit = Effect.runSyncExit(codec(Person, format).decode(item.slice(0, length)))
        // The first frame alone is an item, too.
        if (Exit.isSuccess(exit)) assert.deepEqual(exit.value, [{ name: "abc", age: 1 }])
      }
      FastCheck.assert(
        FastCheck.property(FastCheck.uint8Array({ maxLength: 40 }), (bytes) => {
          Effect.runSyncExit(codec(Plain, format).decode(Uint8Array.of(1, ...bytes)))
        })
      )
    })
  })
}

describe("many small items", () => {
  it("are read together", () => {
    const binary = codec(Plain, "binary")
    const values = Array.from({ length: 500 }, (_, age) => ({ name: "x".repeat(age % 60), age }))
    const items = values.map((value) => Effect.runSync(binary.encode([value]))[0]) as unknown as Items
    assert.deepEqual(binary.decodeAll(items), values)
  })

  it("are read one by one where one of them is damaged, or in another format", () => {
    const binary = codec(Plain, "binary")
    const [good] = Effect.runSync(binary.encode([{ name: "a", age: 1 }]))
    assert.equal(binary.decodeAll([good, good.slice(0, -1)]), undefined)
    assert.equal(binary.decodeAll([good, Uint8Array.of(2, 91, 93)]), undefined)
  })
})

describe("values that an item would not carry", () => {
  it("are refused: text with a lone surrogate in binary", () => {
    const encoded = Effect.runSyncExit(
      codec(Plain, "binary").encode([{ name: "\ufffd", age: 1 }, { name: "\ud800", age: 1 }])
    )
    assert.ok(Exit.isFailure(encoded))
    const fine = Effect.runSync(codec(Plain, "binary").encode([{ name: "\ufffd", age: 1 }]))
    assert.deepEqual(read(Plain, "binary", fine), [{ name: "\ufffd", age: 1 }])
  })
})
