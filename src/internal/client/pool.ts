/**
 * A client's connections to one endpoint: a {@link Link} for each, and what they have in common.
 *
 * It must not know which endpoint a call should have, or what becomes of a call. When an endpoint is dialed again is
 * decided in `dialing.ts`.
 *
 * All connections to an endpoint share its backoff and its last failure. While one is open, calls go on the open ones,
 * and each call starts one dial of a missing connection. While none is open, calls wait for a dial that they share. A
 * dial goes on for later calls, also if all calls that wait for it are given up: otherwise, if calls have less time
 * than a dial takes, none would ever be answered. A pool is in backoff iff it has no open connection, none is being
 * dialed, and the backoff of its last failed dial is not over.
 */
import * as Effect from "effect/Effect"
import type { EndpointView } from "../../Balancer.ts"
import type { Endpoint } from "../../Endpoint.ts"
import type { LogQueue } from "../log.ts"
import { nowMillis } from "../time/clock.ts"
import { checkTransition, type Transitions } from "../transitions.ts"
import type { Warnings } from "../warnings.ts"
import { Dialing, type DialingSettings } from "./dialing.ts"
import { EndpointLog } from "./endpointLog.ts"
import { Latency } from "./latency.ts"
import { Link, type LinkOwner, type LinkSettings, type LinkState, notListed } from "./link.ts"
import type { LinkCalls } from "./linkCalls.ts"
import { HealthProbe } from "./probe.ts"
import { Trouble } from "./trouble.ts"
import { RoomWaiters, Waiters } from "./waiters.ts"

/** How a call's wait for a connection may end. */
export type Dialed =
  | { readonly _tag: "Ready"; readonly calls: LinkCalls }
  | { readonly _tag: "Failed"; readonly message: string }
  /** The endpoint is no longer listed, or another is connected by now: pick again. */
  | { readonly _tag: "Withdrawn" }
  | { readonly _tag: "Closed" }

/** What pools of one client share. */
export interface PoolSettings extends LinkSettings, DialingSettings {
  readonly connectionsPerEndpoint: number
  /** Whether connections are opened before a call needs them. */
  readonly eager: boolean
  /** The component whose health servers are asked for; undefined if they are not asked. */
  readonly health: string | undefined
  /** How long an endpoint that has been connected gets fewer calls, in milliseconds. */
  readonly slowStartMillis: number
  readonly logs: LogQueue
  /** For all that servers can cause. */
  readonly warnings: Warnings
  /** An endpoint could not be dialed, or a connection was lost or goes away: it may be listed no longer. */
  readonly onTrouble: () => void
}

/** Hears what happens to a pool. */
export interface PoolOwner {
  /** Its state or its last failure has changed. */
  onChange(pool: Pool): void
  /** It has a connection, and the calls that waited for one have gone on. */
  onOpen(pool: Pool): void
  /** Its servers say something else of their health. */
  onHealth(pool: Pool): void
  /** It could not be dialed, and the calls that wait for that are about to hear of it. */
  onFailed(pool: Pool): void
  /** It has no connection any more. */
  onDown(pool: Pool): void
  /** It went into backoff. */
  onBackoff(pool: Pool): void
  onGone(pool: Pool): void
  /** A call to it was answered, after others had failed. */
  onAnswered(pool: Pool): void
  /** A call to it has failed: its time was up, or its connection was lost. */
  onCallFailed(pool: Pool): void
}

/**
 * Whether the client's endpoints contain it:
 *
 * ```
 *        ┌────────┐  no longer listed   ┌──────────┐  its last link is gone,   ┌──────┐
 *   ───▶ │ Listed │ ──────────────────▶ │ Unlisted │ ────────────────────────▶ │ Gone │
 *        └────────┘ ◀────────────────── └──────────┘  or it is closed          └──────┘
 *                      listed again
 * ```
 * In `Unlisted` its connections drain. In `Gone` it is over, and its links are gone or being closed.
 */
type Membership = "Listed" | "Unlisted" | "Gone"

const allowed: Transitions<Membership> = {
  Listed: ["Unlisted"],
  Unlisted: ["Listed", "Gone"],
  Gone: []
}

const none: ReadonlyArray<never> = []

/** An endpoint that starts slowly has at least this share of its weight. */
const leastShare = 0.1

/** The connections of a client to one endpoint, as one endpoint for its calls. */
export class Pool implements LinkOwner, EndpointView {
  readonly address: string
  /** The endpoint that is dialed: the latest one listed with this address. */
  endpoint: Endpoint
  private membership: Membership = "Listed"
  /** Why it could not be dialed, or was lost, the last time; undefined since it last answered. */
  lastFailure: string | undefined = undefined
  /** How many connections there should be. */
  readonly size: number
  /** A link is made when it is first dialed: with many endpoints, most may never be dialed. */
  private readonly links: Array<Link> = []
  /** The connections that calls may be sent on. It is replaced, and never changed. */
  private open: ReadonlyArray<LinkCalls> = none
  /** The open connection where there should be only one. This is the usual case, in which a call need not search. */
  private only: LinkCalls | undefined = undefined
  /** The index of the open connection that is next among equals. */
  private turn = 0
  /** The number of its last failed dial among those of all endpoints; 0 if it was connected since. */
  failureNumber = 0
  /** How many calls have failed since the last was answered; calls that were lost together count as one. */
  failuresInARow = 0
  /** When it has its full weight, in milliseconds of the clock; 0 if it has. */
  private warmAt = 0
  readonly latencies = new Latency()
  /** What the servers of open connections say of their health; undefined if they are not asked. */
  private readonly probes: Map<LinkCalls, HealthProbe> | undefined
  private readonly dialing: Dialing
  private readonly trouble = new Trouble()
  /** The calls that wait for a connection. */
  private readonly waiters = new Waiters<Dialed>()
  /** The calls that wait for room on one. */
  readonly room = new RoomWaiters(this)
  readonly log: EndpointLog
  private readonly settings: PoolSettings
  private readonly owner: PoolOwner

  constructor(endpoint: Endpoint, settings: PoolSettings, owner: PoolOwner) {
    this.address = endpoint.address
    this.endpoint = endpoint
    this.size = settings.connectionsPerEndpoint
    this.settings = settings
    this.owner = owner
    this.dialing = new Dialing(settings, settings.connectionsPerEndpoint)
    this.log = new EndpointLog(endpoint.address, settings.logs, settings.warnings)
    this.probes = settings.health === undefined ? undefined : new Map()
  }

  /** Whether the client's endpoints contain it. */
  get listed(): boolean {
    return this.membership === "Listed"
  }

  /** Active if any of its connections is. */
  get state(): LinkState {
    if (this.membership === "Gone") return "Gone"
    if (this.open.length > 0) return "Active"
    if (this.isDialing) return "Dialing"
    return this.links.some(({ state }) => state === "Draining") ? "Draining" : "Idle"
  }

  get callsInFlight(): number {
    return this.links.reduce((sum, { callsInFlight }) => sum + callsInFlight, 0)
  }

  /** How many streams are open, on all of its connections. */
  get streams(): number {
    return this.links.reduce((sum, { streams }) => sum + streams, 0)
  }

  /** With streams. Balancers read it for several endpoints with every call, so it allocates nothing. */
  get callsPending(): number {
    return this.inFlight + this.waiters.size + this.room.size
  }

  get latency(): number | undefined {
    return this.latencies.at(nowMillis(this.settings.clock), this.callsOut > 0)
  }

  /** The calls on connections that are open, without streams. */
  private get callsOut(): number {
    if (this.only !== undefined) return this.only.callsInFlight
    let out = 0
    for (const calls of this.open) out += calls.callsInFlight
    return out
  }

  /** The calls and streams on connections that are open. */
  private get inFlight(): number {
    if (this.only !== undefined) return this.only.inFlight
    let out = 0
    for (const calls of this.open) out += calls.inFlight
    return out
  }

  get weight(): number {
    const weight = this.endpoint.weight ?? 1
    if (this.warmAt === 0) return weight
    const left = this.warmAt - nowMillis(this.settings.clock)
    if (left > 0) return weight * Math.max(leastShare, 1 - left / this.settings.slowStartMillis)
    this.warmAt = 0
    return weight
  }

  get priority(): number {
    return this.endpoint.priority ?? 0
  }

  get isOpen(): boolean {
    return this.open.length > 0
  }

  /** Whether any of its servers says that it serves. One that is not connected may. */
  get isServing(): boolean {
    if (this.probes === undefined || this.open.length === 0) return true
    for (const probe of this.probes.values()) if (probe.isServing) return true
    return false
  }

  /** Until when it is in backoff, in milliseconds of the clock; 0 if a connection is open, or being dialed. */
  get backoffUntil(): number {
    const { backoffUntil } = this.dialing
    return backoffUntil === 0 || this.open.length > 0 || this.isDialing ? 0 : backoffUntil
  }

  private get isDialing(): boolean {
    return this.links.some(({ state }) => state === "Dialing")
  }

  /**
   * The connection for the next call: open, and with room; undefined if there is none. Missing connections are dialed.
   */
  take(): LinkCalls | undefined {
    const { only } = this
    return only !== undefined && only.hasRoom() ? only : this.takeLeastBusy()
  }

  /** As {@link take}, for a stream: a connection whose server understands streams, where any does. */
  takeForStream(): LinkCalls | undefined {
    const taken = this.take()
    if (taken === undefined || taken.understandsStreams) return taken
    return this.open.find((calls) => calls.understandsStreams && calls.hasRoom()) ?? taken
  }

  /**
   * Waits for a connection, and dials if none is being dialed. It does not fail. The dial goes on if the call that
   * waits for it is interrupted.
   */
  acquire(): Effect.Effect<Dialed> {
    return Effect.callback<Dialed>((resume) => {
      if (!this.listed) return resume(Effect.succeed<Dialed>({ _tag: "Withdrawn" }))
      const calls = this.open[this.turn]
      if (calls !== undefined) return resume(Effect.succeed<Dialed>({ _tag: "Ready", calls }))
      const leave = this.waiters.add((dialed) => resume(Effect.succeed(dialed)))
      this.dial()
      return leave
    })
  }

  /** Dials, unless it is being dialed, for calls to come. */
  dial(): void {
    if (this.listed && !this.isDialing) this.dialOne()
  }

  /** The calls that wait for a connection, or for room on one, look for another endpoint. The dial goes on. */
  withdraw(): void {
    this.waiters.tellAll({ _tag: "Withdrawn" })
    this.room.wakeAll()
  }

  /**
   * The endpoint is listed, for the first time or again, maybe with other attributes. It must not be Gone. It dials
   * nothing, so that no code of a user's runs: {@link connect} follows.
   */
  list(endpoint: Endpoint): void {
    this.endpoint = endpoint
    // Most are, and there may be many.
    if (this.listed) return
    this.become("Listed")
    const again = this.links.filter((link) => link.list())
    this.refresh()
    // It may still be in backoff, if only draining connections are left.
    this.noteBackoff()
    for (const _ of again) this.log.debug("a draining connection is used again", "it is listed again")
  }

  /** The endpoint is listed no longer: no new calls; it goes as soon as it has none. */
  unlist(): void {
    if (!this.listed) return
    this.become("Unlisted")
    this.refresh()
    this.dialing.stop()
    for (const link of [...this.links]) link.unlist()
    this.leaveIfEmpty()
    this.waiters.tellAll({ _tag: "Withdrawn" })
    this.room.wake()
  }

  /** Ends everything: calls in flight and calls that wait fail as closed. */
  close(): void {
    if (this.membership === "Gone") return
    const links = [...this.links]
    if (this.listed) this.become("Unlisted")
    this.refresh()
    this.dialing.stop()
    this.leave("the Connection was closed")
    for (const link of links) link.close()
    this.waiters.tellAll({ _tag: "Closed" })
    this.room.wake()
  }

  onOpen(calls: LinkCalls): void {
    const { slowStartMillis } = this.settings
    if (slowStartMillis > 0 && !this.isOpen) this.warmAt = nowMillis(this.settings.clock) + slowStartMillis
    this.refresh()
    this.dialing.connected()
    this.trouble.connected()
    this.lastFailure = undefined
    this.log.debug("an endpoint is connected")
    this.waiters.tellAll({ _tag: "Ready", calls })
    this.room.wake()
    this.owner.onOpen(this)
  }

  onDialFailed(message: string, wasCutShort: boolean): void {
    this.lastFailure = message
    if (wasCutShort && this.dialing.repeat()) return this.dialAgain(message)
    const now = nowMillis(this.settings.clock)
    const isNews = this.trouble.dialFailed(now)
    this.dialing.failed(now)
    if (this.listed && !this.isOpen && !this.isDialing) this.owner.onFailed(this)
    this.noteBackoff()
    this.owner.onChange(this)
    if (isNews) this.log.warn("an endpoint could not be dialed", message)
    else this.log.debug("an endpoint could not be dialed", message)
    // Never at once: what fails at once would be dialed for ever in this turn.
    this.connect(1)
    this.settings.onTrouble()
    if (!this.isDialing) this.waiters.tellAll({ _tag: "Failed", message })
  }

  onLost(why: string): void {
    this.refresh()
    const now = nowMillis(this.settings.clock)
    this.lastFailure = why
    if (this.trouble.lost(now)) this.log.warn("a connection was lost", why)
    else this.log.debug("a connection was lost", why)
    this.noteBackoff()
    if (!this.isOpen) this.owner.onDown(this)
    this.connect(this.dialing.lost(now))
    this.settings.onTrouble()
  }

  onGoingAway(): void {
    const now = nowMillis(this.settings.clock)
    this.trouble.goesAway(now)
    this.log.debug("a connection drains", "its server goes away")
    this.refresh()
    this.noteBackoff()
    this.connect(this.dialing.lost(now))
    this.settings.onTrouble()
    // Calls need not wait for room on this connection any more.
    this.room.wake()
  }

  onGone(link: Link): void {
    this.links.splice(this.links.indexOf(link), 1)
    this.owner.onChange(this)
    this.leaveIfEmpty()
  }

  onBusy(): void {
    // Calls on other connections may have waited for long: only the first one begins the wait.
    if (this.callsOut === 0) this.latencies.begin(nowMillis(this.settings.clock))
  }

  onAnswered(): void {
    this.failuresInARow = 0
    this.owner.onAnswered(this)
  }

  onCallFailed(): void {
    this.failuresInARow++
    this.owner.onCallFailed(this)
  }

  hasRoom(): boolean {
    return this.open.some((calls) => calls.hasRoom())
  }

  /**
   * As {@link take}, where there may be several: the one with the fewest calls in flight, in turn among equals.
   * Otherwise all callers would wait for a process that is slow, or that has more of the connections than others. And
   * callers that are answered together would spread their next calls over many connections, each of which then has
   * little to send at a time.
   */
  private takeLeastBusy(): LinkCalls | undefined {
    if (this.open.length < this.size) this.dialMissing()
    const { open } = this
    let best: LinkCalls | undefined
    let fewest = Infinity
    let at = this.turn
    for (let left = open.length; left > 0 && fewest > 0; left--) {
      const calls = open[at]
      at = at + 1 < open.length ? at + 1 : 0
      if (calls === undefined || calls.inFlight >= fewest || !calls.hasRoom()) continue
      best = calls
      fewest = calls.inFlight
      this.turn = at
    }
    return best
  }

  /** Dials one missing connection, if another is open and there is no backoff. The next call dials the next one. */
  private dialMissing(): void {
    if (this.open.length === 0 || nowMillis(this.settings.clock) < this.dialing.backoffUntil) return
    this.dialOne()
  }

  /** Dials one connection that is missing, if any is. */
  private dialOne(): void {
    let link = this.links.find(({ state }) => state === "Idle")
    if (link === undefined) {
      // A connection whose server goes away takes no place.
      const staying = this.links.reduce((sum, { isGoingAway }) => isGoingAway ? sum : sum + 1, 0)
      if (staying >= this.size) return
      link = new Link(this.settings, this)
      this.links.push(link)
    }
    link.dial()
    this.owner.onChange(this)
  }

  /** Repeats a dial at once that was cut short. Calls that wait for it wait for the next. */
  private dialAgain(message: string): void {
    this.trouble.cutShort()
    this.log.debug("a dial was cut short, and is repeated", message)
    this.settings.onTrouble()
    if (this.listed && this.missing > 0) this.dialOne()
  }

  /** If connections are opened ahead of need, dials what is missing: after `least` ms, or after the backoff. */
  connect(least = 0): void {
    if (this.settings.eager && this.listed) this.dialing.whenDue(least, this.dialAll)
  }

  private readonly dialAll = (): void => {
    for (let { missing } = this; missing > 0 && this.listed; missing--) this.dialOne()
  }

  /** How many connections are neither open nor being dialed. */
  private get missing(): number {
    return this.size - this.links.filter(({ state }) => state === "Dialing" || state === "Active").length
  }

  /** Notes which connections are open. */
  private refresh(): void {
    this.open = this.listed ? this.links.flatMap(({ calls }) => calls ?? []) : none
    this.only = this.size === 1 ? this.open[0] : undefined
    if (this.turn >= this.open.length) this.turn = 0
    if (this.probes !== undefined) this.probe(this.probes)
    this.owner.onChange(this)
  }

  /** Probes the servers of open connections, and no others. */
  private probe(probes: Map<LinkCalls, HealthProbe>): void {
    const { health } = this.settings
    if (health === undefined) return
    for (const [calls, probe] of probes) {
      if (this.open.includes(calls)) continue
      probes.delete(calls)
      probe.stop()
    }
    for (const calls of this.open) {
      if (probes.has(calls)) continue
      probes.set(calls, new HealthProbe(calls.session, health, this.settings, () => this.owner.onHealth(this)))
    }
  }

  private noteBackoff(): void {
    if (this.listed && this.backoffUntil > nowMillis(this.settings.clock)) this.owner.onBackoff(this)
  }

  private leaveIfEmpty(): void {
    if (this.membership === "Unlisted" && this.links.length === 0) this.leave(notListed)
  }

  private leave(why: string): void {
    this.become("Gone")
    this.owner.onGone(this)
    this.log.debug("an endpoint is gone", why)
  }

  private become(membership: Membership): void {
    checkTransition("the membership of an endpoint", allowed, this.membership, membership)
    this.membership = membership
  }
}
