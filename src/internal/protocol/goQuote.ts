/**
 * `strconv.Quote` of Go, which `%q` uses, too. An identity contains the text of its error in this form. It does not
 * know identities.
 */

// `unicode.IsPrint`: letters, marks, numbers, punctuation, symbols and the ASCII space. It depends on the Unicode
// version of a runtime. A code point that is newer than the peer's tables is escaped there and not here.
const special = /["\\]|[^\p{L}\p{M}\p{N}\p{P}\p{S} ]/gu

const named: Readonly<Record<string, string>> = {
  "\"": "\\\"",
  "\\": "\\\\",
  "\x07": "\\a",
  "\b": "\\b",
  "\f": "\\f",
  "\n": "\\n",
  "\r": "\\r",
  "\t": "\\t",
  "\v": "\\v"
}

const escape = (char: string): string => {
  const short = named[char]
  if (short !== undefined) return short
  const code = char.codePointAt(0) ?? 0
  // A surrogate without its other half has no UTF-8. On the wire, and so for Go, it is U+FFFD, which is printable.
  if (code >= 0xd800 && code <= 0xdfff) return "\ufffd"
  const hex = code.toString(16)
  if (code < 0x20 || code === 0x7f) return `\\x${hex.padStart(2, "0")}`
  return code < 0x10000 ? `\\u${hex.padStart(4, "0")}` : `\\U${hex.padStart(8, "0")}`
}

/** `text` in double quotes, escaped as Go escapes it. */
export const goQuote = (text: string): string => `"${text.replace(special, escape)}"`
