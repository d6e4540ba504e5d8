/**
 * The fingerprint of a method's contract: 64 bits before the arguments of a binary typed request. A server with another
 * fingerprint refuses the request, since it would read other values than the client wrote.
 *
 * It does not know how a fingerprint is computed.
 */
import { i32At } from "./bytes.ts"

/**
 * The 64 bits as two signed halves. A BigInt would cost too much on every request, and V8 has no small unsigned
 * integers.
 */
export interface Fingerprint {
  readonly low: number
  readonly high: number
}

/** The size of a fingerprint in bytes. */
export const fingerprintSize = 8

/** Writes a fingerprint at `offset`, little-endian. */
export const writeFingerprint = (target: DataView, offset: number, { high, low }: Fingerprint): void => {
  target.setInt32(offset, low, true)
  target.setInt32(offset + 4, high, true)
}

/** Whether the bytes at `offset` are this fingerprint. There must be eight of them. */
export const isFingerprint = (bytes: Uint8Array, offset: number, { high, low }: Fingerprint): boolean =>
  i32At(bytes, offset) === low && i32At(bytes, offset + 4) === high
