/** What is checked where values are written. */
import { describe, it } from "@effect/vitest"
import { Exit, Schema } from "effect"
import * as assert from "node:assert/strict"
import { checkingJson, hasReplacement } from "../../../src/internal/component/fidelity.ts"

const replacement = Buffer.from("\ufffd")

describe("bytes with a U+FFFD", () => {
  it("are found wherever it is, among bytes that begin and end like it", () => {
    const units = [...replacement, 0x61]
    for (let length = 0; length <= 7; length++) {
      for (let i = 0; i < units.length ** length; i++) {
        const bytes = Uint8Array.from({ length }, (_, at) => units[Math.floor(i / units.length ** at) % units.length]!)
        assert.equal(hasReplacement(bytes), Buffer.from(bytes).includes(replacement), String(bytes))
      }
    }
  })

  it("are found in many bytes, and in a part of a larger buffer", () => {
    const block = new Uint8Array(5000).fill(0x61)
    block.set(replacement, 4000)
    for (const length of [3, 200, 255, 256, 257, 258, 3000]) {
      for (const start of [4000, 4003 - length]) {
        assert.ok(hasReplacement(block.subarray(start, start + length)), `${start} ${length}`)
      }
      for (const start of [4001, 4002 - length]) {
        assert.ok(!hasReplacement(block.subarray(start, start + length)), `${start} ${length}`)
      }
    }
  })
})

describe("a schema that is made again at each use", () => {
  interface List {
    readonly value: unknown
    readonly next: List | null
  }
  const list = (item: Schema.Codec<unknown>): Schema.Codec<List> =>
    Schema.Struct({ value: item, next: Schema.NullOr(Schema.suspend(() => list(item))) })
  const of = (...values: ReadonlyArray<unknown>): List | null =>
    values.length === 0 ? null : { value: values[0], next: of(...values.slice(1)) }
  const encode = (item: Schema.Codec<unknown>, ...values: ReadonlyArray<unknown>) =>
    Schema.encodeUnknownExit(Schema.toCodecJson(checkingJson(list(item), "json") as Schema.Codec<unknown>))(
      of(...values)
    )

  it("is checked as deep as a value is", () => {
    assert.deepEqual(encode(Schema.String, "a", "b"), Exit.succeed(of("a", "b")))
    assert.deepEqual(encode(Schema.Unknown, 1, "b"), Exit.succeed(of(1, "b")))
    assert.match(String(encode(Schema.Unknown, 1, 2, new Map())), /got an instance of Map/)
  })
})
