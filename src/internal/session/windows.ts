/**
 * How much the peer may send on the streams of one connection before what it sent was taken.
 *
 * It must not know streams. All sizes are in bytes.
 *
 * A window grows while its consumer waits for more, so a far or a fast peer is not held up. It never grows over what is
 * left of the budget: so the windows of busy streams come to much the same size, and idle ones cost the busy ones
 * little. Credit cannot be taken back, so a window shrinks only when its consumer takes bytes: the peer is granted
 * fewer.
 */
import { maxCredit } from "../protocol/items.ts"

/** A client may send so much before the server's first credit. */
export const firstCredit = 16_384

/** The window of a new stream, where no smaller one is asked for. */
const usualFirst = 65_536

/** No window shrinks below this size. */
const leastSize = 4096

/** The windows of one connection. */
export class Windows {
  /** The window of a new stream. */
  readonly first: number
  private readonly largest: number
  private readonly budget: number
  private readonly least: number
  private sum = 0

  /** `largest` is the largest window of one stream, `budget` how large all of them should be together. */
  constructor(largest: number, budget: number) {
    this.largest = Math.min(Math.max(largest, 1), maxCredit)
    this.budget = budget
    this.first = Math.min(this.largest, usualFirst)
    this.least = Math.min(this.largest, leastSize)
  }

  /** The size of all windows together. */
  get total(): number {
    return this.sum
  }

  /** A new stream's window. The peer was allowed to send `credit` at first. */
  add(credit: number = this.first): Window {
    return new StreamWindow(this, credit)
  }

  /** A window has changed its size. */
  changed(from: number, to: number): void {
    this.sum += to - from
    if (this.sum < 0) throw new Error(`the windows of a connection have ${this.sum} bytes`)
  }

  /** The next size of a window, at a grant. It is at least half as large as before, and at most twice. */
  next(size: number, keepsUp: boolean): number {
    const over = Math.max(this.sum - this.budget, size - this.largest)
    if (over > 0) return Math.max(Math.min(size, this.least), size - Math.min(Math.floor(size / 2), over))
    if (!keepsUp) return size
    // With what it gains, it is no larger than what is left then.
    const share = Math.floor((this.budget - this.sum + size) / 2)
    return Math.max(size, Math.min(size * 2, this.largest, share))
  }
}

/** The window of one stream. */
export interface Window {
  /** How much the peer may send at once, for now. */
  readonly size: number
  /** It is taken from now on. Returns how many bytes to grant for that: what the first credit lacked. */
  open(): number
  /**
   * So many bytes were taken. `keepsUp` says that the consumer has waited for the peer since the last grant. Returns
   * how many to grant now, 0 for none yet.
   */
  taken(bytes: number, keepsUp: boolean): number
  /** Its stream is over. It can be repeated. */
  remove(): void
}

class StreamWindow implements Window {
  private readonly windows: Windows
  /** What was taken and not granted yet. */
  private ungranted = 0
  private isRemoved = false
  size: number

  constructor(windows: Windows, credit: number) {
    this.windows = windows
    this.size = credit
    windows.changed(0, credit)
  }

  open(): number {
    const lacks = this.windows.first - this.size
    if (this.isRemoved || lacks <= 0) return 0
    this.resize(this.windows.first)
    return lacks
  }

  taken(bytes: number, keepsUp: boolean): number {
    if (this.isRemoved) return 0
    this.ungranted += bytes
    if (this.ungranted * 2 < this.size) return 0
    const before = this.size
    this.resize(this.windows.next(before, keepsUp))
    // Not negative: at least half of the window was taken, and it has lost at most half.
    const granted = this.ungranted + this.size - before
    if (granted < 0) throw new Error(`a window would grant ${granted} bytes`)
    this.ungranted = 0
    return granted
  }

  remove(): void {
    if (this.isRemoved) return
    this.isRemoved = true
    this.windows.changed(this.size, 0)
  }

  private resize(size: number): void {
    this.windows.changed(this.size, size)
    this.size = size
  }
}
