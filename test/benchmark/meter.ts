/**
 * What a load generator notes of each call: how many there were, and how long each took.
 */

/** From one power of two to the next there are half as many buckets: what is read off is off by 1/64 at most. */
const steps = 64
/** Latencies are counted in eighths of a microsecond. */
const unitsPerMilli = 8000
const bucketCount = 32 * steps

/** Latencies by how long they were, in buckets that grow with them. */
export class Latencies {
  readonly counts: Uint32Array
  total: number

  constructor(counts: Uint32Array = new Uint32Array(bucketCount), total = 0) {
    this.counts = counts
    this.total = total
  }

  add(millis: number): void {
    const units = Math.min(millis * unitsPerMilli, 0x7fff_ffff) | 0
    const exponent = units < steps ? 0 : 26 - Math.clz32(units)
    const bucket = exponent * steps + (units >> exponent)
    this.counts[bucket] = (this.counts[bucket] ?? 0) + 1
    this.total++
  }

  /** The latency in µs that this share of the calls has not exceeded; NaN where there was none. */
  percentile(share: number): number {
    let left = Math.ceil(this.total * share)
    for (let bucket = 0; bucket < this.counts.length; bucket++) {
      left -= this.counts[bucket] ?? 0
      if (left <= 0 && this.total > 0) {
        return ((bucket % steps) + 0.5) * 2 ** Math.floor(bucket / steps) * 1000 / unitsPerMilli
      }
    }
    return NaN
  }
}

/** Runs from when it is made until its time is up. */
export class Meter {
  readonly latencies = new Latencies()
  private readonly endsAt: number
  isOver = false

  constructor(seconds: number) {
    this.endsAt = performance.now() + seconds * 1000
  }

  /** A call that was made at `startedAt` has been answered. Gives the time, which is when the next one is made. */
  answered(startedAt: number): number {
    const now = performance.now()
    this.latencies.add(now - startedAt)
    if (now >= this.endsAt) this.isOver = true
    return now
  }
}
