import { describe, it } from "@effect/vitest"
import { Cause, Exit, Schema } from "effect"
import { MethodKey } from "effect-call"
import { Headers } from "effect/http"
import { Rpc } from "effect/rpc"
import * as fc from "fast-check"
import * as assert from "node:assert/strict"
import * as Codec from "../../../src/internal/component/codec.ts"
import { hostileErrors } from "../../support/hostileErrors.ts"

describe("the format byte", () => {
  it("is that of a codec, with the flags that its side may set and no other", () => {
    const known = new Map<number, Codec.Format>()
    for (let byte = 0; byte < 256; byte++) {
      const format = Codec.formatOf(byte, Codec.hasHeaders | Codec.isDiscarded)
      if (format !== undefined) known.set(byte, format)
    }
    assert.deepEqual(
      [...known],
      [0x01, 0x02, 0x11, 0x12, 0x21, 0x22, 0x31, 0x32].map((byte) => [byte, byte % 2 === 1 ? "binary" : "json"])
    )
    assert.equal(Codec.formatOf(0x11, Codec.isFailure), "binary")
    assert.equal(Codec.formatOf(0x11, 0), undefined)
    assert.equal(Codec.formatOf(0x21, Codec.isFailure), undefined)
  })
})

describe("headers", () => {
  const written = (headers: Headers.Headers) => {
    const block = Codec.encodeHeaders(headers)
    // Somewhere in a buffer, as they arrive.
    const bytes = new Uint8Array(3 + block.length + 2).fill(0xff)
    bytes.set(block, 3)
    return { bytes, end: 3 + block.length }
  }

  it("are read as they were written, and it is told where they end", () => {
    fc.assert(fc.property(fc.dictionary(fc.string(), fc.string({ unit: "grapheme" })), (record) => {
      const headers = Headers.fromInput(record)
      const { bytes, end } = written(headers)
      const read = Codec.decodeHeaders(bytes, 3, bytes.length)
      assert.equal(read?.next, end)
      assert.deepEqual({ ...read.headers }, { ...headers })
    }))
  })

  it("are none where they are cut", () => {
    const { bytes, end } = written(Headers.fromInput({ a: "1", b: "two" }))
    for (let cut = 3; cut < end; cut++) assert.equal(Codec.decodeHeaders(bytes, 3, cut), undefined)
    assert.notEqual(Codec.decodeHeaders(bytes, 3, end), undefined)
  })

  it("are none, or some, of any bytes", () => {
    fc.assert(fc.property(fc.uint8Array({ maxLength: 40 }), (bytes) => {
      const read = Codec.decodeHeaders(bytes, 0, bytes.length)
      if (read !== undefined) assert.ok(read.next <= bytes.length && read.next >= 4)
    }))
  })
})

describe("a method's codecs", () => {
  it("give what they can at once, so that no fiber waits for it", () => {
    const codecs = new Codec.MethodCodecs(Rpc.make("Do", { payload: { id: Schema.Int } }))
    for (const format of ["binary", "json"] as const) {
      const encoded = Codec.valueNow(codecs.payload(format).encode({ id: 1 }))
      assert.ok(encoded !== undefined)
      assert.deepEqual(Codec.valueNow(codecs.payload(format).decode(encoded.value)), Exit.succeed({ id: 1 }))
    }
  })

  it("are compiled once", () => {
    const codecs = new Codec.MethodCodecs(Rpc.make("Do"))
    for (const format of ["binary", "json"] as const) {
      assert.equal(codecs.payload(format), codecs.payload(format))
      assert.equal(codecs.success(format), codecs.success(format))
      assert.equal(codecs.error(format), codecs.error(format))
    }
  })
})

describe("what is wrong with a value", () => {
  const Item = Schema.Struct({ id: Schema.Int, parts: Schema.Array(Schema.Struct({ name: Schema.NonEmptyString })) })

  it("is one line with what was expected, and where", () => {
    const refused = Schema.decodeUnknownExit(Item)({ id: 1, parts: [{ name: "a" }, { name: 1 }] })
    assert.ok(Exit.isFailure(refused))
    assert.equal(Codec.refusalOf(refused.cause), "Expected string at [\"parts\"][1][\"name\"]")
  })

  it("is told of what a constructor throws, too", () => {
    let thrown: unknown
    try {
      Item.make({ id: 1, parts: [{ name: "" }] })
    } catch (error) {
      thrown = error
    }
    assert.equal(Codec.problemOf(thrown), "Expected a value with a length of at least 1 at [\"parts\"][0][\"name\"]")
  })

  it("names everything where all of it was looked at", () => {
    const refused = Schema.decodeUnknownExit(Item, { errors: "all" })({ id: "x", parts: [{ name: 1 }] })
    assert.ok(Exit.isFailure(refused))
    assert.equal(
      Codec.refusalOf(refused.cause),
      "Expected number at [\"id\"]; Expected string at [\"parts\"][0][\"name\"]"
    )
  })

  it("is a text of a thousand characters at most, however long the value or its path", () => {
    const refused = Schema.decodeUnknownExit(Schema.Record(Schema.String, Schema.Int))({ ["k".repeat(100_000)]: "x" })
    assert.ok(Exit.isFailure(refused))
    const problem = Codec.refusalOf(refused.cause) ?? ""
    assert.match(problem, /^Expected number at \["k+…$/)
    assert.equal(problem.length, 1001)
  })

  it("is what somebody threw, where that was no issue of a schema", () => {
    assert.equal(Codec.problemOf(new Error("not utf-8")), "not utf-8")
    assert.equal(Codec.problemOf("text"), "text")
    assert.equal(Codec.problemOf(undefined), "undefined")
  })

  it("is nobody's business where a transformation has died", () => {
    assert.equal(Codec.refusalOf(Cause.die(new Error("dead"))), undefined)
    assert.equal(Codec.refusalOf(Cause.die(new RangeError("Invalid time value"))), undefined)
    assert.equal(Codec.problemOf(Object.create(null)), "{}")
  })

  for (const [what, make] of Object.entries(hostileErrors)) {
    it(`does not throw, and says something, where a transformation has failed or died with ${what}`, () => {
      const key = MethodKey.make("test/Codec", "do")
      for (const cause of [Cause.fail(make()), Cause.die(make())]) {
        assert.notEqual(Codec.refusalOf(cause), "")
        assert.match(
          Codec.unencodable("result", key, cause).message,
          /^the result of test\/Codec\.do cannot be encoded: ./
        )
      }
      assert.match(Codec.unencodable("payload", key, make()).message, /cannot be encoded: ./)
    })
  }
})
