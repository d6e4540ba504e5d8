/**
 * A client's endpoints: one {@link Pool} for each that is listed or still draining, and what has happened to them.
 *
 * The resolver tells it which endpoints there are, and the pools tell it what happens to them. It keeps the roster of
 * backoffs, the outliers, the exclusions and the shared errors up to date, and wakes the calls that wait for a change.
 * It must not know single calls: to send, to retry and to fail over is up to others.
 */
import type * as Cause from "effect/Cause"
import type * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import type { Balancer } from "../../Balancer.ts"
import type { Endpoint } from "../../Endpoint.ts"
import type { Resolution, ResolverError } from "../../Resolver.ts"
import { isSticky } from "../balancer/model.ts"
import { Latest } from "../latest.ts"
import { distinct } from "../resolver/endpoints.ts"
import type { Audience } from "../resolver/watch.ts"
import type { ClientMetrics } from "../telemetry/metrics.ts"
import { nowMillis } from "../time/clock.ts"
import { Exclusions } from "./exclusions.ts"
import type { ConnectionState, EndpointState } from "./model.ts"
import type { ClientSettings } from "./options.ts"
import { Outliers } from "./outliers.ts"
import { Pool, type PoolOwner, type PoolSettings } from "./pool.ts"
import { Roster } from "./roster.ts"
import { UnreachableErrors } from "./unreachable.ts"

/** The set of a client's endpoints. */
export class Endpoints implements PoolOwner, Audience {
  readonly roster = new Roster()
  readonly exclusions: Exclusions
  readonly errors: UnreachableErrors
  /** What calls may wait for: other endpoints, the end of an ejection, or the end of the Connection. */
  readonly changes = new Latest<void>(undefined)
  private readonly clock: Clock.Clock
  private readonly settings: PoolSettings
  private readonly metrics: ClientMetrics | undefined
  private readonly balancer: Balancer
  private readonly outliers: Outliers | undefined
  /** Changes of what {@link state} shows. */
  private readonly stateChanges = new Latest<void>(undefined)
  private listed: ReadonlyArray<Endpoint> = []
  private pools: ReadonlyArray<Pool> = []
  private closed = false

  constructor(
    settings: PoolSettings & Omit<ClientSettings, "metrics">,
    clock: Clock.Clock,
    balancer: Balancer
  ) {
    const { outlierEjection } = settings
    this.clock = clock
    this.settings = settings
    this.metrics = settings.metrics
    this.balancer = balancer
    // Failures are not even counted where they would change nothing.
    this.outliers = outlierEjection === undefined || (isSticky(balancer) && !outlierEjection.ejectsShards)
      ? undefined
      : new Outliers(outlierEjection)
    this.exclusions = new Exclusions(clock, this.roster, this.outliers, settings)
    this.errors = new UnreachableErrors(clock, this.roster)
  }

  /** The listed endpoints, in the order of the resolver. */
  get list(): ReadonlyArray<Endpoint> {
    return this.listed
  }

  /** What balancers see of the listed endpoints, in the same order. */
  get views(): ReadonlyArray<Pool> {
    return this.pools
  }

  get isClosed(): boolean {
    return this.closed
  }

  /** Begins with the first answer of the resolver. */
  begin(resolution: Resolution): void {
    this.unchanged(resolution)
    this.update(resolution.endpoints)
  }

  /** Takes over another answer of the resolver. */
  readonly changed = (resolution: Resolution): void => {
    this.begin(resolution)
    // Without a version it is not known whether anything has changed.
    if (resolution.version !== undefined && this.metrics !== undefined) this.metrics.resolverUpdates++
  }

  /** The resolver lists the same endpoints, but may say something else of them. */
  readonly unchanged = (resolution: Resolution): void => {
    this.errors.resolverAnswered(resolution)
  }

  /** The resolver has failed; its last endpoints stay in use. */
  readonly failed = (cause: Cause.Cause<ResolverError>): void => {
    this.errors.resolverFailed(cause)
    if (this.metrics !== undefined) this.metrics.resolverFailures++
  }

  /** Takes over a set of endpoints, which was checked. Of several with one address the first counts. */
  private update(all: ReadonlyArray<Endpoint>): void {
    if (this.closed) return
    const { roster } = this
    const endpoints = distinct(all)
    const pools = endpoints.map((endpoint) =>
      roster.pools.get(endpoint.address) ?? new Pool(endpoint, this.settings, this)
    )
    // First, since it may be a user's own, and may throw: then nothing has changed.
    this.balancer.update(endpoints, pools)
    if (this.closed) return
    // It may also have ended the last call of an endpoint that drained: that one is Gone, and another takes its place.
    if (pools.some(({ state }) => state === "Gone")) return this.update(endpoints)
    this.listed = endpoints
    this.pools = pools
    this.exclusions.update(
      pools,
      endpoints.some(({ priority = 0 }) => priority !== (endpoints[0]?.priority ?? 0))
    )
    for (const pool of pools) roster.add(pool)
    for (const [index, pool] of pools.entries()) {
      const endpoint = endpoints[index]
      if (endpoint !== undefined) pool.list(endpoint)
    }
    // All are listed before any is dialed, which runs a user's code: it may end calls, and close the Connection.
    for (const pool of pools) {
      if (this.closed) return
      pool.connect()
    }
    const isListed = new Set(pools)
    const others = [...roster.pools.values()].filter((pool) => !isListed.has(pool))
    // All of them first: the calls that wait for one of them must not go to another of them.
    for (const pool of others) roster.remove(pool)
    for (const pool of others) {
      this.outliers?.forget(pool)
      pool.unlist()
    }
    this.outliers?.limitTo(endpoints.length)
    this.exclusions.forget()
    this.errors.update(endpoints.length)
    this.stateChanges.setAndResumeLater()
    this.changes.set()
  }

  /** Ends calls, dials and waits, and takes over no endpoints from now on. */
  close(): void {
    if (this.closed) return
    this.closed = true
    for (const pool of [...this.roster.pools.values()]) pool.close()
    this.changes.set()
    this.stateChanges.setAndResumeLater()
  }

  readonly state: Effect.Effect<ConnectionState> = Effect.sync(() => ({
    closed: this.closed,
    endpoints: Array.from(this.roster.pools.values(), (pool) => this.stateOf(pool))
  }))

  /** The state, and the next one whenever an endpoint comes, goes, or changes its state; ends when it is closed. */
  readonly states: Stream.Stream<ConnectionState> = Stream.unfold(
    -1,
    (seen: number | undefined) =>
      seen === undefined ? Effect.succeed(undefined) : Effect.map(
        Effect.andThen(this.stateChanges.after(seen), this.state),
        (state) => [state, state.closed ? undefined : this.stateChanges.version] as const
      )
  )

  private stateOf(pool: Pool): EndpointState {
    const now = nowMillis(this.clock)
    return {
      address: pool.address,
      state: pool.state,
      callsInFlight: pool.callsInFlight,
      streams: pool.streams,
      inBackoff: pool.backoffUntil > now,
      isEjected: this.outliers?.isEjected(pool, now) ?? false,
      isServing: pool.isServing,
      latency: pool.latency,
      lastFailure: pool.lastFailure
    }
  }

  /** The endpoint with this address, where it is listed or still draining. */
  get(address: string): Pool | undefined {
    return this.roster.pools.get(address)
  }

  /** A call is about to be sent to an endpoint, which may be its trial. It is on the hot path. */
  noteSent(pool: Pool): void {
    const { outliers } = this
    if (outliers !== undefined && outliers.size > 0) this.noteTrial(pool, outliers)
  }

  private noteTrial(pool: Pool, outliers: Outliers): void {
    if (outliers.sent(pool, nowMillis(this.clock))) this.exclusions.forget()
  }

  /**
   * Dials an endpoint that was ejected and has no connection, for calls to come. Returns whether it has: a call that
   * could go elsewhere does not wait for such a dial.
   */
  dialDue(pool: Pool): boolean {
    const { outliers } = this
    if (outliers === undefined || outliers.size === 0 || pool.isOpen) return false
    if (!outliers.dialed(pool, nowMillis(this.clock))) return false
    this.exclusions.forget()
    pool.dial()
    return true
  }

  /**
   * When an endpoint may be eligible again for a call that has `tried` some, in milliseconds of the clock; Infinity
   * where only a change can help. `at` is when its balancer was asked.
   */
  eligibleAt(at: number, tried: ReadonlySet<string>): number {
    const soon = nowMillis(this.clock) + this.settings.backoff.initial
    let until = Infinity
    for (const pool of this.pools) {
      const { address, backoffUntil } = pool
      // Both may be past by now, and were not when the balancer was asked.
      const ejectedUntil = this.outliers?.ejectedUntil(pool) ?? 0
      if (ejectedUntil > at) until = Math.min(until, ejectedUntil)
      if (backoffUntil > at) until = Math.min(until, backoffUntil)
      // An endpoint that took no request, but could be dialed: soon again, not at once.
      else if (tried.has(address)) until = Math.min(until, soon)
    }
    return until
  }

  onOpen(pool: Pool): void {
    if (this.outliers?.connected(pool, nowMillis(this.clock)) === true) {
      this.exclusions.forget()
      // For calls that wait because their balancer has no other.
      this.changes.set()
    }
    if (!this.settings.eager) return
    // Calls that were made before any endpoint was connected need not wait for one whose dial takes longer.
    for (const other of this.pools) if (other !== pool && !other.isOpen) other.withdraw()
  }

  onHealth(pool: Pool): void {
    this.exclusions.forget()
    this.stateChanges.setAndResumeLater()
    // For calls that wait because their balancer has no other.
    this.changes.set()
    pool.log.debug(pool.isServing ? "an endpoint serves" : "an endpoint does not serve", "it says so")
  }

  onChange(pool: Pool): void {
    this.errors.forget()
    // Else it only matters which are open where there is a choice.
    if (this.roster.noteChange(pool) || this.exclusions.hasChoice) this.exclusions.forget()
    this.stateChanges.setAndResumeLater()
  }

  onFailed(pool: Pool): void {
    this.roster.noteFailure(pool)
    this.onDown(pool)
  }

  onDown(pool: Pool): void {
    if (this.outliers?.down(pool, nowMillis(this.clock)) === true) this.exclusions.forget()
  }

  onBackoff(pool: Pool): void {
    this.roster.noteBackoff(pool)
    this.exclusions.forget()
    this.errors.forget()
  }

  onGone(pool: Pool): void {
    const { pools } = this.roster
    if (pools.get(pool.address) === pool) pools.delete(pool.address)
    this.roster.remove(pool)
    this.exclusions.forget()
    this.errors.forget()
    this.outliers?.forget(pool)
    this.stateChanges.setAndResumeLater()
  }

  onAnswered(pool: Pool): void {
    if (this.outliers?.forget(pool) !== true) return
    this.exclusions.forget()
    this.stateChanges.setAndResumeLater()
    pool.log.debug("an endpoint is used again", "a call was answered")
    // For calls that wait because their balancer has no other.
    this.changes.set()
  }

  onCallFailed(pool: Pool): void {
    const { outliers } = this
    if (!pool.listed || this.closed || outliers === undefined) return
    const isFirst = !outliers.has(pool)
    if (!outliers.failed(pool, this.listed.length, nowMillis(this.clock))) return
    this.exclusions.forget()
    this.stateChanges.setAndResumeLater()
    const reason = isFirst ? `${pool.failuresInARow} of its calls in a row have failed` : "the next one has failed, too"
    if (isFirst) pool.log.warn("an endpoint is ejected", reason)
    else pool.log.debug("an endpoint is ejected", reason)
    // The calls that wait for it go to others, where there are any.
    if (isFirst) pool.withdraw()
  }
}
