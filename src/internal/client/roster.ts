/**
 * How the endpoints of a client stand: which can be dialed, which are in backoff, and in what order they have failed.
 *
 * ```
 *            a dial fails                     its backoff ends
 *  ┌───────┐ ───────────▶ ┌────────────┐ ───────────────────────▶ ┌───────┐
 *  │ Sound │              │ In backoff │ ◀─────────────────────── │ Ended │
 *  └───────┘              └────────────┘       a dial fails       └───────┘
 *      ▲                        │ it is connected                     │
 *      └────────────────────────┴─────────────────────────────────────┘
 * ```
 *
 * Failures are numbered. A call notes the number at its beginning, and what has failed since then counts as tried for
 * it, whoever has dialed it. So a call need not dial each endpoint itself; and what it is to avoid is told by two
 * numbers, without a set of its own: many calls that fail over many endpoints cost as much as the endpoints and the
 * calls, and not as their product.
 */
import type { Pool } from "./pool.ts"

/** So many ends of backoffs that are over may be kept, beside as many as there are endpoints in backoff. */
const spareEnds = 64

export class Roster {
  /** How many dials of endpoints have failed: the number of the last failure. */
  failures = 0
  /** How often anything about it has changed. */
  version = 0
  /** The endpoints by address: those that are listed, and those that still drain. */
  readonly pools = new Map<string, Pool>()
  private readonly sound = new Set<Pool>()
  private readonly ended = new Set<Pool>()
  private readonly inBackoff = new Set<Pool>()
  /** Those that have failed, the first one first. */
  private readonly failed = new Set<Pool>()
  private readonly ends = new Ends()

  /** Whether any endpoint is in backoff. To be asked after {@link settle}. */
  get hasBackoff(): boolean {
    return this.inBackoff.size > 0
  }

  /** When the first backoff ends, in milliseconds of the clock; Infinity where there is none. */
  get until(): number {
    return this.ends.first
  }

  /** It is listed. */
  add(pool: Pool): void {
    this.version++
    this.pools.set(pool.address, pool)
    if (!this.ended.has(pool) && !this.inBackoff.has(pool)) this.sound.add(pool)
  }

  /** It is listed no longer. */
  remove(pool: Pool): void {
    this.version++
    pool.failureNumber = 0
    this.sound.delete(pool)
    this.ended.delete(pool)
    this.inBackoff.delete(pool)
    this.failed.delete(pool)
  }

  /** Its dial has failed. */
  noteFailure(pool: Pool): void {
    this.version++
    pool.failureNumber = ++this.failures
    this.failed.delete(pool)
    this.failed.add(pool)
    if (this.sound.delete(pool)) this.ended.add(pool)
  }

  /** It is in backoff. */
  noteBackoff(pool: Pool): void {
    this.version++
    this.sound.delete(pool)
    this.ended.delete(pool)
    this.inBackoff.add(pool)
    this.ends.add(pool.backoffUntil, pool)
    // Where no call is made nobody takes out those that are over, and endpoints may come and go.
    if (this.ends.size > 2 * this.inBackoff.size + spareEnds) this.ends.fill(this.inBackoff)
  }

  /** It may be connected, or dialed. Says whether that has ended its backoff. */
  noteChange(pool: Pool): boolean {
    const wasInBackoff = this.inBackoff.has(pool)
    if (!wasInBackoff && !this.ended.has(pool)) return false
    if (pool.isOpen) {
      this.remove(pool)
      this.sound.add(pool)
      return wasInBackoff
    }
    if (!wasInBackoff || pool.backoffUntil !== 0) return false
    this.end(pool)
    return true
  }

  /** Notes the backoffs that are over by now. */
  settle(now: number): void {
    while (this.ends.first <= now) {
      const pool = this.ends.take()
      if (pool !== undefined && this.inBackoff.has(pool) && pool.backoffUntil <= now) this.end(pool)
    }
  }

  /** The addresses of the endpoints that can be dialed, and have not failed after the failure with this number. */
  *free(since: number): Iterable<string> {
    for (const { address } of this.sound) yield address
    if (since >= this.failures) {
      for (const { address } of this.ended) yield address
      return
    }
    if (this.ended.size === 0) return
    for (const pool of this.failed) {
      if (pool.failureNumber > since) return
      if (this.ended.has(pool)) yield pool.address
    }
  }

  /** The addresses of the others. */
  *down(since: number): Iterable<string> {
    for (const { address } of this.inBackoff) yield address
    for (const { address, failureNumber } of this.failed) if (failureNumber > since) yield address
  }

  /** Whether there are any that can be dialed. */
  hasFree(since: number): boolean {
    for (const _ of this.free(since)) return true
    return false
  }

  private end(pool: Pool): void {
    this.version++
    this.inBackoff.delete(pool)
    if (pool.failureNumber > 0) this.ended.add(pool)
    else this.sound.add(pool)
  }
}

/** When backoffs end: a heap, the earliest first. One that has been renewed is in it more than once. */
class Ends {
  private readonly heap: Array<{ readonly at: number; readonly pool: Pool }> = []

  get first(): number {
    return this.heap[0]?.at ?? Infinity
  }

  get size(): number {
    return this.heap.length
  }

  /** Keeps nothing but the ends of these. */
  fill(pools: Iterable<Pool>): void {
    this.heap.length = 0
    for (const pool of pools) this.add(pool.backoffUntil, pool)
  }

  add(at: number, pool: Pool): void {
    const { heap } = this
    const entry = { at, pool }
    let index = heap.push(entry) - 1
    while (index > 0) {
      const up = (index - 1) >> 1
      const parent = heap[up]
      if (parent === undefined || parent.at <= at) break
      heap[index] = parent
      index = up
    }
    heap[index] = entry
  }

  take(): Pool | undefined {
    const { heap } = this
    const first = heap[0]
    const last = heap.pop()
    if (last === undefined || heap.length === 0) return first?.pool
    let index = 0
    while (true) {
      let child = 2 * index + 1
      const right = heap[child + 1]
      if (right !== undefined && right.at < (heap[child]?.at ?? Infinity)) child++
      const next = heap[child]
      if (next === undefined || next.at >= last.at) break
      heap[index] = next
      index = child
    }
    heap[index] = last
    return first?.pool
  }
}
