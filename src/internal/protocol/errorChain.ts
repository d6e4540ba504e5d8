/**
 * The error chain: the form of a failure in a response error. The outermost error comes first, and each error wraps the
 * next one. It does not know how a failure becomes a chain.
 */
import { i64At, putI64, putU32, u32At } from "./bytes.ts"
import { goQuote } from "./goQuote.ts"
import type { Link } from "./identities.ts"

/** The errors of a failure, outermost first; empty for a failure without a message. */
export type ErrorChain = ReadonlyArray<Link>

/** The chain, or the problem with the bytes. */
export type DecodedErrorChain =
  | { readonly ok: true; readonly chain: ErrorChain }
  | { readonly ok: false; readonly reason: string }

/**
 * The most errors that are read. No real chain has more. Without a limit, a small payload could cause large
 * allocations.
 */
export const maxLinks = 1024

/** An error that consists only of its text, as `errors.New(text)` of Go makes it. */
export const plainError = (text: string): Link => ({
  message: text,
  identity: `(:&errors.errorString{s:${goQuote(text)}})`
})

/** The payload of a response error. */
export const encodeErrorChain = (chain: ErrorChain): Uint8Array => {
  let size = 8
  for (const link of chain) size += 8 + Buffer.byteLength(link.message) + Buffer.byteLength(link.identity)
  const target = Buffer.allocUnsafeSlow(size)
  putI64(target, 0, chain.length)
  let offset = 8
  const put = (text: string) => {
    const length = target.write(text, offset + 4)
    putU32(target, offset, length)
    offset += 4 + length
  }
  for (const link of chain) {
    put(link.message)
    put(link.identity)
  }
  return target
}

// A byte order mark is part of the text. Bytes that are not UTF-8 are replaced.
const decoder = new TextDecoder("utf-8", { ignoreBOM: true })

const malformed = (reason: string): DecodedErrorChain => ({ ok: false, reason: `error chain: ${reason}` })

/** Reads the payload of a response error. It never throws, and allocates no more than the payload has bytes. */
export const decodeErrorChain = (payload: Uint8Array): DecodedErrorChain => {
  const end = payload.length
  if (end < 8) return malformed(`expected at least 8 bytes, got ${end}`)
  const count = i64At(payload, 0)
  if (count < 0 || count > maxLinks) return malformed(`expected between 0 and ${maxLinks} errors, got ${count}`)
  const chain: Array<Link> = []
  let offset = 8
  for (let i = 0; i < count; i++) {
    const message = stringEnd(payload, offset)
    const identity = stringEnd(payload, message)
    if (identity < 0) return malformed(`error ${i + 1} of ${count} ends after the ${end} bytes of the payload`)
    chain.push({
      message: decoder.decode(payload.subarray(offset + 4, message)),
      identity: decoder.decode(payload.subarray(message + 4, identity))
    })
    offset = identity
  }
  if (offset !== end) return malformed(`${end - offset} bytes follow its last error`)
  return { ok: true, chain }
}

/** The end of the string at `offset`; -1 if that is past the payload, or if `offset` is -1. */
const stringEnd = (payload: Uint8Array, offset: number): number => {
  if (offset < 0 || payload.length - offset < 4) return -1
  const length = u32At(payload, offset)
  return length > payload.length - offset - 4 ? -1 : offset + 4 + length
}
