/**
 * Limits the warnings that peers can cause: a peer that floods a server must not flood its log.
 */
import type * as Clock from "effect/Clock"
import { nowMillis } from "./time/clock.ts"

/** This many warnings may come at once, and after that one in this many milliseconds. */
const atOnce = 100
const interval = 100

export class Warnings {
  private readonly clock: Clock.Clock
  private left = atOnce
  private countedAt = 0
  private leftOut = 0

  constructor(clock: Clock.Clock) {
    this.clock = clock
  }

  /**
   * The end of the next warning's text, which says how many warnings were left out before it. Undefined if the next
   * warning is to be left out, too.
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
