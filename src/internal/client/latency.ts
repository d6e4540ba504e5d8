/**
 * How long an endpoint's answers take: an average that a slow answer raises at once, and that comes down again by and by.
 */

/** In so many milliseconds, what an answer has added to the average falls to 37 % of it. */
const timeConstant = 10_000

export class Latency {
  /** In milliseconds; -1 before there was an answer. */
  private value = -1
  private updatedAt = 0

  /** An answer took so long; `now` is in milliseconds of any one clock. */
  observe(millis: number, now: number): void {
    this.value = millis > this.value ? millis : millis + (this.value - millis) * this.weight(now)
    this.updatedAt = now
  }

  /** Something took so long, or longer: it does not bring the average down. */
  observeAtLeast(millis: number, now: number): void {
    if (millis > (this.at(now) ?? -1)) this.observe(millis, now)
  }

  /** The average, which falls where there are no answers: what was slow and is called no more would else never be tried again. */
  at(now: number): number | undefined {
    return this.value === -1 ? undefined : this.value * this.weight(now)
  }

  private weight(now: number): number {
    return Math.exp((this.updatedAt - now) / timeConstant)
  }
}
