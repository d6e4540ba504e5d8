/**
 * How the endpoints of a client stand: which ones can be dialed, which ones are in backoff, and in what order they have
 * failed.
 *
 * ```
 *               a dial fails               its backoff ends
 *  ┌─────────┐ ───────────▶ ┌────────────┐ ─────────────▶ ┌───────────┐
 *  │ Healthy │              │ In backoff │ ◀───────────── │ Recovered │
 *  └─────────┘              └────────────┘  a dial fails  └───────────┘
 *       ▲                         │ it is connected             │
 *       └─────────────────────────┴─────────────────────────────┘
 * ```
 *
 * An endpoint that is listed is in exactly one of the three states. Recovered ones can be dialed like Healthy ones, but
 * have failed since they were last connected.
 *
 * Failures are numbered. A call notes the number at its beginning, and an endpoint that has failed since then counts as
 * tried for it, whichever call has dialed it. So a call need not dial each endpoint itself, and what is unavailable for
 * it follows from two numbers, without a set of its own: many calls that fail over many endpoints cost as much as the
 * sum of both, and not as their product.
 *
 * It only keeps count: it must not know calls, or what a pool does.
 */
import type { Pool } from "./pool.ts"

/** How many entries of backoffs that are over may be kept, besides as many as there are endpoints in backoff. */
const spareEnds = 64

/** The standing of an endpoint; Unlisted where it is not listed. */
type Standing = "Unlisted" | "Healthy" | "InBackoff" | "Recovered"

/** The listed endpoints, by their standing. */
export class Roster {
  /** How many dials of endpoints have failed: the number of the last failure. */
  failures = 0
  /** How often any standing has changed, or the set of endpoints. */
  version = 0
  /** The endpoints by address: those that are listed, and those that are still draining. */
  readonly pools = new Map<string, Pool>()
  private readonly healthy = new Set<Pool>()
  private readonly inBackoff = new Set<Pool>()
  private readonly recovered = new Set<Pool>()
  /** Those that have failed since they were last connected, in the order of their last failures. */
  private readonly failed = new Set<Pool>()
  private readonly ends = new Ends()

  /** Whether any endpoint is in backoff. Call {@link settle} first. */
  get hasBackoff(): boolean {
    return this.inBackoff.size > 0
  }

  /** When the first backoff ends, in milliseconds of the clock; Infinity where there is none. */
  get until(): number {
    return this.ends.first
  }

  /** An endpoint is listed, for the first time or again. */
  add(pool: Pool): void {
    this.pools.set(pool.address, pool)
    const standing = this.standing(pool)
    this.transition(pool, standing === "Unlisted" ? "Healthy" : standing)
  }

  /** An endpoint is no longer listed. */
  remove(pool: Pool): void {
    this.transition(pool, "Unlisted")
  }

  /** A dial of the endpoint has failed. */
  noteFailure(pool: Pool): void {
    pool.failureNumber = ++this.failures
    this.failed.delete(pool)
    this.failed.add(pool)
    this.transition(pool, this.standing(pool) === "InBackoff" ? "InBackoff" : "Recovered")
  }

  /** The endpoint is in backoff. */
  noteBackoff(pool: Pool): void {
    this.transition(pool, "InBackoff")
    this.ends.add(pool.backoffUntil, pool)
    // The backoffs that are over are only removed where calls are made, and endpoints may come and go.
    if (this.ends.size > 2 * this.inBackoff.size + spareEnds) this.ends.fill(this.inBackoff)
  }

  /** The endpoint may be connected, or being dialed. Returns whether that has ended its backoff. */
  noteChange(pool: Pool): boolean {
    const standing = this.standing(pool)
    if (standing === "Unlisted" || standing === "Healthy") return false
    if (pool.isOpen) {
      this.transition(pool, "Healthy")
      return standing === "InBackoff"
    }
    if (standing === "Recovered" || pool.backoffUntil !== 0) return false
    this.endBackoff(pool)
    return true
  }

  /** Ends the backoffs that are over by now. */
  settle(now: number): void {
    while (this.ends.first <= now) {
      const pool = this.ends.take()
      if (pool !== undefined && this.inBackoff.has(pool) && pool.backoffUntil <= now) this.endBackoff(pool)
    }
  }

  /** The addresses of the endpoints that can be dialed, and have not failed after the failure with this number. */
  *available(since: number): Iterable<string> {
    for (const { address } of this.healthy) yield address
    if (since >= this.failures) {
      for (const { address } of this.recovered) yield address
      return
    }
    if (this.recovered.size === 0) return
    for (const pool of this.failed) {
      if (pool.failureNumber > since) return
      if (this.recovered.has(pool)) yield pool.address
    }
  }

  /**
   * The addresses of the endpoints that may be unavailable for a call: those in backoff, and those that have failed
   * since they were last connected. The backoff of one of these may have ended after the call was made.
   */
  *down(): Iterable<string> {
    for (const { address } of this.inBackoff) yield address
    for (const { address } of this.failed) yield address
  }

  /** Whether any endpoint can be dialed, and has not failed after the failure with this number. */
  hasAvailable(since: number): boolean {
    for (const _ of this.available(since)) return true
    return false
  }

  private endBackoff(pool: Pool): void {
    this.transition(pool, pool.failureNumber > 0 ? "Recovered" : "Healthy")
  }

  private forgetFailure(pool: Pool): void {
    pool.failureNumber = 0
    this.failed.delete(pool)
  }

  private standing(pool: Pool): Standing {
    if (this.healthy.has(pool)) return "Healthy"
    if (this.inBackoff.has(pool)) return "InBackoff"
    return this.recovered.has(pool) ? "Recovered" : "Unlisted"
  }

  private transition(pool: Pool, to: Standing): void {
    this.version++
    if (to !== "Healthy") this.healthy.delete(pool)
    if (to !== "InBackoff") this.inBackoff.delete(pool)
    if (to !== "Recovered") this.recovered.delete(pool)
    switch (to) {
      case "InBackoff":
        this.inBackoff.add(pool)
        return
      case "Recovered":
        if (!this.failed.has(pool)) throw new Error(`${pool.address} has recovered from no failure`)
        this.recovered.add(pool)
        return
      case "Healthy":
        this.healthy.add(pool)
        return this.forgetFailure(pool)
      case "Unlisted":
        this.forgetFailure(pool)
    }
  }
}

/** When backoffs end: a heap, the earliest first. A backoff that was renewed is in it more than once. */
class Ends {
  private readonly heap: Array<{ readonly at: number; readonly pool: Pool }> = []

  get first(): number {
    return this.heap[0]?.at ?? Infinity
  }

  get size(): number {
    return this.heap.length
  }

  /** Replaces everything by the ends of these. */
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

  /** Removes the earliest. */
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
