import { assert, describe, it } from "@effect/vitest"
import * as fc from "fast-check"
import { KeyTable } from "../../../src/internal/protocol/keyTable.ts"

/** Keys of few different bytes, so that many share their first word, or all words but one. */
const keys = fc.array(fc.constantFrom(0, 1, 255), { minLength: 16, maxLength: 16 }).map((bytes) =>
  Uint8Array.from(bytes)
)

const hex = (key: Uint8Array) => Buffer.from(key).toString("hex")

describe("KeyTable", () => {
  it("finds what a Map by hex finds, at any offset", () => {
    const entries = fc.array(fc.tuple(keys, fc.record({ name: fc.string() })))
    fc.assert(fc.property(entries, fc.array(keys), fc.nat(40), (entries, others, offset) => {
      const table = new KeyTable(entries)
      const map = new Map(entries.map(([key, value]) => [hex(key), value]))
      for (const key of [...entries.map(([key]) => key), ...others]) {
        const bytes = new Uint8Array(offset + 16 + 5).fill(9)
        bytes.set(key, offset)
        assert.strictEqual(table.get(bytes, offset), map.get(hex(key)))
      }
    }))
  })

  it("finds nothing when it is empty, also not the key of zeros", () => {
    assert.isUndefined(new KeyTable<object>([]).get(new Uint8Array(16), 0))
  })

  it("finds each of many keys that differ only in their last byte", () => {
    const entries = Array.from({ length: 256 }, (_, i): readonly [Uint8Array, { readonly i: number }] => {
      const key = new Uint8Array(16)
      key[15] = i
      return [key, { i }]
    })
    const table = new KeyTable(entries)
    for (const [key, value] of entries) assert.strictEqual(table.get(key, 0), value)
    assert.isUndefined(table.get(new Uint8Array(16).fill(1), 0))
  })
})
