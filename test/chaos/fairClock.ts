/**
 * The time that this process gets. On a busy machine a turn of the event loop may take a second, and work of some turns
 * is late by seconds, without any fault. So each look at the clock counts for a moment at most.
 */

/** In ms. It is looked at more often than that, where there is time for it. */
const moment = 100

export class FairClock {
  private time = 0
  private seenAt: number

  constructor(now: number) {
    this.seenAt = now
  }

  /** In ms since it was made; as of the last {@link look}. */
  get now(): number {
    return this.time
  }

  /** Looks at the real time, in ms. */
  look(now: number): void {
    this.time += Math.min(moment, now - this.seenAt)
    this.seenAt = now
  }
}
