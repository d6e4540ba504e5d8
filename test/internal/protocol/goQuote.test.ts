import { assert, describe, it } from "@effect/vitest"
import * as fc from "fast-check"
import { goQuote } from "../../../src/internal/protocol/goQuote.ts"

/** What Go's strconv.Quote gives for these texts. */
const known: ReadonlyArray<readonly [text: string, quoted: string]> = [
  ["", "\"\""],
  ["plain text, 100%.", "\"plain text, 100%.\""],
  ["\x07\b\f\r\n\t\v", "\"\\a\\b\\f\\r\\n\\t\\v\""],
  ["\\", "\"\\\\\""],
  ["a\"b'c`d", "\"a\\\"b'c`d\""],
  ["\x00\x04\x1b\x1f", "\"\\x00\\x04\\x1b\\x1f\""],
  ["\x7f", "\"\\x7f\""],
  ["\x80\x9f", "\"\\u0080\\u009f\""],
  ["\u263a", "\"☺\""],
  ["größe 日本 Ω", "\"größe 日本 Ω\""],
  ["e\u0301", "\"e\u0301\""],
  ["!\u00a0!\u2000!\u3000!", "\"!\\u00a0!\\u2000!\\u3000!\""],
  ["\u00ad\u200b\u2028\ufeff", "\"\\u00ad\\u200b\\u2028\\ufeff\""],
  ["\ue000", "\"\\ue000\""],
  ["\uffff", "\"\\uffff\""],
  ["\u{1f600}", "\"\u{1f600}\""],
  ["\u{e0001}", "\"\\U000e0001\""],
  ["\u{10ffff}", "\"\\U0010ffff\""],
  ["a\ud800b\udc00", "\"a\ufffdb\ufffd\""],
  ["\ufffd", "\"\ufffd\""]
]

const isPrintable = /^[\p{L}\p{M}\p{N}\p{P}\p{S}]$/u

/** Go's documented rules, rune by rune over the text's UTF-8 (where a lone surrogate is U+FFFD). */
const slowQuote = (text: string): string => {
  let quoted = "\""
  for (const rune of Buffer.from(text, "utf8").toString("utf8")) {
    const code = rune.codePointAt(0)!
    const printable = isPrintable.test(rune)
    const short = "\x07a\bb\ff\nn\rr\tt\vv".indexOf(rune)
    if (rune === "\"" || rune === "\\") quoted += `\\${rune}`
    else if (printable || rune === " ") quoted += rune
    else if (short >= 0) quoted += `\\${"\x07a\bb\ff\nn\rr\tt\vv".charAt(short + 1)}`
    else if (code < 32 || code === 127) quoted += `\\x${(0x100 + code).toString(16).slice(1)}`
    else if (code < 0x10000) quoted += `\\u${(0x10000 + code).toString(16).slice(1)}`
    else quoted += `\\U${(0x100000000 + code).toString(16).slice(1)}`
  }
  return `${quoted}"`
}

describe("goQuote", () => {
  for (const [text, quoted] of known) {
    it(`quotes ${JSON.stringify(text)} as Go does`, () => {
      assert.strictEqual(goQuote(text), quoted)
    })
  }

  it("follows Go's rules for every text", () => {
    const character = fc.integer({ min: 0, max: 0x10ffff }).map((code) => String.fromCodePoint(code))
    fc.assert(fc.property(fc.string({ unit: character }), (text) => {
      assert.strictEqual(goQuote(text), slowQuote(text))
    }))
  })

  it("follows Go's rules for every text of UTF-16 units, halves of surrogate pairs too", () => {
    const unit = fc.oneof(fc.integer({ min: 0, max: 0xffff }), fc.integer({ min: 0xd800, max: 0xdfff }))
    fc.assert(fc.property(fc.array(unit), (units) => {
      const text = String.fromCharCode(...units)
      assert.strictEqual(goQuote(text), slowQuote(text))
    }))
  })

  it("follows Go's rules for every one of the first 0x3000 characters", () => {
    for (let code = 0; code < 0x3000; code++) {
      const char = String.fromCharCode(code)
      assert.strictEqual(goQuote(char), slowQuote(char))
    }
  })
})
