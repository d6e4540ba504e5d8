/**
 * The fingerprint of a method's contract: 64 bits that go before the arguments of a typed request in binary. A server
 * whose own differs refuses the request: it would read other values than were written.
 */
import { i32At } from "./bytes.ts"

/**
 * 64 bits, as two signed halves: a BigInt costs too much where every request carries them, and unsigned ones are no
 * small integers of V8.
 */
export interface Fingerprint {
  readonly low: number
  readonly high: number
}

/** The bytes of a fingerprint. */
export const fingerprintSize = 8

/** Writes a fingerprint at `offset`, little-endian. */
export const writeFingerprint = (target: DataView, offset: number, { high, low }: Fingerprint): void => {
  target.setInt32(offset, low, true)
  target.setInt32(offset + 4, high, true)
}

/** Whether the bytes at `offset` are this fingerprint. There have to be eight of them. */
export const isFingerprint = (bytes: Uint8Array, offset: number, { high, low }: Fingerprint): boolean =>
  i32At(bytes, offset) === low && i32At(bytes, offset + 4) === high
