/**
 * A table by method key. It looks a key up directly by its 16 bytes in a request, without an allocation. It does not
 * know what the values are.
 */
import { i32At } from "./bytes.ts"

/**
 * An open hash table that does not change.
 *
 * A key is the beginning of a SHA-256, so its first word serves as the hash. At most half of the slots are taken, so
 * every search ends.
 */
export class KeyTable<out T extends object> {
  readonly #mask: number
  /** Four words for each slot. */
  readonly #words: Int32Array
  readonly #values: Array<T | undefined>

  /** If two entries have the same key, the later one counts. */
  constructor(entries: Iterable<readonly [key: Uint8Array, value: T]>) {
    const all = Array.from(entries)
    let capacity = 2
    while (capacity < all.length * 2) capacity *= 2
    this.#mask = capacity - 1
    this.#words = new Int32Array(capacity * 4)
    // Filled, so that the engine keeps a dense array.
    this.#values = new Array<T | undefined>(capacity).fill(undefined)
    for (const [key, value] of all) {
      const slot = this.#find(key, 0)
      for (let i = 0; i < 4; i++) this.#words[slot * 4 + i] = i32At(key, i * 4)
      this.#values[slot] = value
    }
  }

  /** The value of the key at `offset`. At least 16 bytes must be there. */
  get(bytes: Uint8Array, offset: number): T | undefined {
    return this.#values[this.#find(bytes, offset)]
  }

  /** The slot of a key, or the free slot where it belongs. */
  #find(bytes: Uint8Array, offset: number): number {
    const words = this.#words
    const w0 = i32At(bytes, offset)
    const w1 = i32At(bytes, offset + 4)
    const w2 = i32At(bytes, offset + 8)
    const w3 = i32At(bytes, offset + 12)
    let slot = w0 & this.#mask
    while (this.#values[slot] !== undefined) {
      const at = slot * 4
      if (words[at] === w0 && words[at + 1] === w1 && words[at + 2] === w2 && words[at + 3] === w3) return slot
      slot = (slot + 1) & this.#mask
    }
    return slot
  }
}
