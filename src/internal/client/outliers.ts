/**
 * Endpoints whose calls keep failing: they are ejected, that is, left alone for a while.
 *
 * ```
 *  ┌──────┐ failures in a row ┌─────────┐ its time is up ┌─────┐ a call goes there ┌────────┐
 *  │ Used │ ────────────────▶ │ Ejected │ ─────────────▶ │ Due │ ────────────────▶ │ Called │
 *  └──────┘                   └─────────┘                └─────┘                   └────────┘
 *      ▲                         ▲   ▲                     │ ▲                         │
 *      │ a call is answered,     │   └─────── it fails ────┼─┼─────────────────────────┘
 *      │ in any state            │        a call would     │ │
 *                                │        have to dial it  │ │ it connects
 *                                │                         ▼ │
 *                                │                      ┌────────┐
 *                                └── it does not, or ── │ Dialed │
 *                                    closes at once     └────────┘
 * ```
 *
 * Each time it is ejected again that is for twice as long. Called and Dialed are its trial, of which there is one at a
 * time: others leave it alone meanwhile, for as long as it was ejected. Then it is Due again, since a trial may be
 * interrupted, or take for ever.
 *
 * No call that could go elsewhere waits for the dial of an ejected endpoint. A process that stands still accepts
 * connections, by its system, and a call that waited for more than that would lose all its time. To connect is no
 * answer: the next call is to show whether there are any.
 *
 * A call fails where its time is up: after it was sent, while it waits for the connection, or for room on it. So does
 * one whose connection is lost. One that its caller interrupts says nothing.
 *
 * Effect's CircuitBreaker wraps an effect, refuses what is too much, and counts on its own; here calls are to go
 * elsewhere, and are counted where they end.
 */
import type { Pool } from "./pool.ts"

/** When endpoints are ejected; times in milliseconds. */
export interface OutlierEjection {
  /** After so many failures in a row. */
  readonly failures: number
  readonly duration: number
  readonly maxDuration: number
  /** Also where a balancer has no other endpoint for a key. */
  readonly ejectsShards: boolean
}

/** Of an endpoint that is not Used. It is Due where `until` has come, whatever its trial is. */
interface Ejection {
  duration: number
  until: number
  /** What was tried since it was ejected. */
  trial: "None" | "Called" | "Dialed"
}

export class Outliers {
  private readonly settings: OutlierEjection
  private readonly ejections = new Map<Pool, Ejection>()

  constructor(settings: OutlierEjection) {
    this.settings = settings
  }

  /** How many endpoints are not simply used. */
  get size(): number {
    return this.ejections.size
  }

  has(pool: Pool): boolean {
    return this.ejections.has(pool)
  }

  /** Whether it is ejected, or on trial. */
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
    // Calls that were under way when it was ejected say nothing new.
    if (ejection !== undefined) return ejection.trial === "Called" && this.renew(ejection, now)
    if (pool.failuresInARow < failures || (this.ejections.size + 1) * 2 > endpoints) return false
    const first = Math.min(duration, maxDuration)
    // A dial that is under way is its trial: where it only takes longer than calls have, its time is up when it is
    // there.
    this.ejections.set(pool, {
      duration: first,
      until: now + first,
      trial: pool.state === "Dialing" ? "Dialed" : "None"
    })
    return true
  }

  /** A call goes to the endpoint. Says whether it is its trial. */
  sent(pool: Pool, now: number): boolean {
    return this.begin(pool, "Called", now)
  }

  /**
   * The endpoint would have to be dialed for a call. Says whether that is its trial: the call had better go elsewhere.
   */
  dialed(pool: Pool, now: number): boolean {
    return !this.isLeftAlone(pool, now) && this.begin(pool, "Dialed", now)
  }

  /** The endpoint is connected. Says whether something has changed. */
  connected(pool: Pool, now: number): boolean {
    const ejection = this.ejections.get(pool)
    if (ejection?.trial !== "Dialed") return false
    ejection.until = now
    return true
  }

  /** The endpoint could not be dialed, or has no connection any more. Says whether something has changed. */
  down(pool: Pool, now: number): boolean {
    const ejection = this.ejections.get(pool)
    return ejection?.trial === "Dialed" && this.renew(ejection, now)
  }

  /** A call of the endpoint was answered, or it is gone. Says whether something has changed. */
  forget(pool: Pool): boolean {
    return this.ejections.delete(pool)
  }

  /**
   * There are fewer endpoints now: those that were ejected first are used again, until no more than half are ejected.
   */
  limitTo(endpoints: number): void {
    for (const pool of this.ejections.keys()) {
      if (this.ejections.size * 2 <= endpoints) return
      this.ejections.delete(pool)
    }
  }

  /**
   * From now on others leave it alone, for as long as it was ejected. Where it still is, a call goes there that had no
   * other.
   */
  private begin(pool: Pool, trial: "Called" | "Dialed", now: number): boolean {
    const ejection = this.ejections.get(pool)
    if (ejection === undefined) return false
    ejection.trial = trial
    if (ejection.until > now) return false
    ejection.until = now + ejection.duration
    return true
  }

  private renew(ejection: Ejection, now: number): true {
    ejection.trial = "None"
    ejection.duration = Math.min(this.settings.maxDuration, ejection.duration * 2)
    ejection.until = now + ejection.duration
    return true
  }
}
