/**
 * What is sent and what has to come back: bytes that say which call they are of, and whether they are whole.
 *
 * | bytes | field                                                    |
 * | ----- | -------------------------------------------------------- |
 * | 0–3   | the call's id                                            |
 * | 4–7   | the number of all bytes                                  |
 * | 8–11  | for how long the handler works, in ms                    |
 * | 12–15 | CRC-32 of what is before and behind this                 |
 * | 16–   | anything                                                 |
 *
 * A payload of no bytes has no fields either: of such a call only its answer is checked. An answer is the number of the
 * process that gives it (4 bytes), and the payload.
 */
import { randomFillSync } from "node:crypto"
import { crc32 } from "node:zlib"

/** The smallest payload that is not empty. */
export const headerSize = 16

/** How many bytes of an answer are before its payload. */
export const stampSize = 4

const viewOf = (bytes: Uint8Array) => new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)

const checksum = (bytes: Uint8Array): number => crc32(bytes.subarray(headerSize), crc32(bytes.subarray(0, 12)))

/** Sets the checksum anew, where something behind the header has changed. */
export const seal = (bytes: Uint8Array): void => viewOf(bytes).setUint32(12, checksum(bytes), true)

const noise = randomFillSync(new Uint8Array(2 ** 20))

/** A payload of `size` bytes: none, or {@link headerSize} and more. */
export const makePayload = (id: number, size: number, work: number): Uint8Array<ArrayBuffer> => {
  const bytes = new Uint8Array(size)
  if (size === 0) return bytes
  // Each call's bytes begin elsewhere in the noise.
  let from = Math.imul(id, 7919) & (noise.length - 1)
  for (let at = headerSize; at < size;) {
    const piece = noise.subarray(from, from + size - at)
    bytes.set(piece, at)
    at += piece.length
    from = 0
  }
  const view = viewOf(bytes)
  view.setUint32(0, id, true)
  view.setUint32(4, size, true)
  view.setUint32(8, work, true)
  seal(bytes)
  return bytes
}

/** What a payload says of itself. */
export interface Payload {
  /** 0 where there are no bytes. */
  readonly id: number
  readonly work: number
}

/** Reads a payload, or says what is wrong with it. */
export const readPayload = (bytes: Uint8Array): Payload | string => {
  if (bytes.length === 0) return { id: 0, work: 0 }
  if (bytes.length < headerSize) return `${bytes.length} bytes, too few for a payload`
  const view = viewOf(bytes)
  const id = view.getUint32(0, true)
  const length = view.getUint32(4, true)
  if (length !== bytes.length) return `${bytes.length} bytes of what says it is call ${id} with ${length}`
  if (view.getUint32(12, true) !== checksum(bytes)) return `bytes of what says it is call ${id}, with another checksum`
  return { id, work: view.getUint32(8, true) }
}

export const makeAnswer = (stamp: number, payload: Uint8Array): Uint8Array<ArrayBuffer> => {
  const answer = new Uint8Array(stampSize + payload.length)
  viewOf(answer).setUint32(0, stamp, true)
  answer.set(payload, stampSize)
  return answer
}

/** Reads the answer to call `id` with a payload of `size` bytes: which process gave it, or what is wrong with it. */
export const readAnswer = (answer: Uint8Array, id: number, size: number): { readonly stamp: number } | string => {
  if (answer.length !== stampSize + size) return `${answer.length} bytes, expected ${stampSize + size}`
  const payload = readPayload(answer.subarray(stampSize))
  if (typeof payload === "string") return payload
  if (size > 0 && payload.id !== id) return `the answer to call ${payload.id}`
  return { stamp: viewOf(answer).getUint32(0, true) }
}
