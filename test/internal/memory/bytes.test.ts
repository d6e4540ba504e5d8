import { assert, describe, it } from "@effect/vitest"
import * as fc from "fast-check"
import { runInNewContext } from "node:vm"
import { copyInto, freshBytes, isBytes, ownBytes, ownCopy } from "../../../src/internal/memory/bytes.ts"

const sizes = [0, 1, 64, 65, 1000, 4096, 4097, 100_000]

const pattern = (size: number) => {
  const bytes = new Uint8Array(size)
  for (let i = 0; i < size; i++) bytes[i] = i * 31
  return bytes
}

describe("a copy", () => {
  it("has the bytes between start and end, and no memory of the source", () => {
    for (const size of sizes) {
      const source = pattern(size + 10)
      const copy = ownCopy(source, 3, 3 + size)
      assert.strictEqual(Buffer.compare(copy, pattern(size + 10).subarray(3, 3 + size)), 0, `${size} bytes`)
      source.fill(0xee)
      assert.strictEqual(Buffer.compare(copy, pattern(size + 10).subarray(3, 3 + size)), 0, `${size} bytes`)
    }
  })

  it("shares no byte with another copy, of any size", () => {
    fc.assert(fc.property(fc.array(fc.integer({ min: 0, max: 5000 }), { maxLength: 60 }), (lengths) => {
      const copies = lengths.map((length, i) => ownCopy(new Uint8Array(length).fill(i), 0, length))
      copies.forEach((copy, i) => assert.ok(copy.every((byte) => byte === i)))
    }))
  })

  it("is aligned for words of eight bytes", () => {
    for (const size of [1, 65, 70, 4096, 66]) assert.strictEqual(ownCopy(pattern(size), 0, size).byteOffset % 8, 0)
  })

  it("of a middle size cannot be transferred to another thread, since others share its memory", () => {
    const middle = ownCopy(pattern(1000), 0, 1000)
    assert.throws(() => structuredClone(middle, { transfer: [middle.buffer as ArrayBuffer] }))
    const large = ownCopy(pattern(5000), 0, 5000)
    assert.strictEqual(structuredClone(large, { transfer: [large.buffer as ArrayBuffer] }).length, 5000)
  })

  it("is not made of bytes that are owned already", () => {
    const source = pattern(100)
    assert.strictEqual(ownBytes(source, 10, 20, true).buffer, source.buffer)
    assert.deepStrictEqual([...ownBytes(source, 10, 20, true)], [...source.subarray(10, 20)])
    assert.notStrictEqual(ownBytes(source, 10, 20, false).buffer, source.buffer)
  })
})

it("bytes are copied to a place in others, and nothing around it changes", () => {
  for (const size of [0, 1, 32, 33, 100]) {
    const target = new Uint8Array(size + 20).fill(0xee)
    copyInto(target, 10, pattern(size))
    const expected = Buffer.concat([Buffer.alloc(10, 0xee), pattern(size), Buffer.alloc(10, 0xee)])
    assert.strictEqual(Buffer.compare(target, expected), 0, `${size} bytes`)
  }
})

it("new bytes have a buffer of exactly their size", () => {
  assert.strictEqual(freshBytes(5000).buffer.byteLength, 5000)
})

it("a Uint8Array is known as bytes, also one of another realm, and an impostor is not", () => {
  assert.ok(isBytes(new Uint8Array(1)) && isBytes(Buffer.from("a")) && isBytes(runInNewContext("new Uint8Array(1)")))
  const impostor: unknown = Object.create(Uint8Array.prototype)
  for (const other of [impostor, [1], new Uint16Array(1), "bytes", null]) assert.notOk(isBytes(other))
})
