/**
 * One direction of an in-memory connection: the bytes on their way from one socket to the other, and what a fault does
 * to them.
 *
 * Plain callbacks, as node's streams are. Nothing is delivered from within a write: as with a socket, bytes arrive in a
 * later turn of the event loop. A wire holds at most a window of bytes (and the write that went past it) until the
 * reader has taken them.
 */
import type { Duplex } from "node:stream"
import { connectionReset } from "./connectionReset.ts"

/**
 * How many bytes may be on their way and unread before the writer has to wait; also the largest chunk that is
 * delivered.
 */
export const windowSize = 64 * 1024

/** A clock that can wake us: `after` gives back how to call it off. */
export interface Timer {
  readonly now: () => number
  readonly after: (millis: number, wake: () => void) => () => void
}

/** What befalls the bytes of one direction. */
export interface Conditions {
  /** Nothing is delivered, and nothing is lost. */
  readonly blackHole: boolean
  /** How long the bytes take; undefined: no time on any clock. */
  readonly delay: { readonly millis: number; readonly timer: Timer } | undefined
  /** How many more bytes are delivered before the connection is cut; `Infinity`: it is not. */
  readonly cutAfter: number
}

/** A wire without faults. */
export const unimpaired: Conditions = { blackHole: false, delay: undefined, cutAfter: Infinity }

/** The far end of a wire. */
export interface FarEnd {
  readonly receiver: Duplex
  /**
   * Bytes arrived for a receiver that has closed: the sender is to hear of it, as from a host that answers with a
   * reset.
   */
  readonly bounce: () => void
  /** The last byte before the cut has been delivered. */
  readonly exhausted: () => void
}

type Item = { readonly _tag: "Bytes"; bytes: Buffer; due: number } | { readonly _tag: "End" | "Reset"; due: number }

/** @see {@link FarEnd} for what it delivers to; `connect` is called once, before anything is sent. */
export class Wire {
  #farEnd: FarEnd | undefined
  #items: Array<Item> = []
  #conditions = unimpaired
  #budget = Infinity
  #bytesUnderway = 0
  #acknowledge: ((error?: Error | null) => void) | undefined
  #ended = false
  #wasReset = false
  #severed = false
  #asked = false
  #scheduled = false
  #delivering = false
  #cancelTimer: (() => void) | undefined

  connect(farEnd: FarEnd): void {
    this.#farEnd = farEnd
  }

  /** Takes bytes, which must be ours; `done` is called once there is room for more, never from within. */
  send(bytes: Buffer, done: (error?: Error | null) => void): void {
    this.#acknowledge = done
    this.#bytesUnderway += bytes.length
    if (bytes.length > 0) this.#items.push({ _tag: "Bytes", bytes, due: this.#nextDue() })
    this.#schedule()
  }

  /** No more bytes follow. */
  end(): void {
    if (this.#ended) return
    this.#ended = true
    this.#items.push({ _tag: "End", due: this.#nextDue() })
    this.#schedule()
  }

  /** The sender is gone, and not by an orderly end. */
  reset(): void {
    if (this.#wasReset) return
    this.#wasReset = true
    this.#items.push({ _tag: "Reset", due: this.#nextDue() })
    this.#schedule()
  }

  /** The sender does not wait for its last write any more. */
  abandonWrite(error: Error | null): void {
    const acknowledge = this.#acknowledge
    this.#acknowledge = undefined
    acknowledge?.(error)
  }

  /** The receiver wants bytes. */
  ask(): void {
    this.#asked = true
    this.#schedule()
  }

  /** The receiver has closed. */
  receiverClosed(): void {
    this.#schedule()
  }

  /** Puts the wire under new conditions; what is on its way arrives no later than if it were sent now. */
  impair(conditions: Conditions): void {
    this.#conditions = conditions
    this.#budget = conditions.cutAfter
    const latest = conditions.delay === undefined ? 0 : conditions.delay.timer.now() + conditions.delay.millis
    for (const item of this.#items) item.due = Math.min(item.due, latest)
    this.#stopTimer()
    this.#schedule()
  }

  /** Nothing is delivered any more. */
  sever(): void {
    this.#severed = true
    this.#items = []
    this.#stopTimer()
  }

  #nextDue(): number {
    const delay = this.#conditions.delay
    if (delay === undefined) return 0
    // Never before what was sent earlier, whatever the clock says.
    return Math.max(this.#items.at(-1)?.due ?? 0, delay.timer.now() + delay.millis)
  }

  #isDue(item: Item): boolean {
    const delay = this.#conditions.delay
    if (delay === undefined) return true
    const wait = item.due - delay.timer.now()
    if (wait <= 0) return true
    this.#cancelTimer ??= delay.timer.after(wait, () => {
      this.#cancelTimer = undefined
      this.#deliver()
    })
    return false
  }

  #stopTimer(): void {
    this.#cancelTimer?.()
    this.#cancelTimer = undefined
  }

  #schedule(): void {
    if (this.#scheduled) return
    this.#scheduled = true
    setImmediate(() => {
      this.#scheduled = false
      this.#deliver()
    })
  }

  #deliver(): void {
    const farEnd = this.#farEnd
    // A listener of the bytes that are being delivered may have moved the clock, and so come back here.
    if (farEnd === undefined || this.#delivering) return
    this.#delivering = true
    while (this.#deliverNext(farEnd)) {
      // all in the condition
    }
    this.#delivering = false
    if (!this.#severed && this.#bytesUnderway + farEnd.receiver.readableLength < windowSize) {
      const acknowledge = this.#acknowledge
      this.#acknowledge = undefined
      acknowledge?.()
    }
  }

  /** Delivers what is next, if it can be; true: there may be more. */
  #deliverNext(farEnd: FarEnd): boolean {
    if (this.#severed) return false
    if (this.#budget === 0) {
      this.#severed = true
      farEnd.exhausted()
      return false
    }
    const item = this.#items[0]
    if (item === undefined || this.#conditions.blackHole || !this.#isDue(item)) return false
    if (item._tag === "Bytes" && !this.#asked && !farEnd.receiver.destroyed) return this.#resetOvertakes()
    if (item._tag === "Bytes" && !farEnd.receiver.destroyed) {
      this.#push(farEnd.receiver, item)
      return true
    }
    this.#items.shift()
    if (item._tag === "Bytes") {
      this.#bytesUnderway -= item.bytes.length
      farEnd.bounce()
    } else if (item._tag === "Reset") {
      farEnd.receiver.destroy(connectionReset())
    } else if (!farEnd.receiver.destroyed) {
      farEnd.receiver.push(null)
      // As net.Socket does: the end is seen also by one who reads nothing, if there is nothing to read.
      farEnd.receiver.read(0)
    }
    return true
  }

  #push(receiver: Duplex, item: Item & { readonly _tag: "Bytes" }): void {
    const size = Math.min(item.bytes.length, windowSize, this.#budget)
    const piece = item.bytes.subarray(0, size)
    if (size === item.bytes.length) this.#items.shift()
    else item.bytes = item.bytes.subarray(size)
    this.#bytesUnderway -= size
    this.#budget -= size
    // Cleared before, since the reader may ask again from within push.
    this.#asked = false
    if (receiver.push(piece)) this.#asked = true
  }

  /** A reset does not wait until a reader that is not reading has read what came before it. */
  #resetOvertakes(): boolean {
    const index = this.#items.findIndex((item) => item._tag === "Reset")
    const reset = this.#items[index]
    if (reset === undefined || !this.#isDue(reset)) return false
    this.#items = this.#items.slice(index)
    this.#bytesUnderway = 0
    return true
  }
}
