/**
 * The items that one end sends on a stream: they leave while there is credit and room, in the order in which they were
 * given.
 *
 * It must not know what an item means, or who makes them. Items that are small are copied into messages of several;
 * others go by reference, and the largest in pieces.
 *
 * This is the hot path, so it is plain synchronous code: a write is done at once where there is credit and room.
 */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import { unexpected } from "../guard.ts"
import { copyInto, isBytes } from "../memory/bytes.ts"
import { itemPrefix, maxCredit, pieceHead } from "../protocol/items.ts"
import { checkTransition, type Transitions } from "../transitions.ts"
import type { Cut } from "./cut.ts"
import type { Flow } from "./flow.ts"

/** Items of so many bytes and more go by reference: they must not change any more. */
const largeFrom = 16_384

/** The longest piece of an item, in bytes. A longer item goes in pieces. */
const longestPiece = 262_144

/** A message of several small items is at most so long, in bytes, unless a single one is longer. */
const mostTogether = 65_536

/** An item is longer than the largest message. */
export class ItemTooLarge {
  readonly _tag = "ItemTooLarge"
  readonly size: number
  readonly limit: number

  constructor(size: number, limit: number) {
    this.size = size
    this.limit = limit
  }
}

/**
 * ```
 *                 a write has to wait
 *   ┌──────┐ ─────────────────────────────▶ ┌─────────┐
 *   │ Idle │                                │ Writing │
 *   └──────┘ ◀───────────────────────────── └─────────┘
 *      │        all of it has left, or it        │
 *      │        ends between two items           │ it ends inside an item
 *      │ close                                   │ close
 *      │             ┌────────┐                  │
 *      └───────────▶ │ Closed │ ◀────────────────┘
 *                    └────────┘
 *             nothing leaves any more
 * ```
 */
export type OutgoingItemsState = "Idle" | "Writing" | "Closed"

const allowed: Transitions<OutgoingItemsState> = {
  Idle: ["Writing", "Closed"],
  Writing: ["Idle", "Closed"],
  Closed: []
}

type Resume = (result: Exit.Exit<void, ItemTooLarge>) => void

const none: ReadonlyArray<Uint8Array> = []
const interrupted = Exit.interrupt()

/** One direction of a stream, sending. */
export class OutgoingItems implements Cut {
  /** How many items have left, and how many bytes of credit they took: their lengths count, too. */
  items = 0
  bytes = 0
  private readonly id: number
  private readonly flow: Flow
  private readonly maxItem: number
  private credit: number
  private current: OutgoingItemsState = "Idle"
  /** What is written: the item at `at` leaves next, from `offset` on. */
  private given: ReadonlyArray<Uint8Array> = none
  private at = 0
  private offset = 0
  /** The byte before each of them, or -1, and how many bytes that is. */
  private lead = -1
  private extra = 0
  /** The length of the item of which a piece has left. Users own these bytes, and may have transferred them since. */
  private size = 0
  /** Whether it waits until so large an item may be under way. */
  private isHeld = false
  /** How much more may leave in its turn, if it has its turn now. */
  private turnLeft = 0
  private resume: Resume | undefined = undefined

  /** `credit` is what may be sent at first, and `maxItem` the length of the longest item, in bytes. */
  constructor(id: number, flow: Flow, credit: number, maxItem: number) {
    this.id = id
    this.flow = flow
    this.credit = credit
    this.maxItem = maxItem
  }

  get state(): OutgoingItemsState {
    return this.current
  }

  /**
   * Sends items. It ends when all of them have left; where that is so at once, it is an `Exit`. It dies where one is no
   * Uint8Array, and fails with {@link ItemTooLarge} where one is longer than `maxItem`; then the items before it have
   * left. `lead` is a byte that goes before each of them, if there is one. One write at a time.
   */
  readonly write = (items: ReadonlyArray<Uint8Array>, lead = -1): Effect.Effect<void, ItemTooLarge> => {
    if (this.current === "Closed") return interrupted
    if (this.current === "Writing") return Effect.die(new Error("items are written while others wait to leave"))
    this.given = items
    this.at = 0
    this.lead = lead
    this.extra = lead < 0 ? 0 : 1
    const exit = this.leaveNow()
    if (exit === undefined) return this.wait
    this.given = none
    return exit
  }

  /** The peer takes so many bytes more. Returns what is wrong with that. */
  grant(bytes: number): string | undefined {
    if (this.credit + bytes > maxCredit) {
      return `credit of ${bytes} bytes in addition to ${this.credit}, expected at most ${maxCredit} together`
    }
    this.credit += bytes
    if (this.current === "Writing" && this.canLeave) this.flow.add(this)
    return undefined
  }

  cut(quantum: number): boolean {
    if (this.current !== "Writing") return false
    const before = this.bytes
    const exit = this.leave(quantum)
    if (exit === undefined) return this.canLeave
    // Its fiber goes on at once, and what it writes then leaves in the same turn: an item a turn would take far longer.
    this.turnLeft = quantum - (this.bytes - before)
    // A piece of an item may have left, while the rest will not.
    this.stop(this.offset > 0 ? "Closed" : "Idle", exit)
    this.turnLeft = 0
    return false
  }

  /** Nothing leaves any more. What waits, and what is written later, is interrupted. It can be repeated. */
  close(): void {
    if (this.current !== "Closed") this.stop("Closed", interrupted)
  }

  /** Waits until what was given has left. */
  private readonly wait = Effect.callback<void, ItemTooLarge>((resume) => {
    // It may have been closed since the effect was made.
    if (this.current !== "Idle") return resume(interrupted)
    this.transition("Writing")
    this.resume = resume
    if (this.canLeave) this.flow.add(this)
    return Effect.sync(() => this.stop(this.offset > 0 ? "Closed" : "Idle", undefined))
  })

  /** What was given leaves, if there is room, and it is this one's turn or nothing else waits. */
  private leaveNow(): Exit.Exit<void, ItemTooLarge> | undefined {
    const { turnLeft } = this
    if (turnLeft <= 0) return this.flow.isFree ? this.leave(Infinity) : undefined
    const before = this.bytes
    const exit = this.leave(turnLeft)
    this.turnLeft = turnLeft - (this.bytes - before)
    return exit
  }

  private get canLeave(): boolean {
    return this.offset > 0 || (this.credit > 0 && !this.isHeld)
  }

  /**
   * Queues what there is credit, room and turn for. Returns how the write ends; undefined where something is left of
   * it.
   */
  private leave(quantum: number): Exit.Exit<void, ItemTooLarge> | undefined {
    const { flow, given } = this
    let left = quantum
    this.isHeld = false
    while (this.at < given.length) {
      if (left <= 0 || (this.credit <= 0 && this.offset === 0) || !flow.hasRoom()) return undefined
      const item = given[this.at]
      if (!isBytes(item)) return Exit.die(unexpected("an item of a stream", "a Uint8Array", item))
      const total = item.length + this.extra
      if (total > this.maxItem) return Exit.fail(new ItemTooLarge(total, this.maxItem))
      if (this.offset > 0 && item.length !== this.size) return Exit.die(transferred(this.size, item.length))
      if (item.length < largeFrom) {
        left -= this.several(Math.min(left, mostTogether))
      } else {
        if (this.offset === 0 && item.length > longestPiece && !flow.underway.begin(this, total, false)) {
          this.isHeld = true
          return undefined
        }
        left -= this.piece(item)
      }
    }
    return Exit.void
  }

  /** Queues as many small items as there are, up to about `most` bytes. Returns their bytes. */
  private several(most: number): number {
    const { at, credit, extra, given, lead, maxItem } = this
    let size = 0
    let next = at
    while (next < given.length && size < credit) {
      const item = given[next]
      if (!isBytes(item) || item.length >= largeFrom || item.length + extra > maxItem) break
      const longer = size + itemPrefix + extra + item.length
      if (longer > most && size > 0) break
      size = longer
      next++
    }
    const { bytes, length, view } = this.flow.items(this.id, size)
    let position = length - size
    for (let i = at; i < next; i++) {
      const item = given[i] as Uint8Array // it was looked at in the loop before
      view.setUint32(position, extra + item.length, true)
      position += itemPrefix
      if (extra > 0) bytes[position++] = lead
      copyInto(bytes, position, item)
      position += item.length
    }
    this.at = next
    this.items += next - at
    this.took(size)
    return size
  }

  /** Queues a large item, or the next piece of it. Returns its bytes. */
  private piece(item: Uint8Array): number {
    const { offset } = this
    const isFirst = offset === 0
    const end = Math.min(offset + longestPiece, item.length)
    const isMore = end < item.length
    const hasTotal = isFirst && isMore
    this.flow.item(
      this.id,
      isFirst && !isMore ? item : item.subarray(offset, end),
      isMore,
      hasTotal ? item.length + this.extra : undefined,
      isFirst ? this.lead : -1
    )
    const size = itemPrefix + (hasTotal ? pieceHead : 0) + (isFirst ? this.extra : 0) + end - offset
    this.took(size)
    this.size = item.length
    this.offset = isMore ? end : 0
    if (!isMore) {
      this.at++
      this.items++
      if (!isFirst) this.flow.underway.end(this)
    }
    return size
  }

  private took(size: number): void {
    this.credit -= size
    this.bytes += size
  }

  /** The write is over: with an exit, or since it was interrupted. */
  private stop(state: "Idle" | "Closed", exit: Exit.Exit<void, ItemTooLarge> | undefined): void {
    if (this.current === "Closed") return
    const { resume } = this
    this.flow.remove(this)
    if (state === "Closed") this.offset = 0
    this.transition(state)
    this.given = none
    this.isHeld = false
    this.resume = undefined
    if (exit !== undefined) resume?.(exit)
  }

  private transition(state: OutgoingItemsState): void {
    checkTransition("the items that one end sends", allowed, this.current, state)
    if (state === "Idle" && this.offset > 0) throw new Error("a stream goes on after a part of an item")
    this.current = state
  }
}

const transferred = (before: number, now: number): TypeError =>
  new TypeError(
    `the bytes of an item were transferred before they were sent: expected ${before} bytes, unchanged, got ${now}`
  )
