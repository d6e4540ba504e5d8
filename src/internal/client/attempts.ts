/**
 * What a call on the slow path has been through: which endpoints it has tried, why they failed, and what it waits for.
 *
 * It only keeps count, for one call: it must not know balancers, or dial.
 */
import { listFailures } from "../failures.ts"
import type { Call, CalledEndpoint } from "./call.ts"
import type { Pool } from "./pool.ts"

/**
 * The attempts of one call.
 *
 * Invariant: of each endpoint that it has tried, or whose connection was lost, it knows the last failure. It is waiting
 * for at most one endpoint.
 */
export class Attempts {
  /** The number of the last failure of an endpoint before it began: endpoints that have failed since count as tried. */
  readonly since: number
  /** Why endpoints could not take the call, by their addresses. */
  readonly failures = new Map<string, string>()
  /** The addresses of the endpoints that it has tried itself; another set where it begins anew. */
  private triedNow: Set<string> = new Set()
  /** How many connections to an endpoint were lost before the request was sent, by addresses. */
  private readonly losses = new Map<string, number>()
  /** Whether a server has refused the call, since its contract differs. From then on the call is sent in JSON. */
  isRefused = false
  /** Whether it was handed to a connection at least once. */
  wasSent = false
  /** The endpoint whose connection, or room on it, the call waits for now. */
  private waitsFor: Pool | undefined = undefined

  constructor(since: number) {
    this.since = since
  }

  /** The attempts of a call that has only been tried on the fast path. */
  static of({ options, since }: Call): Attempts {
    // For a call that waits for endpoints, only backoffs count.
    return new Attempts(options?.waitForReady === true ? Infinity : since)
  }

  /** The addresses of the endpoints that it has tried itself. {@link beginAnew} leaves this set as it is. */
  get tried(): ReadonlySet<string> {
    return this.triedNow
  }

  /** Whether an endpoint counts as tried. */
  hasTried({ address, failureNumber }: Pool): boolean {
    return failureNumber > this.since || this.triedNow.has(address)
  }

  noteBackoff({ address, lastFailure }: Pool): void {
    this.triedNow.add(address)
    this.failures.set(address, lastFailure ?? "it is in backoff")
  }

  /** It is connected, and cannot take the stream: nothing was sent. */
  noteWithoutStreams({ address }: Pool): void {
    this.triedNow.add(address)
    this.failures.set(address, "its server does not understand streams")
  }

  noteDialFailed(pool: Pool, message: string): void {
    // Else the number of its failure says so.
    if (!this.hasTried(pool)) this.triedNow.add(pool.address)
    this.failures.set(pool.address, message)
  }

  /**
   * A connection was lost before the request was sent. It was open, and others may be, or may be again. So the endpoint
   * counts as tried only when more connections were lost than it has: a peer that closes every connection that it
   * accepts must not be dialed for ever.
   */
  noteLost({ address, lastFailure, size }: CalledEndpoint): void {
    const losses = (this.losses.get(address) ?? 0) + 1
    this.losses.set(address, losses)
    if (losses > size) this.triedNow.add(address)
    const why = lastFailure === undefined ? "" : `: ${lastFailure}`
    this.failures.set(address, `the connection was lost before the request was sent${why}`)
  }

  beginWaiting(pool: Pool): void {
    this.waitsFor = pool
  }

  endWaiting(): void {
    this.waitsFor = undefined
  }

  /** All endpoints may be tried again. */
  beginAnew(): void {
    // Balancers may keep the set that they were given.
    this.triedNow = new Set()
  }

  /** What has kept the call until its deadline, as a text; empty where that is nothing. */
  describe(): string {
    const all = new Map(this.failures)
    const { waitsFor } = this
    if (waitsFor !== undefined && !this.wasSent) {
      // The call may wait for an endpoint again that has failed: the last reason counts.
      all.delete(waitsFor.address)
      all.set(waitsFor.address, waitsFor.isOpen ? "there was no room on its connection" : "it was still being dialed")
    }
    return listFailures([...all].map(([endpoint, message]) => ({ endpoint, message })))
  }
}
