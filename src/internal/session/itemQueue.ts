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
const mostAtOnce = 16_384

/** Messages that are smaller are copied, even where they have a buffer of their own: a buffer costs more than they do. */
const keepFrom = 4096

const smallestBlock = 256
const largestBlock = 65_536

/** Bytes that wait. */
interface Block {
  readonly bytes: Uint8Array
  /** From here on, items wait. */
  at: number
  /** Up to here. */
  end: number
  /** Whether it is one item without its length, and then how many bytes of payload it took. */
  readonly itemBytes: number
  /** Whether more can be copied behind `end`. */
  readonly isOurs: boolean
}

/** Takes items apart until there are `room` more. Returns the position behind them. */
const split = (items: Array<Uint8Array>, source: Uint8Array, start: number, end: number, room: number): number => {
  const { buffer, byteOffset } = source
  let at = start
  for (let left = room; left > 0 && at < end; left--) {
    const length = i32At(source, at)
    items.push(new Uint8Array(buffer, byteOffset + at + itemPrefix, length))
    at += itemPrefix + length
  }
  return at
}

/** The items that wait. */
export class ItemQueue {
  /** What was taken apart already. It is before all blocks. */
  private ready: Array<Uint8Array> = []
  private readyBytes = 0
  private blocks: Array<Block> = []
  private blockBytes = 0

  get isEmpty(): boolean {
    return this.ready.length === 0 && this.blocks.length === 0
  }

  /** How many bytes of payload wait. */
  get bytes(): number {
    return this.readyBytes + this.blockBytes
  }

  /**
   * `count` items with their lengths: `bytes` from `start` to `end`. If `owned` is false, the bytes are valid during this
   * call only. If `isAwaited` is true, they are taken next.
   */
  add(bytes: Uint8Array, start: number, end: number, count: number, owned: boolean, isAwaited: boolean): void {
    const length = end - start
    if (isAwaited && this.blocks.length === 0 && this.ready.length + count <= mostAtOnce) {
      if (owned) split(this.ready, bytes, start, end, count)
      else split(this.ready, ownCopy(bytes, start, end), 0, length, count)
      this.readyBytes += length
      return
    }
    if (owned && length >= keepFrom && length * 2 >= bytes.buffer.byteLength) {
      this.blocks.push({ bytes, at: start, end, itemBytes: 0, isOurs: false })
    } else {
      const block = this.room(length)
      block.bytes.set(bytes.subarray(start, end), block.end)
      block.end += length
    }
    this.blockBytes += length
  }

  /** One item without its length, whose bytes belong to it. It took `payload` bytes of payload. */
  addItem(item: Uint8Array, payload: number): void {
    this.blocks.push({ bytes: item, at: 0, end: item.length, itemBytes: payload, isOurs: false })
    this.blockBytes += payload
  }

  /** What waits, or as much of it as is taken at once; undefined where nothing does. */
  take(): Items | undefined {
    const items = this.ready
    if (this.blocks.length > 0) this.takeBlocks(items)
    if (items.length === 0) return undefined
    this.ready = []
    this.readyBytes = 0
    // The cast: it was looked whether there is one.
    return items as unknown as Items
  }

  /** Drops what waits. */
  clear(): void {
    this.ready = []
    this.readyBytes = 0
    this.blocks = []
    this.blockBytes = 0
  }

  private takeBlocks(items: Array<Uint8Array>): void {
    let done = 0
    for (const block of this.blocks) {
      const room = mostAtOnce - items.length
      if (room <= 0) break
      if (block.itemBytes > 0) {
        items.push(block.bytes)
        this.blockBytes -= block.itemBytes
      } else {
        const { at } = block
        block.at = split(items, block.bytes, at, block.end, room)
        this.blockBytes -= block.at - at
        if (block.at < block.end) {
          // The consumer has its buffer now, and must not take it away from what waits.
          markAsUntransferable(block.bytes.buffer)
          break
        }
      }
      done++
    }
    if (done === this.blocks.length) this.blocks = []
    else this.blocks.splice(0, done)
  }

  /** A block with room for `length` bytes. Blocks grow with what waits, so at most half of them is empty. */
  private room(length: number): Block {
    const last = this.blocks.at(-1)
    if (last !== undefined && last.isOurs && last.bytes.length - last.end >= length) return last
    const size = Math.max(length, smallestBlock, Math.min(this.blockBytes, largestBlock))
    const block: Block = { bytes: freshBytes(size), at: 0, end: 0, itemBytes: 0, isOurs: true }
    this.blocks.push(block)
    return block
  }
}
