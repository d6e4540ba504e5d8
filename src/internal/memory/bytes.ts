/**
 * Makes and copies bytes that belong to their receiver. It does not know what the bytes mean.
 */
import { isUint8Array } from "node:util/types"
import { markAsUntransferable } from "node:worker_threads"
import { noteFresh, noteFreshShared } from "./gcPacing.ts"

/** Up to this size, V8 keeps the bytes of a typed array in its own heap, which costs almost nothing. */
const inHeap = 64
/** Up to this size copies share a block, as Node's own small buffers do. */
const pooled = 4096
const blockSize = 65_536

let block: ArrayBuffer | undefined = undefined
let used = blockSize

/** New bytes. They are not zeroed: the caller must write all of them. */
export const freshBytes = (size: number): Uint8Array => {
  noteFresh(size)
  return new Uint8Array(Buffer.allocUnsafeSlow(size).buffer, 0, size)
}

/** Whether a value is a Uint8Array, also of another realm, such as the vm context of a test runner. */
export const isBytes = (u: unknown): u is Uint8Array =>
  // `instanceof` runs code of a proxy, and is also true for an object that has only the prototype.
  isUint8Array(u)

/**
 * A copy of `bytes` from `start` to `end`. No other code will ever write to it.
 *
 * Copies that are larger than V8's limit and not larger than a page share a block, since a new ArrayBuffer costs more
 * than the copy. No two copies share a byte. A block must not be transferred to another thread: that would also
 * transfer the other copies.
 */
export const ownCopy = (bytes: Uint8Array, start: number, end: number): Uint8Array => {
  const length = end - start
  let copy: Uint8Array
  if (length <= inHeap) {
    copy = new Uint8Array(length)
    for (let i = 0; i < length; i++) copy[i] = bytes[start + i] as number // in bounds: `end` is
    return copy
  }
  if (length <= pooled) {
    if (block === undefined || blockSize - used < length) {
      block = Buffer.allocUnsafeSlow(blockSize).buffer
      noteFreshShared(blockSize)
      markAsUntransferable(block)
      used = 0
    }
    copy = new Uint8Array(block, used, length)
    // Kept aligned, so that a Float64Array can be a view of it.
    used += (length + 7) & ~7
  } else {
    copy = freshBytes(length)
  }
  copy.set(start === 0 && end === bytes.length ? bytes : bytes.subarray(start, end))
  return copy
}

/**
 * The bytes from `start` to `end` as an array that belongs to the receiver: a view if `owned` says that no other code
 * will write to them, otherwise a copy.
 */
export const ownBytes = (bytes: Uint8Array, start: number, end: number, owned: boolean): Uint8Array =>
  owned ? new Uint8Array(bytes.buffer, bytes.byteOffset + start, end - start) : ownCopy(bytes, start, end)

/** Copies `source` to `target` at `offset`. For a few bytes a loop is faster than `set`. */
export const copyInto = (target: Uint8Array, offset: number, source: Uint8Array): void => {
  const length = source.length
  if (length <= 32) {
    for (let i = 0; i < length; i++) target[offset + i] = source[i] as number // in bounds by the loop
  } else {
    target.set(source, offset)
  }
}

/** A view of the same bytes that reads and writes whole words. */
export const dataView = ({ buffer, byteLength, byteOffset }: Uint8Array): DataView =>
  new DataView(buffer, byteOffset, byteLength)
