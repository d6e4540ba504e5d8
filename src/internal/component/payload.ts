/**
 * The layout of typed arguments, items and results, inside the payloads of requests, opens, items and responses. It
 * knows no schemas.
 *
 * The first byte is the format:
 *
 * | bits | in a request or open | in an item | in a response |
 * |---|---|---|---|
 * | 0–3 | 1 SchemaBinary, 2 JSON | as in the open | as in the request or open |
 * | 4 | headers follow, before the arguments | 0 | the result is one of the method's failures |
 * | 5 | discard: answer as soon as the handler starts; 0 in an open | 0 | 0 |
 * | 6 | 0 in a request, 1 in an open | 0 | 0 |
 * | 7 | 0 | 0 | 0 |
 *
 * A binary request has the fingerprint of the method's contract next: 8 bytes. A server with another fingerprint runs
 * nothing and answers with an error of its own (`contractDiffers`). The client then sends the method in JSON on that
 * connection.
 *
 * An item holds a chunk of values: frames of SchemaBinary, one after the other, or a JSON array. The response to a
 * stream of results is the format byte alone, or a failure.
 *
 * Headers are a u32 (little-endian) with the length in bytes of what follows: a JSON array of `[name, value]`.
 */
import * as Exit from "effect/Exit"
import * as Headers from "effect/http/Headers"
import * as Schema from "effect/Schema"
import { Buffer } from "node:buffer"
import { unexpected } from "../guard.ts"
import { ownBytes } from "../memory/bytes.ts"

/** How values are written: compact and open to evolution, or readable. */
export type Format = "binary" | "json"

/** Bits 0–3. */
const formatBits = 0x0f
export const formatCode: Readonly<Record<Format, number>> = { binary: 1, json: 2 }
const formatOfCode: ReadonlyArray<Format | undefined> = [undefined, "binary", "json"]

/** Bits 4 to 6. */
export const hasHeaders = 0x10
export const isFailure = 0x10
export const isDiscarded = 0x20
export const isStream = 0x40

/**
 * The format that a payload's first byte names; undefined if the format is unknown, or if a bit outside `flags` is set.
 */
export const formatOf = (byte: number, flags: number): Format | undefined =>
  (byte & ~(formatBits | flags)) === 0 ? formatOfCode[byte & formatBits] : undefined

/** A plain view of the bytes. If a decoder gets a Buffer, it makes views of it instead of copies. */
export const view = (bytes: Uint8Array, start: number, end: number): Uint8Array => ownBytes(bytes, start, end, true)

/** A copy of both, one after the other. */
export const joined = (first: Uint8Array, second: Uint8Array): Uint8Array => {
  const both = new Uint8Array(first.length + second.length)
  both.set(first)
  both.set(second, first.length)
  return both
}

const utf8 = new TextEncoder()

/** The block of headers that goes before the arguments. Throws a TypeError if a value is no text. */
export const encodeHeaders = (headers: Headers.Headers): Uint8Array => {
  // Code without types may give any value.
  const pairs: ReadonlyArray<readonly [name: string, value: unknown]> = Object.entries(headers)
  for (const [name, value] of pairs) {
    if (typeof value !== "string") throw unexpected(`the header ${name}`, "a text", value)
  }
  const text = utf8.encode(JSON.stringify(pairs))
  const block = new Uint8Array(4 + text.length)
  new DataView(block.buffer).setUint32(0, text.length, true)
  block.set(text, 4)
  return block
}

const HeaderPairs = Schema.decodeUnknownExit(
  Schema.fromJsonString(Schema.Array(Schema.Tuple([Schema.String, Schema.String])))
)

/** The offset of the arguments after the block of headers at `start`. The block must be there. */
export const endOfHeaders = (bytes: Uint8Array, start: number): number =>
  start + 4 + new DataView(bytes.buffer, bytes.byteOffset + start, 4).getUint32(0, true)

/**
 * Reads the block of headers at `start`, and gives the offset of the arguments, too; undefined if the block is invalid.
 */
export const decodeHeaders = (
  bytes: Uint8Array,
  start: number,
  end: number
): { readonly headers: Headers.Headers; readonly next: number } | undefined => {
  if (end - start < 4) return undefined
  const next = endOfHeaders(bytes, start)
  if (next > end) return undefined
  const pairs = HeaderPairs(Buffer.from(bytes.buffer, bytes.byteOffset + start + 4, next - start - 4).toString("utf8"))
  return Exit.isSuccess(pairs) ? { headers: Headers.fromInput(pairs.value), next } : undefined
}
