/**
 * What a stream of the soak is asked to do, and its items.
 *
 * The arguments of a stream are a payload (see `payload.ts`) that begins with an {@link Order}. Each item is a payload,
 * too: it has the stream's id, and its place in the field of the work. What a replica sends has the number of its
 * process before that, as answers have.
 */
import { Cause, Effect, Stream } from "effect"
import { headerSize, makePayload, readAnswer, readPayload, seal } from "./payload.ts"

/** A sequence of items. */
export interface Sequence {
  /** How many there are; undefined where it has no end of its own. */
  readonly count: number | undefined
  /** The sizes of its items, in bytes. */
  readonly smallest: number
  readonly largest: number
  /** How many are made at once. */
  readonly chunk: number
  /** The time between two chunks, in ms. */
  readonly pause: number
  /** What follows the last one. */
  readonly end: "clean" | "fail" | "die"
}

/** What a stream's handler is to do. */
export interface Order {
  /** What it sends by itself. A handler that answers the client's items has the `end` of this alone. */
  readonly down: Sequence
  /** What the client is going to send. */
  readonly up: Sequence
  /** How many of them the handler takes before it ends; undefined for all. */
  readonly takes: number | undefined
  /** How long it takes for a chunk of them, in ms. */
  readonly work: number
  /** Whether it takes one chunk of them, and no other. */
  readonly stops: boolean
  /** What becomes of the stream when the replica leaves: it goes on, it fails (`untilLeaving`), or it ends. */
  readonly leaving: "goesOn" | "fails" | "ends"
}

/** No items. */
export const nothing: Sequence = {
  count: 0,
  smallest: headerSize,
  largest: headerSize,
  chunk: 1,
  pause: 0,
  end: "clean"
}

const lengthSize = 4

/** The smallest arguments that have room for an order. */
export const orderSize = 512

/** The arguments of stream `id`, of so many bytes. */
export const makeOrder = (id: number, size: number, order: Order): Uint8Array<ArrayBuffer> => {
  const bytes = makePayload(id, Math.max(size, orderSize), 0)
  const text = Buffer.from(JSON.stringify(order))
  Buffer.from(bytes.buffer).writeUInt32LE(text.length, headerSize)
  bytes.set(text, headerSize + lengthSize)
  seal(bytes)
  return bytes
}

/** Reads the arguments of a stream, or says what is wrong with them. */
export const readOrder = (bytes: Uint8Array): { readonly id: number; readonly order: Order } | string => {
  const payload = readPayload(bytes)
  if (typeof payload === "string") return payload
  if (payload.id === 0) return "no order"
  const text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).subarray(headerSize)
  const end = lengthSize + text.readUInt32LE(0)
  // Its checksum says that it is what `makeOrder` has written.
  return { id: payload.id, order: JSON.parse(text.toString("utf8", lengthSize, end)) as Order }
}

/** How large the item at a place is. */
const itemSize = ({ largest, smallest }: Sequence, id: number, place: number): number =>
  smallest + (Math.imul(id + 7919 * place, 0x9e37_79b1) >>> 8) % (largest - smallest + 1)

/** The item at a place of stream `id`. */
const makeItem = (id: number, sequence: Sequence, place: number): Uint8Array<ArrayBuffer> =>
  makePayload(id, itemSize(sequence, id, place), place)

/** The items of a sequence, without what follows the last one. `onItems` is told of each chunk that is made. */
export const itemsOf = (
  id: number,
  sequence: Sequence,
  onItems: (items: ReadonlyArray<Uint8Array>) => void = () => {}
): Stream.Stream<Uint8Array<ArrayBuffer>> =>
  Stream.fromPull(Effect.sync(() => {
    const { chunk, count = Infinity, pause } = sequence
    let place = 0
    return Effect.suspend(() => {
      if (place >= count) return Cause.done()
      const make = Effect.sync(() => {
        const first = place
        place = Math.min(count, place + chunk)
        const [head, ...tail] = Array.from({ length: place - first }, (_, at) => makeItem(id, sequence, first + at))
        if (head === undefined) throw new Error(`a chunk of ${chunk} items`)
        onItems([head, ...tail])
        return [head, ...tail] as const
      })
      return pause > 0 && place > 0 ? Effect.andThen(Effect.sleep(pause), make) : make
    })
  }))

/** For how long all pauses of a stream's reader last together, in ms. */
export const longestPauses = 1500

/** A reader's pause after each chunk, so that the pauses of many chunks do not add up. */
export const pausing = (millis: number): Effect.Effect<void> => {
  let left = longestPauses
  return Effect.suspend(() => {
    if (millis <= 0 || left <= 0) return Effect.void
    left -= millis
    return Effect.sleep(millis)
  })
}

/** Reads the items of a sequence as they come, and notes the first thing that is wrong with them. */
export class ItemReader {
  /** How many have come, and their bytes. */
  count = 0
  bytes = 0
  /** The process that has sent them, where they say so. */
  stamp: number | undefined = undefined
  problem: string | undefined = undefined
  private readonly id: number
  private readonly sequence: Sequence
  private readonly isStamped: boolean

  constructor(id: number, sequence: Sequence, isStamped: boolean) {
    this.id = id
    this.sequence = sequence
    this.isStamped = isStamped
  }

  readonly take = (items: ReadonlyArray<Uint8Array>): void => {
    for (const item of items) {
      this.problem ??= this.check(item)
      this.count++
      this.bytes += item.length
    }
  }

  private check(item: Uint8Array): string | undefined {
    const { count: place, id, isStamped, sequence } = this
    const size = itemSize(sequence, id, place)
    if (place >= (sequence.count ?? Infinity)) return `item ${place} of ${sequence.count}`
    if (isStamped) {
      const answer = readAnswer(item, id, size)
      if (typeof answer === "string") return `item ${place}: ${answer}`
      this.stamp ??= answer.stamp
      if (answer.stamp !== this.stamp) {
        return `item ${place} of process ${answer.stamp}, those before of process ${this.stamp}`
      }
    }
    const payload = readPayload(isStamped ? item.subarray(item.length - size) : item)
    if (typeof payload === "string") return `item ${place}: ${payload}`
    // Of an item of no bytes only its place among the others is known.
    if (size === 0) return undefined
    if (payload.id !== id) return `item ${place}: one of stream ${payload.id}`
    if (payload.work !== place) return `item ${place}: the item at ${payload.work}`
    return undefined
  }
}
