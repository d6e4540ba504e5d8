/**
 * Limits the warnings that peers can cause: a peer that floods a server must not flood its log. It does not know what
 * is warned of.
 */
import type * as Clock from "effect/Clock"
import { nowMillis } from "./time/clock.ts"

/** This many warnings may be logged at once, and after that one in each `interval` of milliseconds. */
const atOnce = 100
const interval = 100

/** Decides for each warning whether it is logged, and counts the others. */
export class Warnings {
  private readonly clock: Clock.Clock
  private left = atOnce
  private countedAt = 0
  private leftOut = 0

  constructor(clock: Clock.Clock) {
    this.clock = clock
  }

  /**
   * The end of the next warning's text: it says how many warnings were left out before. Undefined if the next warning
   * must be left out, too.
   */
  next(): string | undefined {
    const now = nowMillis(this.clock)
    this.left = Math.min(atOnce, this.left + (now - this.countedAt) / interval)
    this.countedAt = now
    if (this.left < 1) {
      this.leftOut++
      return undefined
    }
    this.left--
    const others = this.leftOut === 0 ? "" : ` (${this.leftOut} more such warnings were left out before)`
    this.leftOut = 0
    return others
  }
}
