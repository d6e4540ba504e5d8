/**
 * How long the answers of an endpoint take: an average that follows a slow answer at once and forgets it slowly.
 *
 * It must not know calls or a clock: it is told times.
 */

/** How long it takes to forget all but a 1/e of what was, in milliseconds. */
const memory = 10_000

/**
 * A moving average. An answer that took longer than the average replaces it; others bring it down, the more the longer
 * no answer came. While no answer comes it goes down, too: an endpoint that was slow is tried again at some time.
 *
 * ```
 * the answer took longer:  average = took
 * else, after t ms:        average = average × e^(−t/10000) + took × (1 − e^(−t/10000))
 * read, after t ms:        average × e^(−t/10000), and no less than t while calls are pending
 * ```
 *
 * The last line makes a stalled endpoint slow before it answers: one of its calls has waited for t.
 */
export class Latency {
  /** Negative: there was no answer yet. */
  private average = -1
  private answeredAt = 0
  private waitsSince = 0

  /** A call was sent while none was pending. */
  begin(nowMillis: number): void {
    this.waitsSince = nowMillis
  }

  /** An answer took so many milliseconds. */
  observe(millis: number, nowMillis: number): void {
    const before = this.average
    const kept = this.kept(nowMillis)
    this.average = millis >= before ? millis : before * kept + millis * (1 - kept)
    this.answeredAt = this.waitsSince = nowMillis
  }

  /** Something took so long, or longer: it does not bring the average down. */
  observeAtLeast(millis: number, nowMillis: number): void {
    if (millis > (this.at(nowMillis) ?? -1)) this.observe(millis, nowMillis)
  }

  /** The average, in milliseconds; undefined before there was an answer. */
  at(nowMillis: number, isPending = false): number | undefined {
    if (this.average < 0) return undefined
    const average = this.average * this.kept(nowMillis)
    return isPending ? Math.max(average, nowMillis - this.waitsSince) : average
  }

  /** How much is left of what was known; all of it if the clock was set back. */
  private kept(nowMillis: number): number {
    const elapsed = (nowMillis - this.answeredAt) / memory
    if (elapsed <= 0) return 1
    // The same but for 0.005 %, without what costs most of it: a balancer may ask twice for each call.
    return elapsed < 0.01 ? 1 - elapsed : Math.exp(-elapsed)
  }
}
