/**
 * Hashes of 32 bits that are the same in every process: clients that hash the same value must choose the same endpoint.
 *
 * Effect's `Hash.string` is made for hash maps. Texts that differ only in their last digits, as addresses do, get
 * hashes that are close to each other. A ring needs hashes that are spread over all numbers. This file does not know
 * what is hashed.
 */

/** The last step of MurmurHash3: when one bit changes, every other bit changes with a probability of one half. */
export const mix = (hash: number): number => {
  let mixed = hash ^ (hash >>> 16)
  mixed = Math.imul(mixed, 0x85ebca6b)
  mixed = Math.imul(mixed ^ (mixed >>> 13), 0xc2b2ae35)
  return (mixed ^ (mixed >>> 16)) >>> 0
}

/** FNV-1a over the UTF-16 of a text, mixed. */
export const hashText = (text: string): number => {
  let hash = 0x811c9dc5
  for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193)
  return mix(hash)
}

const bytes = new DataView(new ArrayBuffer(8))

/** The hash of a u64. For any other number, the lowest 64 bits count. */
export const hashKey = (key: bigint): number => {
  bytes.setBigUint64(0, key)
  // Mixed in two steps, so that neither half can cancel the other.
  return mix(mix(bytes.getUint32(4) ^ 0x9e3779b9) + bytes.getUint32(0))
}
