/**
 * Bytes that belong to whoever is given them.
 */
import { isUint8Array } from "node:util/types"
import { markAsUntransferable } from "node:worker_threads"
import { noteFresh, noteFreshShared } from "./gcPacing.ts"

/** Up to this size V8 keeps a typed array's bytes in its own heap, where they cost next to nothing. */
const inHeap = 64
/** Up to this size copies share a block, as Node's own small buffers do. */
const pooled = 4096
const blockSize = 65_536

let block: ArrayBuffer | undefined = undefined
let used = blockSize

/** New bytes. They are not zeroed: whoever asks for them fills them in. */
export const freshBytes = (size: number): Uint8Array => {
  noteFresh(size)
  return new Uint8Array(Buffer.allocUnsafeSlow(size).buffer, 0, size)
}

/** Whether a value is a Uint8Array; also one of another realm, as test runners that use a vm context make them. */
export const isBytes = (u: unknown): u is Uint8Array =>
  // `instanceof` runs code of a proxy, and is true of what only has the prototype.
  isUint8Array(u)

/**
 * A copy of `bytes` from `start` to `end` that nothing else will ever write to.
 *
 * Sizes between V8's own limit and a page are cut from a shared block, since an ArrayBuffer of one's own costs more
 * than the copy. No two share a byte, and a block cannot be transferred to another thread, which would take the others'
 * bytes along.
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
    // Kept aligned, for those who put a Float64Array or the like over it.
    used += (length + 7) & ~7
  } else {
    copy = freshBytes(length)
  }
  copy.set(start === 0 && end === bytes.length ? bytes : bytes.subarray(start, end))
  return copy
}

/**
 * The bytes from `start` to `end` as an array of the receiver's own: a view where `owned` says that nothing else will
 * write to them, else a copy.
 */
export const ownBytes = (bytes: Uint8Array, start: number, end: number, owned: boolean): Uint8Array =>
  owned ? new Uint8Array(bytes.buffer, bytes.byteOffset + start, end - start) : ownCopy(bytes, start, end)

/** Copies `source` to `target` at `offset`; a loop beats the call of `set` for a few bytes. */
export const copyInto = (target: Uint8Array, offset: number, source: Uint8Array): void => {
  const length = source.length
  if (length <= 32) {
    for (let i = 0; i < length; i++) target[offset + i] = source[i] as number // in bounds by the loop
  } else {
    target.set(source, offset)
  }
}

/** The same bytes, for whole words. */
export const dataView = ({ buffer, byteLength, byteOffset }: Uint8Array): DataView =>
  new DataView(buffer, byteOffset, byteLength)
