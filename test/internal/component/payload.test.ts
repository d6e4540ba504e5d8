/** The layout of typed payloads: the format byte and the headers. */
import { describe, it } from "@effect/vitest"
import { Headers } from "effect/http"
import * as fc from "fast-check"
import * as assert from "node:assert/strict"
import * as Payload from "../../../src/internal/component/payload.ts"

describe("the format byte", () => {
  it("names a known format, with no other flags than its side may set", () => {
    const known = new Map<number, Payload.Format>()
    for (let byte = 0; byte < 256; byte++) {
      const format = Payload.formatOf(byte, Payload.hasHeaders | Payload.isDiscarded)
      if (format !== undefined) known.set(byte, format)
    }
    assert.deepEqual(
      [...known],
      [0x01, 0x02, 0x11, 0x12, 0x21, 0x22, 0x31, 0x32].map((byte) => [byte, byte % 2 === 1 ? "binary" : "json"])
    )
    assert.equal(Payload.formatOf(0x11, Payload.isFailure), "binary")
    assert.equal(Payload.formatOf(0x11, 0), undefined)
    assert.equal(Payload.formatOf(0x21, Payload.isFailure), undefined)
  })
})

describe("headers", () => {
  const written = (headers: Headers.Headers) => {
    const block = Payload.encodeHeaders(headers)
    // Somewhere in a buffer, as they arrive.
    const bytes = new Uint8Array(3 + block.length + 2).fill(0xff)
    bytes.set(block, 3)
    return { bytes, end: 3 + block.length }
  }

  it("are read as they were written, with the place where they end", () => {
    fc.assert(fc.property(fc.dictionary(fc.string(), fc.string({ unit: "grapheme" })), (record) => {
      const headers = Headers.fromInput(record)
      const { bytes, end } = written(headers)
      const read = Payload.decodeHeaders(bytes, 3, bytes.length)
      assert.equal(read?.next, end)
      assert.deepEqual({ ...read.headers }, { ...headers })
    }))
  })

  it("cannot be read where they are cut", () => {
    const { bytes, end } = written(Headers.fromInput({ a: "1", b: "two" }))
    for (let cut = 3; cut < end; cut++) assert.equal(Payload.decodeHeaders(bytes, 3, cut), undefined)
    assert.notEqual(Payload.decodeHeaders(bytes, 3, end), undefined)
  })

  it("are read from any bytes without a throw, and end inside them", () => {
    fc.assert(fc.property(fc.uint8Array({ maxLength: 40 }), (bytes) => {
      const read = Payload.decodeHeaders(bytes, 0, bytes.length)
      if (read !== undefined) assert.ok(read.next <= bytes.length && read.next >= 4)
    }))
  })
})
