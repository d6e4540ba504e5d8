/**
 * One direction of an in-memory connection: the bytes in transit from one socket to the other, and the faults that
 * affect them. It knows the two sockets. It knows no networks and no names.
 *
 * Plain callbacks, as in Node's streams. Nothing is delivered within a write: as with a socket, bytes arrive in a later
 * turn of the event loop. A wire holds at most a window of bytes, plus the write that exceeds it, until the reader has
 * taken them.
 */
import type { Duplex } from "node:stream"
import { connectionReset } from "./connectionReset.ts"

/**
 * In bytes: when this many are in transit or unread, the writer waits. It is also the largest chunk that is delivered.
 */
export const windowSize = 64 * 1024

/** A clock with timers. `after` returns a function that cancels its timer. */
export interface Timer {
  readonly now: () => number
  readonly after: (millis: number, wake: () => void) => () => void
}

/** The faults of one direction. */
export interface Conditions {
  /** Nothing is delivered, and nothing is lost. */
  readonly blackHole: boolean
  /** How long the bytes take. Undefined: no time on any clock. */
  readonly delay: { readonly millis: number; readonly timer: Timer } | undefined
  /** How many more bytes are delivered before the connection is cut. `Infinity`: it is not cut. */
  readonly cutAfter: number
}

/** A wire without faults. */
export const unimpaired: Conditions = { blackHole: false, delay: undefined, cutAfter: Infinity }

/** The far end of a wire. */
export interface FarEnd {
  readonly receiver: Duplex
  /** Bytes have arrived for a receiver that has closed: the sender gets a reset, as from a host. */
  readonly bounce: () => void
  /** The last byte before the cut has been delivered. */
  readonly exhausted: () => void
}

type Item = { readonly _tag: "Bytes"; bytes: Buffer; due: number } | { readonly _tag: "End" | "Reset"; due: number }

/**
 * The last signal of the sender, or `Severed` if the wire is cut:
 *
 * ```
 *   Open ──▶ Ended ──▶ Reset ──▶ Severed
 *     └───────────────▲
 *   from each: Severed
 * ```
 *
 * An end or a reset arrives after the bytes before it. In `Severed`, nothing is delivered any more.
 */
type WireState = "Open" | "Ended" | "Reset" | "Severed"

const next: { readonly [State in WireState]: ReadonlyArray<WireState> } = {
  Open: ["Ended", "Reset", "Severed"],
  Ended: ["Reset", "Severed"],
  Reset: ["Severed"],
  Severed: []
}

/** Delivers to a {@link FarEnd}. `connect` is called once, before anything is sent. */
export class Wire {
  #farEnd: FarEnd | undefined
  #state: WireState = "Open"
  #items: Array<Item> = []
  #conditions = unimpaired
  #budget = Infinity
  #bytesUnderway = 0
  #acknowledge: ((error?: Error | null) => void) | undefined
  /** Whether the receiver wants bytes. */
  #asked = false
  /** Whether a delivery is due in a later turn, and whether one is under way. */
  #scheduled = false
  #delivering = false
  #cancelTimer: (() => void) | undefined

  connect(farEnd: FarEnd): void {
    this.#farEnd = farEnd
  }

  /**
   * Takes bytes, which must not change any more. `done` is called when there is room for more, and never within this
   * method.
   */
  send(bytes: Buffer, done: (error?: Error | null) => void): void {
    this.#acknowledge = done
    this.#bytesUnderway += bytes.length
    if (bytes.length > 0) this.#items.push({ _tag: "Bytes", bytes, due: this.#nextDue() })
    this.#schedule()
  }

  /** No more bytes follow. */
  end(): void {
    if (!this.#transition("Ended")) return
    this.#items.push({ _tag: "End", due: this.#nextDue() })
    this.#schedule()
  }

  /** The sender is gone without an orderly end. */
  reset(): void {
    if (!this.#transition("Reset")) return
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

  /** Puts the wire under new conditions. Bytes in transit arrive no later than if they were sent now. */
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
    this.#transition("Severed")
    this.#items = []
    this.#stopTimer()
  }

  /** Enters a state. Returns false if that is not possible any more. For example, an end after a reset is not seen. */
  #transition(state: WireState): boolean {
    if (!next[this.#state].includes(state)) return false
    this.#state = state
    return true
  }

  #nextDue(): number {
    const delay = this.#conditions.delay
    if (delay === undefined) return 0
    // It does not arrive before earlier bytes, even if the clock has been set back.
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
    // A listener of the bytes may have moved the clock, and so may call this method again from within.
    if (farEnd === undefined || this.#delivering) return
    this.#delivering = true
    while (this.#deliverNext(farEnd)) {
      // all in the condition
    }
    this.#delivering = false
    if (this.#state !== "Severed" && this.#bytesUnderway + farEnd.receiver.readableLength < windowSize) {
      const acknowledge = this.#acknowledge
      this.#acknowledge = undefined
      acknowledge?.()
    }
  }

  /** Delivers the next item, if that is possible. Returns whether there may be more. */
  #deliverNext(farEnd: FarEnd): boolean {
    if (this.#state === "Severed") return false
    if (this.#budget === 0) {
      this.#transition("Severed")
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
      // As in net.Socket: if there is nothing to read, even a paused reader sees the end.
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
    // Cleared before: the reader may ask again within push.
    this.#asked = false
    if (receiver.push(piece)) this.#asked = true
  }

  /** A reset overtakes bytes that wait for a paused reader. */
  #resetOvertakes(): boolean {
    const index = this.#items.findIndex((item) => item._tag === "Reset")
    const reset = this.#items[index]
    if (reset === undefined || !this.#isDue(reset)) return false
    this.#items = this.#items.slice(index)
    this.#bytesUnderway = 0
    return true
  }
}
