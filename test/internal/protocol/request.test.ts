import { assert, describe, it } from "@effect/vitest"
import * as fc from "fast-check"
import { dataView } from "../../../src/internal/memory/bytes.ts"
import {
  readDeadlineMicros,
  readTraceContext,
  requestHeaderSize,
  type TraceContext,
  writeDeadline,
  writeRequestHeader
} from "../../../src/internal/protocol/request.ts"

const key = Uint8Array.from({ length: 16 }, (_, i) => 0xf0 + i)
const traceId = "4bf92f3577b34da6a3ce929d0e0e4736"
const spanId = "00f067aa0ba902b7"

/** A header in a buffer that was used before, with the bytes around it. */
const write = (deadlineMicros: number, trace?: TraceContext, offset = 3): Uint8Array => {
  const target = new Uint8Array(offset + requestHeaderSize + 4).fill(0xaa)
  writeRequestHeader(dataView(target), offset, key, deadlineMicros, trace)
  assert.isTrue(target.subarray(0, offset).every((byte) => byte === 0xaa), "bytes before the header")
  assert.isTrue(target.subarray(offset + requestHeaderSize).every((byte) => byte === 0xaa), "bytes behind the header")
  return target.subarray(offset, offset + requestHeaderSize)
}

const deadlineBytes = (deadlineMicros: number): bigint => {
  const header = write(deadlineMicros)
  return new DataView(header.buffer, header.byteOffset).getBigInt64(16, true)
}

const readDeadlineOf = (micros: bigint): number => {
  const header = write(0)
  new DataView(header.buffer, header.byteOffset).setBigInt64(16, micros, true)
  return readDeadlineMicros(header, 0)
}

const ids = (digits: number) =>
  fc.string({ unit: fc.constantFrom(...Array.from("0123456789abcdef")), minLength: digits, maxLength: digits })
    .filter((id) => /[^0]/.test(id))

describe("the request header", () => {
  it("comes back as it was written, at any offset", () => {
    fc.assert(fc.property(
      fc.uint8Array({ minLength: 16, maxLength: 16 }),
      fc.maxSafeInteger(),
      fc.option(fc.record({ traceId: ids(32), spanId: ids(16), sampled: fc.boolean() }), { nil: undefined }),
      fc.nat(100),
      (key, deadlineMicros, trace, offset) => {
        const target = new Uint8Array(offset + requestHeaderSize).fill(0xaa)
        writeRequestHeader(dataView(target), offset, key, deadlineMicros, trace)
        assert.strictEqual(
          Buffer.from(target.subarray(offset, offset + 16)).toString("hex"),
          Buffer.from(key).toString("hex")
        )
        assert.strictEqual(readDeadlineMicros(target, offset), deadlineMicros)
        assert.deepStrictEqual(readTraceContext(target, offset), trace)
      }
    ))
  })

  it("writes the deadline as an i64, as a BigInt would", () => {
    for (
      const micros of [0, 1, -1, 255, 2 ** 31, 2 ** 32 - 1, 2 ** 32, -(2 ** 32), 2 ** 52 + 1, Number.MAX_SAFE_INTEGER]
    ) {
      assert.strictEqual(deadlineBytes(micros), BigInt(micros))
      assert.strictEqual(readDeadlineOf(BigInt(micros)), micros)
    }
  })

  it("writes whole microseconds, and never lifts a deadline by rounding the time left to 0", () => {
    assert.strictEqual(deadlineBytes(1500.9), 1500n)
    assert.strictEqual(deadlineBytes(0.25), 1n)
    assert.strictEqual(deadlineBytes(-0.25), -1n)
  })

  it("writes a time left that is beyond all measure as the longest", () => {
    assert.strictEqual(deadlineBytes(Infinity), 9007199254740991n)
    assert.strictEqual(deadlineBytes(2 ** 60), 9007199254740991n)
    assert.strictEqual(deadlineBytes(-Infinity), -9007199254740991n)
  })

  it("reads a time left that a number cannot hold as the longest", () => {
    assert.strictEqual(readDeadlineOf(2n ** 63n - 1n), Number.MAX_SAFE_INTEGER)
    assert.strictEqual(readDeadlineOf(2n ** 53n), Number.MAX_SAFE_INTEGER)
    assert.strictEqual(readDeadlineOf(-(2n ** 63n)), -Number.MAX_SAFE_INTEGER)
  })

  it("lets the deadline be written again without changing other bytes", () => {
    const header = write(1000, { traceId, spanId, sampled: true })
    const expected = write(900, { traceId, spanId, sampled: true })
    writeDeadline(dataView(header), 0, 900)
    assert.deepStrictEqual(header, expected)
  })

  it("carries the ids and whether the trace is sampled", () => {
    const header = write(0, { traceId, spanId, sampled: true })
    assert.strictEqual(Buffer.from(header.subarray(24)).toString("hex"), `${traceId}${spanId}01`)
    const unsampled = write(0, { traceId, spanId, sampled: false })
    assert.strictEqual(Buffer.from(unsampled.subarray(24)).toString("hex"), `${traceId}${spanId}00`)
  })

  it("reads only the sampled bit of the flags", () => {
    const header = write(0, { traceId, spanId, sampled: false })
    header[48] = 0xfe
    assert.deepStrictEqual(readTraceContext(header, 0), { traceId, spanId, sampled: false })
    header[48] = 0xff
    assert.deepStrictEqual(readTraceContext(header, 0), { traceId, spanId, sampled: true })
  })

  it("takes upper-case ids", () => {
    const header = write(0, { traceId: traceId.toUpperCase(), spanId: spanId.toUpperCase(), sampled: true })
    assert.deepStrictEqual(readTraceContext(header, 0), { traceId, spanId, sampled: true })
  })

  for (
    const [what, trace] of [
      ["a short trace id", { traceId: traceId.slice(1), spanId }],
      ["a long trace id", { traceId: `${traceId}0`, spanId }],
      ["a trace id that is not hex", { traceId: `${traceId.slice(1)}g`, spanId }],
      ["a trace id that is not ASCII", { traceId: `${traceId.slice(1)}é`, spanId }],
      ["a trace id that is far from ASCII", { traceId: `${traceId.slice(1)}\uff11`, spanId }],
      ["a trace id of zeros", { traceId: "0".repeat(32), spanId }],
      ["a short span id", { traceId, spanId: spanId.slice(2) }],
      ["a span id that is not hex", { traceId, spanId: `-${spanId.slice(1)}` }],
      ["a span id of zeros", { traceId, spanId: "0".repeat(16) }],
      ["empty ids", { traceId: "", spanId: "" }]
    ] as const
  ) {
    it(`sends no trace context for ${what}`, () => {
      const header = write(0, { ...trace, sampled: true })
      assert.isTrue(header.subarray(24).every((byte) => byte === 0))
      assert.isUndefined(readTraceContext(header, 0))
    })
  }

  it("has no trace context where either id is zero, with any flags", () => {
    for (const [from, to] of [[24, 40], [40, 48]] as const) {
      const header = write(0, { traceId, spanId, sampled: true })
      header.fill(0, from, to)
      assert.isUndefined(readTraceContext(header, 0))
    }
  })
})
