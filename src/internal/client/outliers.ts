/**
 * Outlier ejection: endpoints whose calls keep failing are ejected, that is, they get no calls for a while.
 *
 * It must not know calls: a pool counts the failures in a row of its calls, and the caller of each method acts on its
 * result.
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
 * Besides: an endpoint that is being dialed when it is ejected is Dialed at once. A call that has no other endpoint
 * goes to an Ejected or Dialed one, too, which then is Called. A trial that takes too long is Due again, and its late
 * end still counts.
 *
 * Each further ejection lasts twice as long. In Called and Dialed an endpoint is on trial, by one call or dial at a
 * time. It gets no other calls meanwhile, for as long as it was ejected. Then it is Due again, since a trial may be
 * interrupted, or never end.
 *
 * No call that could go elsewhere waits for the dial of an ejected endpoint. A stopped process still accepts
 * connections, by its system, and a call that waited for more than that would lose all its time. To connect is no
 * answer: the next call shows whether there are any.
 *
 * A call fails where its deadline passes: after it was sent, while it waits for the connection, or while it waits for
 * room on it. A call whose connection is lost fails, too. A call that its caller interrupts does not count.
 *
 * Effect's CircuitBreaker wraps an effect, refuses the calls, and counts on its own; here calls go to other endpoints,
 * and are counted where they end.
 */
import { checkTransition, type Transitions } from "../transitions.ts"
import type { Pool } from "./pool.ts"

/** When endpoints are ejected; times in milliseconds. */
export interface OutlierEjection {
  /** How many failures in a row eject an endpoint. */
  readonly failures: number
  readonly duration: number
  readonly maxDuration: number
  /** Whether endpoints of a sticky balancer are ejected, too, which has no other endpoint for a key. */
  readonly ejectsShards: boolean
}

/** How an endpoint stands. */
export type OutlierState = "Used" | "Ejected" | "Due" | "Called" | "Dialed"

/** What is kept of an endpoint that is not Used. */
interface Ejection {
  duration: number
  /** When it is Due, in milliseconds of the clock. */
  until: number
  /** The state before it is Due. It is kept then, since a trial that took too long may still end. */
  last: "Ejected" | "Called" | "Dialed"
}

const allowed: Transitions<OutlierState> = {
  Used: ["Ejected", "Dialed"],
  Ejected: ["Called", "Used"],
  Due: ["Called", "Dialed", "Ejected", "Due", "Used"],
  Called: ["Called", "Ejected", "Used"],
  Dialed: ["Due", "Ejected", "Called", "Used"]
}

/** The outliers among a client's endpoints. */
export class Outliers {
  private readonly settings: OutlierEjection
  /** Of the endpoints that are not Used, in the order in which they were ejected first. */
  private readonly ejections = new Map<Pool, Ejection>()

  constructor(settings: OutlierEjection) {
    this.settings = settings
  }

  /** How many endpoints are not Used. */
  get size(): number {
    return this.ejections.size
  }

  /** Whether an endpoint is not Used. */
  has(pool: Pool): boolean {
    return this.ejections.has(pool)
  }

  state(pool: Pool, now: number): OutlierState {
    const ejection = this.ejections.get(pool)
    if (ejection === undefined) return "Used"
    return ejection.until <= now ? "Due" : ejection.last
  }

  /** Whether it gets no calls: it is Ejected, Called or Dialed. */
  isEjected(pool: Pool, now: number): boolean {
    return this.ejectedUntil(pool) > now
  }

  /** Until when it gets no calls, which may be past; 0 where it is Used. */
  ejectedUntil(pool: Pool): number {
    return this.ejections.get(pool)?.until ?? 0
  }

  /** Adds the addresses of those that get no calls; returns when the first of them is Due. */
  addTo(addresses: Set<string>, now: number): number {
    let first = Infinity
    for (const [pool, { until }] of this.ejections) {
      if (until <= now) continue
      addresses.add(pool.address)
      first = Math.min(first, until)
    }
    return first
  }

  /** A call to the endpoint has failed, of `endpoints` that there are. Returns whether it is ejected by that. */
  failed(pool: Pool, endpoints: number, now: number): boolean {
    const ejection = this.ejections.get(pool)
    if (ejection === undefined) {
      if (pool.failuresInARow < this.settings.failures || (this.ejections.size + 1) * 2 > endpoints) return false
      // A dial that is in progress is its trial: where it only takes longer than calls have, the endpoint is Due as
      // soon as it is connected.
      this.transition(pool, pool.state === "Dialing" ? "Dialed" : "Ejected", now)
      return true
    }
    // Calls that were in flight when it was ejected say nothing new.
    if (ejection.last !== "Called") return false
    this.transition(pool, "Ejected", now)
    return true
  }

  /** A call goes to the endpoint. Returns whether this is its trial: then it is excluded for other calls. */
  sent(pool: Pool, now: number): boolean {
    const state = this.state(pool, now)
    if (state === "Used") return false
    this.transition(pool, "Called", now)
    return state === "Due"
  }

  /**
   * The endpoint would have to be dialed for a call. Returns whether that dial is its trial: the call then goes
   * elsewhere.
   */
  dialed(pool: Pool, now: number): boolean {
    if (this.state(pool, now) !== "Due") return false
    this.transition(pool, "Dialed", now)
    return true
  }

  /** The endpoint is connected. Returns whether it is Due by that. */
  connected(pool: Pool, now: number): boolean {
    if (this.ejections.get(pool)?.last !== "Dialed") return false
    this.transition(pool, "Due", now)
    return true
  }

  /** The endpoint could not be dialed, or has no connection any more. Returns whether it is ejected by that. */
  down(pool: Pool, now: number): boolean {
    if (this.ejections.get(pool)?.last !== "Dialed") return false
    this.transition(pool, "Ejected", now)
    return true
  }

  /** A call to the endpoint was answered, or the endpoint is gone. Returns whether it was not Used. */
  forget(pool: Pool): boolean {
    if (!this.ejections.has(pool)) return false
    this.transition(pool, "Used", 0)
    return true
  }

  /** There are fewer endpoints now: the first ejected are Used again, until no more than half are ejected. */
  limitTo(endpoints: number): void {
    for (const pool of this.ejections.keys()) {
      if (this.ejections.size * 2 <= endpoints) return
      this.transition(pool, "Used", 0)
    }
  }

  /**
   * Changes the state of an endpoint. How long it is in the new one:
   *
   * - Ejected: twice as long as the last time, up to the maximum.
   * - Called, Dialed: as long as it was ejected; where it was not Due yet, until the time that it would have been.
   * - Used, Due: until something happens.
   */
  private transition(pool: Pool, to: OutlierState, now: number): void {
    const from = this.state(pool, now)
    checkTransition("the ejection of an endpoint", allowed, from, to)
    if (to === "Used") {
      this.ejections.delete(pool)
      return
    }
    const { duration, maxDuration } = this.settings
    let ejection = this.ejections.get(pool)
    if (ejection === undefined) {
      const first = Math.min(duration, maxDuration)
      ejection = { duration: first, until: now + first, last: "Ejected" }
      this.ejections.set(pool, ejection)
    } else if (to === "Ejected") {
      ejection.duration = Math.min(maxDuration, ejection.duration * 2)
      ejection.until = now + ejection.duration
    } else if (to === "Due") {
      ejection.until = now
    } else if (from === "Due") {
      ejection.until = now + ejection.duration
    }
    if (to !== "Due") ejection.last = to
    if (ejection.until < now || ejection.duration > maxDuration) {
      throw new Error(
        `an outlier is ${to} until ${ejection.until} of ${now}, for ${ejection.duration} of ${maxDuration}`
      )
    }
  }
}
