/** Texts for a terminal. */
import { describe, it } from "@effect/vitest"
import * as assert from "node:assert/strict"
import { clip, grid, json, printable, width } from "../../src/cli/text.ts"

describe("a printable text", () => {
  it("has its control characters spelled out", () => {
    assert.equal(printable("a\nb\r\tc\u001b[2J\u007f\u009b1m"), "a\\nb\\r\\tc\\u{1b}[2J\\u{7f}\\u{9b}1m")
  })

  it("has no characters that reverse others, are invisible, or are half of a surrogate pair", () => {
    assert.equal(printable("a\u202eb\u200bc\u2028d\ud800e"), "a\\u{202e}b\\u{200b}c\\u{2028}d\\u{d800}e")
  })

  it("is the same where there are none", () => {
    assert.equal(printable("naïve 世界 🙂"), "naïve 世界 🙂")
  })
})

describe("JSON for a terminal", () => {
  it("has no control characters, and is the same value", () => {
    const value = { "a\u009b": "\u001b[2J\u007f\u2028\u{e0001}" }
    const text = json(value)
    assert.equal(text, "{\"a\\u009b\":\"\\u001b[2J\\u007f\\u2028\\udb40\\udc01\"}")
    assert.deepEqual(JSON.parse(text), value)
  })

  it("is null where there is no value", () => {
    assert.equal(json(undefined), "null")
  })
})

describe("a clipped text", () => {
  it("is as wide as there is room, and no wider", () => {
    assert.equal(clip("abcdef", 6), "abcdef")
    assert.equal(clip("abcdef", 5), "abcd…")
    assert.equal(clip("abcdef", 1), "…")
    assert.equal(clip("abcdef", 0), "")
  })

  it("counts wide characters twice, and combining marks not at all", () => {
    assert.equal(width("世界"), 4)
    assert.equal(width("🙂e\u0301"), 3)
    assert.equal(clip("世界世界", 6), "世界…")
    assert.equal(width(clip("世界世界", 6)), 5)
  })
})

describe("a grid", () => {
  it("has columns as wide as their widest cell, numbers at the right, and nothing at the ends of its lines", () => {
    const lines = grid([{ title: "NAME" }, { title: "N", right: true, min: 3 }, { title: "NOTE" }], [
      ["世界世", "1", ""],
      ["a", "23", "b\nc"]
    ])
    assert.deepEqual(lines, [
      "NAME      N  NOTE",
      "世界世    1",
      "a        23  b\\nc"
    ])
  })
})
