/**
 * How long the answers of an endpoint take: an average that follows a slow answer at once and forgets it slowly.
 */

/** How long it takes to forget all but a 1/e of what was, in milliseconds. */
const memory = 10_000

/**
 * A moving average. An answer that took longer than the average replaces it; others bring it down, the more the longer nothing was heard. While
 * nothing is heard it goes down, too: an endpoint that was slow is tried again at some time.
 *
 * ```
 * the answer took longer:  average = took
 * else, after t ms:        average = average × e^(−t/10000) + took × (1 − e^(−t/10000))
 * read, after t ms:        average × e^(−t/10000)
 * ```
 */
export class Latency {
  /** Negative: there was no answer yet. */
  private average = -1
  private updatedAt = 0

  /** An answer took so many milliseconds. */
  observe(millis: number, nowMillis: number): void {
    const before = this.average
    const kept = this.kept(nowMillis)
    this.average = millis >= before ? millis : before * kept + millis * (1 - kept)
    this.updatedAt = nowMillis
  }

  /** The average, in milliseconds; undefined before there was an answer. */
  at(nowMillis: number): number | undefined {
    return this.average < 0 ? undefined : this.average * this.kept(nowMillis)
  }

  /** How much is left of what was known; all of it where the clock was set back. */
  private kept(nowMillis: number): number {
    const elapsed = nowMillis - this.updatedAt
    return elapsed > 0 ? Math.exp(-elapsed / memory) : 1
  }
}
