/**
 * The items that one end receives on a stream: they are checked as they come, wait until they are taken, and what was
 * taken is granted to the peer again.
 *
 * It must not know what an item means, or who takes them.
 */
import type * as Arr from "effect/Array"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import { i32At, u32At } from "../protocol/bytes.ts"
import { itemPrefix, pieceHead } from "../protocol/items.ts"
import { checkTransition, type Transitions } from "../transitions.ts"
import { ItemQueue, type Items } from "./itemQueue.ts"
import type { Assembly, Unfinished } from "./unfinished.ts"
import type { Window, Windows } from "./windows.ts"

/** Why a stream must end: its peer has broken a rule or a limit. */
export interface Violation {
  readonly _tag: "FlowControl" | "TooLarge" | "Overloaded"
  /** What came and what was expected, as a text. */
  readonly problem: string
}

/** What the streams of one connection have in common where they receive. */
export interface ItemsReceiver {
  readonly windows: Windows
  readonly unfinished: Unfinished
  /** The size of the largest item, in bytes. */
  readonly maxItem: number
  /** Lets the peer send so many bytes more on stream `id`. */
  grant(id: number, bytes: number): void
}

/**
 * ```
 *             the peer says that no more come
 *  ┌──────┐ ─────────────────────────────────▶ ┌───────┐
 *  │ Open │                                    │ Ended │
 *  └──────┘                                    └───────┘
 *   │    │  it ends, or breaks a rule   ┌──────┐  │  │
 *   │    └────────────────────────────▶ │ Over │ ◀┘  │
 *   │                                   └──────┘     │
 *   │           nobody takes them any more  │        │
 *   │                                       ▼        │
 *   │                                  ┌────────┐    │
 *   └────────────────────────────────▶ │ Closed │ ◀──┘
 *                                      └────────┘
 * ```
 * Items are taken from the peer in `Open`; in `Ended` they break a rule; after that they are ignored. What waits can be
 * taken until `Closed`.
 */
export type IncomingItemsState = "Open" | "Ended" | "Over" | "Closed"

const allowed: Transitions<IncomingItemsState> = {
  Open: ["Ended", "Over", "Closed"],
  Ended: ["Over", "Closed"],
  Over: ["Closed"],
  Closed: []
}

/** A later piece has at least one byte, and a first one at least one behind the length of its item. */
const smallestFirstPiece = pieceHead + 1

const flowControl = (problem: string): Violation => ({ _tag: "FlowControl", problem })

/** One direction of a stream, receiving. */
export class IncomingItems {
  private readonly id: number
  private readonly receiver: ItemsReceiver
  private readonly window: Window
  private current: IncomingItemsState = "Open"
  /** How much the peer may still send. It falls below 0 by one item, which may be larger than what was left. */
  private credit: number
  /** The item that has come in part, and the bytes of payload that it took so far, those of its lengths included. */
  private unfinished: Assembly | undefined = undefined
  private unfinishedBytes = 0
  private readonly queue = new ItemQueue()
  /** Whether the consumer has waited since the last grant. */
  private hasWaited = false
  /** Wakes the consumer. */
  private resume: ((pull: IncomingItems["pull"]) => void) | undefined = undefined
  private exit: Exit.Exit<never, unknown> | undefined = undefined
  /** How many whole items and bytes of payload have come. */
  items = 0
  bytes = 0

  /** `credit` is what the peer may send at first, in bytes. */
  constructor(id: number, receiver: ItemsReceiver, credit: number) {
    this.id = id
    this.receiver = receiver
    this.credit = credit
    this.window = receiver.windows.add(credit)
  }

  get state(): IncomingItemsState {
    return this.current
  }

  /** How many bytes of payload have come and were not taken, those of an unfinished item included. */
  get waiting(): number {
    return this.queue.bytes + this.unfinishedBytes
  }

  /**
   * Takes the items that wait, or the next that come, as one chunk. At the end it fails with what `finish` has said.
   * One at a time; it can be interrupted.
   */
  // A consumer that waits is resumed with this effect, and not with the items: if it was interrupted they are not lost.
  readonly pull: Effect.Effect<Arr.NonEmptyReadonlyArray<Uint8Array>, unknown> = Effect.suspend(() =>
    this.take() ?? this.wait
  )

  private readonly wait: IncomingItems["pull"] = Effect.callback((resume) => {
    if (this.resume !== undefined) throw new Error("the items of a stream are pulled by two at once")
    this.hasWaited = true
    this.resume = resume
    return this.stopWaiting
  })

  private readonly stopWaiting = Effect.sync(() => {
    this.resume = undefined
  })

  /** Grants what the window has beyond the first credit. */
  open(): void {
    if (this.current === "Open") this.grant(this.window.open())
  }

  /** A message of items has come. */
  push(bytes: Uint8Array, start: number, end: number, owned: boolean): Violation | undefined {
    if (this.current !== "Open") {
      return this.current === "Ended" ? this.refuse(flowControl("items after the end of the items")) : undefined
    }
    let at = start
    let violation: Violation | undefined = undefined
    if (this.unfinished !== undefined) {
      violation = this.laterPiece(this.unfinished, bytes, start, end)
      if (violation !== undefined) return this.refuse(violation)
      at = start + itemPrefix + (i32At(bytes, start) & 0x7fff_ffff)
    }
    const from = at
    const { maxItem } = this.receiver
    // An item may begin before this position.
    const creditEnd = start + this.credit
    let count = 0
    while (at < end) {
      if (at >= creditEnd) {
        violation = flowControl(`an item after ${at - start} bytes, with credit for ${Math.max(0, this.credit)}`)
        break
      }
      const left = end - at - itemPrefix
      if (left < 0) {
        violation = flowControl(`${end - at} bytes where the length of an item was expected, of ${itemPrefix} bytes`)
        break
      }
      const length = i32At(bytes, at)
      // Bit 31 makes it negative.
      if (length < 0) {
        violation = this.firstPiece(bytes, at + itemPrefix, end, length & 0x7fff_ffff)
        break
      }
      if (length > left) {
        violation = flowControl(`an item of ${length} bytes in a message that has ${left} left`)
        break
      }
      if (length > maxItem) {
        violation = this.tooLarge(length)
        break
      }
      at += itemPrefix + length
      count++
    }
    this.credit -= end - start
    this.bytes += end - start
    this.items += count
    // What came before a violation is kept: where the peer cuts its messages makes no difference.
    if (count > 0) this.queue.add(bytes, from, at, count, owned, this.resume !== undefined && violation === undefined)
    if (violation !== undefined) return this.refuse(violation)
    if (!this.queue.isEmpty) this.wake()
    return undefined
  }

  /** The peer says that no more come. */
  end(): Violation | undefined {
    if (this.current !== "Open") return undefined
    if (this.unfinished !== undefined) {
      const left = this.unfinished.total - this.unfinished.have
      return this.refuse(flowControl(`the end of the items inside an item that has ${left} bytes left`))
    }
    this.transition("Ended")
    return undefined
  }

  /** It ends like that, behind what waits. Only the first time counts. */
  finish(exit: Exit.Exit<never, unknown>): void {
    if (this.exit !== undefined) return
    this.exit = exit
    if (this.current === "Open") this.transition("Over")
    this.wake()
  }

  /**
   * What waits is dropped, and nothing is taken any more. What comes is ignored. A pull that waits goes on waiting
   * until `finish`. It can be repeated.
   */
  close(): void {
    if (this.current === "Closed") return
    this.transition("Closed")
    this.queue.clear()
    this.window.remove()
  }

  /** Looks whether an item gets no bytes for too long. */
  isStalled(now: number): boolean {
    return this.unfinished !== undefined && this.receiver.unfinished.isStalled(this.unfinished, now)
  }

  /** What waits, or the exit; undefined where there is neither. */
  private take(): Exit.Exit<Items, unknown> | undefined {
    const bytes = this.queue.bytes
    const items = this.queue.take()
    if (items !== undefined) {
      // The peer gets no credit for what it cannot send any more.
      if (this.current === "Open") this.taken(bytes - this.queue.bytes)
      return Exit.succeed(items)
    }
    if (this.exit !== undefined) this.window.remove()
    return this.exit
  }

  private taken(bytes: number): void {
    const granted = this.window.taken(bytes, this.hasWaited)
    if (granted === 0) return
    this.hasWaited = false
    this.grant(granted)
  }

  private grant(bytes: number): void {
    if (bytes === 0) return
    this.credit += bytes
    if (this.credit > this.window.size) {
      throw new Error(`${this.credit} bytes of credit in a window of ${this.window.size}`)
    }
    this.receiver.grant(this.id, bytes)
  }

  private wake(): void {
    const { resume } = this
    if (resume === undefined) return
    this.resume = undefined
    // The consumer runs at once, and may do anything to this stream: nothing follows.
    resume(this.pull)
  }

  /** The first piece of an item is all that is left of its message: `length` bytes from `from` on. */
  private firstPiece(bytes: Uint8Array, from: number, end: number, length: number): Violation | undefined {
    const left = end - from
    if (length > left) return flowControl(`a piece of ${length} bytes in a message that has ${left} left`)
    if (length < smallestFirstPiece) {
      return flowControl(`a first piece of ${length} bytes, expected at least ${smallestFirstPiece}`)
    }
    if (length < left) return flowControl(`a piece that goes on, with ${left - length} bytes behind it, expected none`)
    const total = u32At(bytes, from)
    if (total > this.receiver.maxItem) return this.tooLarge(total)
    const content = length - pieceHead
    if (content >= total) return flowControl(`a piece of ${content} bytes that goes on, of an item of ${total}`)
    const assembly = this.receiver.unfinished.begin(total)
    this.unfinished = assembly
    this.unfinishedBytes = itemPrefix + length
    return this.addPiece(assembly, bytes, from + pieceHead, end)
  }

  /** A message begins with a later piece of the unfinished item. */
  private laterPiece(assembly: Assembly, bytes: Uint8Array, start: number, end: number): Violation | undefined {
    const from = start + itemPrefix
    const left = end - from
    if (left < 0) {
      return flowControl(`${end - start} bytes where the length of a piece was expected, of ${itemPrefix} bytes`)
    }
    const word = i32At(bytes, start)
    const length = word & 0x7fff_ffff
    const goesOn = word < 0
    if (length > left) return flowControl(`a piece of ${length} bytes in a message that has ${left} left`)
    if (length === 0) return flowControl("an empty piece of an item, expected at least 1 byte")
    if (goesOn && length < left) {
      return flowControl(`a piece that goes on, with ${left - length} bytes behind it, expected none`)
    }
    const lacks = assembly.total - assembly.have
    if (goesOn ? length >= lacks : length !== lacks) {
      const piece = goesOn ? "that goes on" : "that is the last"
      return flowControl(`a piece of ${length} bytes ${piece}, of an item that has ${lacks} left`)
    }
    const violation = this.addPiece(assembly, bytes, from, from + length)
    if (violation !== undefined) return violation
    this.unfinishedBytes += itemPrefix + length
    if (goesOn) return undefined
    this.items++
    this.queue.addItem(this.receiver.unfinished.finish(assembly), this.unfinishedBytes)
    this.unfinished = undefined
    this.unfinishedBytes = 0
    return undefined
  }

  private addPiece(assembly: Assembly, bytes: Uint8Array, start: number, end: number): Violation | undefined {
    const { unfinished } = this.receiver
    if (unfinished.add(assembly, bytes, start, end)) return undefined
    const problem = assembly.isStalled
      ? `an item of ${assembly.total} bytes that got nothing for too long`
      : `an item of ${assembly.total} bytes, with ${unfinished.held} bytes of unfinished items and messages already`
    return { _tag: "Overloaded", problem }
  }

  private tooLarge(length: number): Violation {
    return {
      _tag: "TooLarge",
      problem: `an item of ${length} bytes, which is over the limit of ${this.receiver.maxItem}`
    }
  }

  /** The peer has broken a rule: what it sends is ignored from now on. */
  private refuse(violation: Violation): Violation {
    this.transition("Over")
    return violation
  }

  private transition(state: IncomingItemsState): void {
    checkTransition("the items of a stream", allowed, this.current, state)
    this.current = state
    if (this.unfinished !== undefined) {
      this.receiver.unfinished.drop(this.unfinished)
      this.unfinished = undefined
      this.unfinishedBytes = 0
    }
  }
}
