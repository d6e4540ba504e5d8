/**
 * Little-endian integers in byte arrays, without a DataView for each chunk.
 *
 * No function checks bounds: its callers have checked the length. It does not know what the integers mean.
 */

/** The u8 at `offset`. */
// The caller has checked the bounds, so there is an element.
export const u8At = (bytes: Uint8Array, offset: number): number => bytes[offset] as number

/** The four bytes at `offset` as a signed 32-bit integer. It is cheaper than a u32, and enough to compare words. */
export const i32At = (bytes: Uint8Array, offset: number): number =>
  u8At(bytes, offset) | (u8At(bytes, offset + 1) << 8) | (u8At(bytes, offset + 2) << 16) |
  (u8At(bytes, offset + 3) << 24)

/** The u32 at `offset`. */
export const u32At = (bytes: Uint8Array, offset: number): number => i32At(bytes, offset) >>> 0

/** Writes the low 32 bits of an integer at `offset`. */
export const putU32 = (target: Uint8Array, offset: number, value: number): void => {
  target[offset] = value
  target[offset + 1] = value >>> 8
  target[offset + 2] = value >>> 16
  target[offset + 3] = value >>> 24
}

const two32 = 4_294_967_296

/** The i64 at `offset` as a number. Outside the safe integers, it is `Number.MAX_SAFE_INTEGER` or its negative. */
export const i64At = (bytes: Uint8Array, offset: number): number => {
  const value = i32At(bytes, offset + 4) * two32 + u32At(bytes, offset)
  return value > Number.MAX_SAFE_INTEGER
    ? Number.MAX_SAFE_INTEGER
    : value < -Number.MAX_SAFE_INTEGER
    ? -Number.MAX_SAFE_INTEGER
    : value
}

/** Writes a safe integer as an i64 at `offset`. */
export const putI64 = (target: Uint8Array, offset: number, value: number): void => {
  putU32(target, offset, value)
  putU32(target, offset + 4, Math.floor(value / two32))
}
