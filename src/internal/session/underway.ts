/**
 * Which items in pieces and messages in parts one end has under way on a connection: it begins a further one only while
 * that keeps their bytes together within a limit. The others wait, in their order; small messages and items do not.
 *
 * The peer puts each together in memory, and has room for so many. It must not know how they leave.
 */
import type { Cut } from "./cut.ts"

/** The totals of those under way are at most this together, in bytes. A larger one goes alone. */
const mostBytes = 67_108_864

/** How many messages may go in parts at once. */
const mostMessages = 64

/** One that is under way, or waits. */
interface Large {
  readonly total: number
  readonly isMessage: boolean
}

/** The unfinished items and messages of one end. */
export class Underway {
  /** Gives one that has waited its turn. */
  private readonly resume: (cut: Cut) => void
  private readonly begun = new Map<Cut, Large>()
  private readonly waiting = new Map<Cut, Large>()
  private bytes = 0
  private messages = 0

  constructor(resume: (cut: Cut) => void) {
    this.resume = resume
  }

  /** Whether one waits until it may be under way. */
  get isAwaited(): boolean {
    return this.waiting.size > 0
  }

  /** Whether one may leave: it is under way, or is so from now on. Where not, it gets its turn later. */
  begin(cut: Cut, total: number, isMessage: boolean): boolean {
    if (this.begun.has(cut)) return true
    const large = { total, isMessage }
    if (this.waiting.size === 0 && this.fits(large)) {
      this.admit(cut, large)
      return true
    }
    if (!this.waiting.has(cut)) this.waiting.set(cut, large)
    return false
  }

  /** It has left in full, or is given up. Returns whether it was known; it can be repeated. */
  end(cut: Cut): boolean {
    // Nearly always: most items are small.
    if (this.begun.size === 0 && this.waiting.size === 0) return false
    const large = this.begun.get(cut)
    if (large !== undefined) {
      this.begun.delete(cut)
      this.bytes -= large.total
      if (large.isMessage) this.messages--
    } else if (!this.waiting.delete(cut)) {
      return false
    }
    for (const [next, large] of this.waiting) {
      if (!this.fits(large)) break
      this.waiting.delete(next)
      this.admit(next, large)
      this.resume(next)
    }
    return true
  }

  private admit(cut: Cut, large: Large): void {
    this.begun.set(cut, large)
    this.bytes += large.total
    if (large.isMessage) this.messages++
  }

  private fits({ isMessage, total }: Large): boolean {
    if (isMessage && this.messages >= mostMessages) return false
    return this.begun.size === 0 || this.bytes + total <= mostBytes
  }
}
