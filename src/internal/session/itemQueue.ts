/**
 * The items of a stream that wait to be taken: as the bytes that came, and taken apart when they are taken.
 *
 * It must not know credit or pieces. What is added was checked. A small item costs more as an object than as bytes, so
 * what waits stays bytes; only what somebody waits for is taken apart as it comes.
 */
import type * as Arr from "effect/Array"
import { markAsUntransferable } from "node:worker_threads"
import { freshBytes, ownCopy } from "../memory/bytes.ts"
import { i32At } from "../protocol/bytes.ts"
import { itemPrefix } from "../protocol/items.ts"

export type Items = Arr.NonEmptyReadonlyArray<Uint8Array>

/** So many items are taken at once at most: as objects, many small ones take long and much memory. */
export const mostAtOnce = 16_384

/** Items that come with fewer bytes are copied, even from a buffer of their own: a buffer costs more than they do. */
const keepFrom = 4096

/**
 * Up to so many bytes, each item is copied by itself. V8 keeps an array of this size in its own heap; a view of its
 * bytes would take it from there, which costs more than a microsecond.
 */
const copiedEach = 64

/** The sizes of the buffers for copies. */
const smallestBuffer = 256
const largestBuffer = 65_536

/** Items that wait. */
interface Block {
  readonly bytes: Uint8Array
  /** The items lie from here on, each behind its length. */
  at: number
  /** They end here. */
  end: number
  /** How many they are. */
  count: number
  /** If this is one item without its length: how many bytes of payload it took. Otherwise 0. */
  readonly itemBytes: number
  /** Whether more can be copied behind `end`. */
  readonly isOurs: boolean
}

/** Takes `count` items apart, to `items` from `index` on. Returns the position behind them. */
const split = (items: Array<Uint8Array>, index: number, source: Uint8Array, start: number, count: number): number => {
  const { buffer, byteOffset } = source
  let at = start
  for (let i = index; i < index + count; i++) {
    const length = i32At(source, at)
    items[i] = new Uint8Array(buffer, byteOffset + at + itemPrefix, length)
    at += itemPrefix + length
  }
  return at
}

/** Copies items, one by one, until `items` is full. */
const copyEach = (items: Array<Uint8Array>, source: Uint8Array, start: number): void => {
  let at = start
  for (let i = 0; i < items.length; i++) {
    const from = at + itemPrefix
    at = from + i32At(source, at)
    items[i] = ownCopy(source, from, at)
  }
}

/** The items that wait. */
export class ItemQueue {
  /** What was taken apart already. It is before all blocks. */
  private ready: Items | undefined = undefined
  private readyBytes = 0
  private blocks: Array<Block> | undefined = undefined
  private blockBytes = 0
  private blockCount = 0

  get isEmpty(): boolean {
    return this.ready === undefined && this.blocks === undefined
  }

  /** How many bytes of payload wait. */
  get bytes(): number {
    return this.readyBytes + this.blockBytes
  }

  /**
   * `count` items with their lengths: `bytes` from `start` to `end`. If `owned` is false, the bytes are valid during
   * this call only. If `isAwaited` is true, they are taken at once.
   */
  add(bytes: Uint8Array, start: number, end: number, count: number, owned: boolean, isAwaited: boolean): void {
    const length = end - start
    if (isAwaited && this.isEmpty && count <= mostAtOnce) {
      // With its length given, the array is filled twice as fast as one that grows.
      const items = new Array<Uint8Array>(count)
      if (owned) split(items, 0, bytes, start, count)
      else if (count === 1 || length <= copiedEach) copyEach(items, bytes, start)
      else split(items, 0, ownCopy(bytes, start, end), 0, count)
      this.ready = items as unknown as Items // The cast: there is at least one.
      this.readyBytes = length
      return
    }
    if (owned && length >= keepFrom && length * 2 >= bytes.buffer.byteLength) {
      this.append({ bytes, at: start, end, count, itemBytes: 0, isOurs: false }, length)
    } else {
      const block = this.room(length)
      block.bytes.set(bytes.subarray(start, end), block.end)
      block.end += length
      block.count += count
      this.blockBytes += length
      this.blockCount += count
    }
  }

  /** One item without its length, whose bytes belong to it. It took `payload` bytes of payload. */
  addItem(item: Uint8Array, payload: number): void {
    this.append({ bytes: item, at: 0, end: item.length, count: 1, itemBytes: payload, isOurs: false }, payload)
  }

  /** What waits, or as much of it as is taken at once; undefined where nothing does. */
  take(): Items | undefined {
    const { blocks, ready } = this
    if (blocks === undefined) {
      this.ready = undefined
      this.readyBytes = 0
      return ready
    }
    const before = ready?.length ?? 0
    const items = new Array<Uint8Array>(Math.min(before + this.blockCount, mostAtOnce))
    for (let i = 0; i < before; i++) items[i] = ready?.[i] as Uint8Array // The cast: it is in bounds.
    this.takeBlocks(blocks, items, before)
    this.ready = undefined
    this.readyBytes = 0
    return items as unknown as Items // The cast: there is a block, and it has at least one.
  }

  /** Drops what waits. */
  clear(): void {
    this.ready = undefined
    this.readyBytes = 0
    this.blocks = undefined
    this.blockBytes = 0
    this.blockCount = 0
  }

  /** Fills `items` from `index` on. */
  private takeBlocks(blocks: Array<Block>, items: Array<Uint8Array>, index: number): void {
    let next = index
    let done = 0
    while (next < items.length) {
      const block = blocks[done] as Block // The cast: the blocks have as many items as were asked for.
      const count = Math.min(block.count, items.length - next)
      if (block.itemBytes > 0) {
        items[next] = block.bytes
        this.blockBytes -= block.itemBytes
      } else {
        const { at } = block
        block.at = split(items, next, block.bytes, at, count)
        this.blockBytes -= block.at - at
      }
      next += count
      block.count -= count
      if (block.count === 0) done++
      // The consumer has its buffer now, and must not take it away from what waits.
      else markAsUntransferable(block.bytes.buffer)
    }
    this.blockCount -= items.length - index
    if (done === blocks.length) this.blocks = undefined
    else blocks.splice(0, done)
  }

  /** A block with room for `length` bytes. Its size is that of what waits, so at most half of the memory is empty. */
  private room(length: number): Block {
    const last = this.blocks?.at(-1)
    if (last !== undefined && last.isOurs && last.bytes.length - last.end >= length) return last
    const size = Math.max(length, smallestBuffer, Math.min(this.blockBytes, largestBuffer))
    const block: Block = { bytes: freshBytes(size), at: 0, end: 0, count: 0, itemBytes: 0, isOurs: true }
    this.append(block, 0)
    return block
  }

  private append(block: Block, bytes: number): void {
    if (this.blocks === undefined) this.blocks = [block]
    else this.blocks.push(block)
    this.blockBytes += bytes
    this.blockCount += block.count
  }
}
