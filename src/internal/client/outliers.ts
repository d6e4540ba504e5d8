/**
 * Endpoints that can be connected to, and whose calls keep failing.
 *
 * ```
 *          failures in a row                  its time is up
 *  ┌──────┐ ───────────────▶ ┌────────────┐ ───────────────▶ ┌──────────┐
 *  │ Used │                  │ Left alone │                  │ On trial │
 *  └──────┘                  └────────────┘ ◀─────────────── └──────────┘
 *      ▲                           │         a call is sent       │
 *      └───────────────────────────┴──────────────────────────────┘
 *                           a call is answered
 * ```
 *
 * A call on trial leaves the endpoint alone for as long as before, or twice as long if it fails; so there is one at a time.
 *
 * Effect's CircuitBreaker wraps an effect, refuses what is too much, and counts on its own; here calls are to go elsewhere, and are counted where
 * they end.
 */
import type { Pool } from "./pool.ts"

/** When endpoints are left alone; times in milliseconds. */
export interface OutlierEjection {
  /** After so many failures in a row. */
  readonly failures: number
  readonly duration: number
  readonly maxDuration: number
  /** Also where a balancer has no other endpoint for a key. */
  readonly ejectsShards: boolean
}

interface Ejection {
  duration: number
  until: number
  /** Whether a call was sent since it was left alone. */
  tried: boolean
}

export class Outliers {
  private readonly settings: OutlierEjection
  private readonly ejections = new Map<Pool, Ejection>()

  constructor(settings: OutlierEjection) {
    this.settings = settings
  }

  /** How many endpoints are left alone or on trial. */
  get size(): number {
    return this.ejections.size
  }

  has(pool: Pool): boolean {
    return this.ejections.has(pool)
  }

  isLeftAlone(pool: Pool, now: number): boolean {
    return this.aloneUntil(pool) > now
  }

  /** Until when it is left alone, or was; 0 where it is used. */
  aloneUntil(pool: Pool): number {
    return this.ejections.get(pool)?.until ?? 0
  }

  /** Adds the addresses of those that are left alone; returns until when the first of them is. */
  addTo(addresses: Set<string>, now: number): number {
    let first = Infinity
    for (const [pool, { until }] of this.ejections) {
      if (until <= now) continue
      addresses.add(pool.address)
      first = Math.min(first, until)
    }
    return first
  }

  /** A call of the endpoint has failed, of `endpoints` that there are. Says whether something has changed. */
  failed(pool: Pool, endpoints: number, now: number): boolean {
    const { duration, failures, maxDuration } = this.settings
    const ejection = this.ejections.get(pool)
    if (ejection !== undefined) {
      // Those that were under way when it was left alone say nothing new.
      if (!ejection.tried) return false
      ejection.tried = false
      ejection.duration = Math.min(maxDuration, ejection.duration * 2)
      ejection.until = now + ejection.duration
      return true
    }
    if (pool.failuresInARow < failures || (this.ejections.size + 1) * 2 > endpoints) return false
    const first = Math.min(duration, maxDuration)
    this.ejections.set(pool, { duration: first, until: now + first, tried: false })
    return true
  }

  /** A call is sent to the endpoint. Says whether it is its trial. */
  sent(pool: Pool, now: number): boolean {
    const ejection = this.ejections.get(pool)
    if (ejection === undefined) return false
    ejection.tried = true
    if (ejection.until > now) return false
    ejection.until = now + ejection.duration
    return true
  }

  /** A call of the endpoint was answered, or it is gone. Says whether something has changed. */
  forget(pool: Pool): boolean {
    return this.ejections.delete(pool)
  }

  /** There are fewer endpoints now: those that were left alone first are used again, until no more than half are left alone. */
  limitTo(endpoints: number): void {
    for (const pool of this.ejections.keys()) {
      if (this.ejections.size * 2 <= endpoints) return
      this.ejections.delete(pool)
    }
  }
}
