import { assert, describe, it } from "@effect/vitest"
import * as fc from "fast-check"
import {
  decodeErrorChain,
  encodeErrorChain,
  type ErrorChain,
  maxLinks,
  plainError
} from "../../../src/internal/protocol/errorChain.ts"

const decode = (...bytes: ReadonlyArray<number>) => decodeErrorChain(Uint8Array.from(bytes))

const decoded = (payload: Uint8Array): ErrorChain => {
  const result = decodeErrorChain(payload)
  return result.ok ? result.chain : assert.fail(result.reason)
}

const refused = (payload: Uint8Array): string => {
  const result = decodeErrorChain(payload)
  return result.ok ? assert.fail("was decoded") : result.reason
}

const chains = fc.array(fc.record({ message: fc.string({ unit: "binary" }), identity: fc.string({ unit: "binary" }) }))

describe("the error chain", () => {
  it("comes back as it was sent", () => {
    fc.assert(fc.property(chains, (chain) => {
      assert.deepStrictEqual(decoded(encodeErrorChain(chain)), chain)
    }))
  })

  it("is read where it lies in a larger buffer", () => {
    const payload = encodeErrorChain([plainError("boom")])
    const around = new Uint8Array(payload.length + 20).fill(0xff)
    around.set(payload, 7)
    assert.deepStrictEqual(decoded(around.subarray(7, 7 + payload.length)), [plainError("boom")])
  })

  it("keeps a byte order mark, which is part of the text", () => {
    const chain = [{ message: "\ufeffmarked", identity: "\ufeff" }]
    assert.deepStrictEqual(decoded(encodeErrorChain(chain)), chain)
  })

  it("sends half a surrogate pair as the replacement character", () => {
    assert.deepStrictEqual(decoded(encodeErrorChain([{ message: "a\ud800b", identity: "\udc00" }])), [
      { message: "a\ufffdb", identity: "\ufffd" }
    ])
  })

  it("may be empty: a failure without a message", () => {
    assert.deepStrictEqual(encodeErrorChain([]), Buffer.alloc(8))
    assert.deepStrictEqual(decode(0, 0, 0, 0, 0, 0, 0, 0), { ok: true, chain: [] })
  })

  it("replaces bytes that are not UTF-8", () => {
    const payload = [1, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0x61, 0xff, 0x62, 1, 0, 0, 0, 0xc3]
    assert.deepStrictEqual(decode(...payload), { ok: true, chain: [{ message: "a\ufffdb", identity: "\ufffd" }] })
  })

  it("gives a plain error its text, quoted as Go quotes it, as its identity", () => {
    assert.deepStrictEqual(plainError("say \"hi\"\n"), {
      message: "say \"hi\"\n",
      identity: "(:&errors.errorString{s:\"say \\\"hi\\\"\\n\"})"
    })
  })

  it("is refused where it is cut off, at any byte", () => {
    const payload = encodeErrorChain([plainError("outer"), plainError("inner")])
    for (let end = 0; end < payload.length; end++) {
      assert.match(
        refused(payload.subarray(0, end)),
        /^error chain: (expected at least 8 bytes|error \d of 2 ends after)/
      )
    }
  })

  it("is refused where bytes follow it", () => {
    assert.strictEqual(
      refused(Uint8Array.from([...encodeErrorChain([plainError("boom")]), 0, 0])),
      "error chain: 2 bytes follow its last error"
    )
  })

  it("is refused where it claims an impossible number of errors, and says which", () => {
    const counts: ReadonlyArray<readonly [ReadonlyArray<number>, string]> = [
      [[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], "-1"],
      [[0, 0, 0, 0, 0, 0, 0, 0x80], "-9007199254740991"],
      [[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f], "9007199254740991"],
      [[0, 0, 0, 0, 1, 0, 0, 0], "4294967296"],
      [[1, 4, 0, 0, 0, 0, 0, 0], "1025"]
    ]
    for (const [bytes, count] of counts) {
      assert.strictEqual(
        refused(Uint8Array.from([...bytes, ...new Array<number>(64).fill(0)])),
        `error chain: expected between 0 and ${maxLinks} errors, got ${count}`
      )
    }
  })

  it("is refused where a string is longer than what is left", () => {
    assert.strictEqual(
      refused(Uint8Array.from([1, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0x61])),
      "error chain: error 1 of 1 ends after the 13 bytes of the payload"
    )
  })

  it("never throws, and what it reads it writes in the same way", () => {
    const hostile = fc.tuple(fc.integer({ min: 0, max: 3 }), fc.uint8Array({ maxLength: 64 })).map(([count, rest]) =>
      Uint8Array.from([
        count,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        ...rest.map((byte, i) => i % 4 === 0 ? byte % 8 : i % 2 === 0 ? 0 : byte % 128)
      ])
    )
    fc.assert(fc.property(fc.oneof(hostile, fc.uint8Array({ maxLength: 64 })), (payload) => {
      const result = decodeErrorChain(payload)
      if (!result.ok) assert.isNotEmpty(result.reason)
      else assert.deepStrictEqual(decoded(encodeErrorChain(result.chain)), result.chain)
    }))
  })
})
