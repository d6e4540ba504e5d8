/** Little-endian integers in byte arrays. */
import { describe, it } from "@effect/vitest"
import * as fc from "fast-check"
import * as assert from "node:assert/strict"
import { i32At, i64At, putI64, putU32, u32At } from "../../../src/internal/protocol/bytes.ts"

const atOffset = fc.record({ bytes: fc.uint8Array({ minLength: 16, maxLength: 16 }), offset: fc.nat(8) })

describe("integers", () => {
  it("are read as a DataView reads them, at any offset", () => {
    fc.assert(fc.property(atOffset, ({ bytes, offset }) => {
      const view = new DataView(bytes.buffer)
      assert.equal(u32At(bytes, offset), view.getUint32(offset, true))
      assert.equal(i32At(bytes, offset), view.getInt32(offset, true))
    }))
  })

  it("are written as a DataView writes them, and nothing else is touched", () => {
    fc.assert(
      fc.property(atOffset, fc.maxSafeInteger(), ({ bytes, offset }, value) => {
        const expected = new DataView(bytes.slice().buffer)
        expected.setBigInt64(offset, BigInt(value), true)
        const written = bytes.slice()
        putI64(written, offset, value)
        assert.deepEqual(written, new Uint8Array(expected.buffer))
        assert.equal(i64At(written, offset), value)
        putU32(written, offset, value)
        assert.equal(u32At(written, offset), Number(BigInt.asUintN(32, BigInt(value))))
      })
    )
  })

  it("of 64 bits that a number cannot hold become the largest safe ones", () => {
    const bytes = new Uint8Array(8)
    const view = new DataView(bytes.buffer)
    for (const value of [2n ** 53n, 2n ** 63n - 1n]) {
      view.setBigInt64(0, value, true)
      assert.equal(i64At(bytes, 0), Number.MAX_SAFE_INTEGER)
      view.setBigInt64(0, -value, true)
      assert.equal(i64At(bytes, 0), -Number.MAX_SAFE_INTEGER)
    }
  })
})
