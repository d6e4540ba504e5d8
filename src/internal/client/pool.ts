/**
 * A client's connections to one endpoint: a {@link Peer} for each, and what they have in common.
 *
 * What is wrong with an endpoint is wrong with all connections to it, so they share its backoff and its last failure.
 * Where one is open, calls go on those that are, and what is missing is dialed beside them, one as each call comes;
 * where none is, calls wait for a dial that they share. A dial goes on for the calls to come, also where those that
 * wait for it are given up: where calls have less time than a dial takes, none would ever be answered else. A pool is
 * in backoff iff it has no open connection, none is being dialed, and a dial has failed a moment ago.
 */
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import type { EndpointView } from "../../Balancer.ts"
import type { Endpoint } from "../../Endpoint.ts"
import { logIn } from "../log.ts"
import { nowMillis, sleepMillis } from "../time/clock.ts"
import type { Warnings } from "../warnings.ts"
import type { Call } from "./call.ts"
import { Latency } from "./latency.ts"
import { notListed, Peer, type PeerOwner, type PeerSettings, type PeerState } from "./link.ts"
import { HealthWatch } from "./probe.ts"
import type { ClientSession } from "./session.ts"

/** How waiting for a connection may end. */
export type Dialed =
  | { readonly _tag: "Ready"; readonly session: ClientSession }
  | { readonly _tag: "Failed"; readonly message: string }
  /** The endpoint is no longer listed, or another is connected by now: pick again. */
  | { readonly _tag: "Withdrawn" }
  | { readonly _tag: "Closed" }

/** What pools of one client share. */
export interface PoolSettings extends PeerSettings {
  readonly connectionsPerEndpoint: number
  /** Whether connections are opened before a call wants them. */
  readonly eager: boolean
  /** The component whose health servers are asked for; undefined where they are not. */
  readonly health: string | undefined
  /** How long an endpoint that has been connected gets fewer calls, in milliseconds. */
  readonly slowStartMillis: number
  readonly backoff: { readonly initial: number; readonly factor: number; readonly max: number; readonly jitter: number }
  /** For all that servers can cause. */
  readonly warnings: Warnings
  /** A number from 0 to 1. */
  readonly random: () => number
}

/** Whom a pool tells what happened. */
export interface PoolOwner {
  /** Its state, or what is wrong with it, is another. */
  onChange(pool: Pool): void
  /** It has a connection, and those who waited for one have gone on. */
  onOpen(pool: Pool): void
  /** Its servers say something else of their health. */
  onHealth(pool: Pool): void
  /** It could not be dialed, and those who wait for that are about to hear of it. */
  onFailed(pool: Pool): void
  /** It has no connection any more. */
  onDown(pool: Pool): void
  /** It went into backoff. */
  onBackoff(pool: Pool): void
  /** It could not be dialed, or a connection was lost or goes away: it may be listed no longer. */
  onTrouble(): void
  onGone(pool: Pool): void
  /** A turn of the event loop in which calls were sent is over. */
  onFlush(): void
  onUnsent(pool: Pool, call: Call, args: Uint8Array): void
  /** A server has refused a call, since its contract of the method is another one. */
  onContractDiffers(call: Call): void
  /** A call to it was answered, after others had failed. */
  onAnswered(pool: Pool): void
  /** A call to it has failed: its time was up, or its connection was lost. */
  onCallFailed(pool: Pool): void
}

const none: ReadonlyArray<never> = []

/** Connections that are lost within so many milliseconds are lost together, as they are when a server goes: one warning for all. */
const together = 1000

/** For so many milliseconds after a server has said that it goes away it is no news that it is not there: it may be started again. */
const absence = 10_000

/** An endpoint that starts slowly has at least this share of its weight. */
const leastShare = 0.1

export class Pool implements PeerOwner, EndpointView {
  readonly address: string
  /** The endpoint that is dialed: the latest one listed with this address. */
  endpoint: Endpoint
  /** Whether the client's endpoints contain it. */
  listed = true
  /** Why it could not be dialed, or was lost, the last time; undefined since it last answered. */
  lastFailure: string | undefined = undefined
  /** How many connections there are to be. */
  readonly size: number
  /** Made when they are first dialed, since most of many endpoints may never be. */
  private readonly peers: Array<Peer> = []
  /** The sessions that calls may be sent on; another array when they change. */
  private open: ReadonlyArray<ClientSession> = none
  /** The one of those, where there is to be no other: the usual case, in which a call need not look for one. */
  private only: ClientSession | undefined = undefined
  /** Whose turn it is of those, where they are equal. */
  private turn = 0
  /** The number of its last failed dial among those of all endpoints; 0 where it was connected since. */
  failureNumber = 0
  /** Until when no more is dialed, in milliseconds of the clock. */
  private restingUntil = 0
  private failures = 0
  /** How many dials were repeated at once, since they were cut short, since it was last connected. */
  private repeats = 0
  /** How many calls have failed since the last was answered; calls that were lost together count as one. */
  failuresInARow = 0
  /** Until when another loss is not worth a warning, in milliseconds of the clock. */
  private lossKnownUntil = 0
  /** Whether there was a warning that it is down, of which there is one for as long as it is; and until when it may be without one. */
  private isWarned = false
  private absentUntil = 0
  /** When it has its full weight, in milliseconds of the clock; 0 where it has. */
  private warmAt = 0
  /** What its answers take. */
  readonly latencies = new Latency()
  private gone = false
  /** What the servers of open connections say of their health; undefined where they are not asked. */
  private readonly watches: Map<ClientSession, HealthWatch> | undefined
  /** Dials when its backoff is over; there while it waits for that. */
  private redial: Fiber.Fiber<void> | undefined = undefined
  /** How many connections were lost of late, or went away, and since when that is counted, in milliseconds of the clock. */
  private losses = 0
  private lossesSince = -Infinity
  /** Those who wait for a dial; undefined where there are none. */
  private waiters: Set<(dialed: Dialed) => void> | undefined = undefined
  /** Those who wait for room on a connection, in their order; undefined where there have been none. */
  private roomWaiters: Set<() => void> | undefined = undefined
  private readonly settings: PoolSettings
  private readonly owner: PoolOwner

  constructor(endpoint: Endpoint, settings: PoolSettings, owner: PoolOwner) {
    this.address = endpoint.address
    this.endpoint = endpoint
    this.size = settings.connectionsPerEndpoint
    this.settings = settings
    this.owner = owner
    this.watches = settings.health === undefined ? undefined : new Map()
  }

  /** Active where any of its connections is. */
  get state(): PeerState {
    if (this.gone) return "Gone"
    if (this.open.length > 0) return "Active"
    if (this.isDialing) return "Dialing"
    return this.peers.some(({ state }) => state === "Draining") ? "Draining" : "Idle"
  }

  get callsInFlight(): number {
    return this.peers.reduce((sum, { callsInFlight }) => sum + callsInFlight, 0)
  }

  /** Read for each of some endpoints with every call: nothing is made here. */
  get callsPending(): number {
    return this.callsOut + (this.waiters?.size ?? 0) + (this.roomWaiters?.size ?? 0)
  }

  get latency(): number | undefined {
    return this.latencies.at(nowMillis(this.settings.clock), this.callsOut > 0)
  }

  /** The calls on connections that are open. */
  private get callsOut(): number {
    if (this.only !== undefined) return this.only.callsInFlight
    let out = 0
    for (const session of this.open) out += session.callsInFlight
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
    if (this.watches === undefined || this.open.length === 0) return true
    for (const watch of this.watches.values()) if (watch.isServing) return true
    return false
  }

  /** Until when it is left alone, in milliseconds of the clock; 0 where a connection is open, or being dialed. */
  get backoffUntil(): number {
    return this.restingUntil === 0 || this.open.length > 0 || this.isDialing ? 0 : this.restingUntil
  }

  private get isDialing(): boolean {
    return this.peers.some(({ state }) => state === "Dialing")
  }

  /** The session that a call is to be sent on, which has room for it; undefined where none has. What is missing is dialed. */
  take(): ClientSession | undefined {
    const { only } = this
    return only !== undefined && only.hasRoom() ? only : this.takeLeastBusy()
  }

  /**
   * Waits for a connection, dialing if nobody does. It does not fail. The dial goes on where whoever waits for it is
   * interrupted.
   */
  acquire(): Effect.Effect<Dialed> {
    return Effect.callback<Dialed>((resume) => {
      if (this.gone || !this.listed) return resume(Effect.succeed<Dialed>({ _tag: "Withdrawn" }))
      const session = this.open[this.turn]
      if (session !== undefined) return resume(Effect.succeed<Dialed>({ _tag: "Ready", session }))
      const waiter = (dialed: Dialed) => resume(Effect.succeed(dialed))
      const joined = this.waiters ??= new Set()
      joined.add(waiter)
      if (!this.isDialing) this.dialOne()
      return Effect.sync(() => joined.delete(waiter))
    })
  }

  /** Ends when a connection can take more, or none is open. Of those who wait only as many go on as there is room for. */
  whenRoom(): Effect.Effect<void> {
    return Effect.callback<void>((resume) => {
      if (this.open.length === 0 || this.hasRoom()) return resume(Effect.void)
      const waiters = this.roomWaiters ??= new Set()
      const wake = () => resume(Effect.void)
      waiters.add(wake)
      return Effect.sync(() => waiters.delete(wake))
    })
  }

  /** The endpoint is listed, for the first time or again, maybe with other attributes. */
  list(endpoint: Endpoint): void {
    this.endpoint = endpoint
    // Most are, and there may be many.
    if (this.listed) return this.connect()
    this.listed = true
    const again = this.peers.filter((peer) => peer.list())
    this.refresh()
    // It may still be, where all that it has left is a connection that drains.
    this.noteBackoff()
    // Calls may have failed since they drained.
    for (const session of this.open) session.isSuspect = this.failuresInARow > 0
    this.connect()
    for (const _ of again) this.log("Debug", "a draining connection is used again", "it is listed again")
  }

  /** The endpoint is listed no longer: no new calls; it goes as soon as it has none. */
  unlist(): void {
    if (!this.listed) return
    this.listed = false
    this.refresh()
    this.forgetRedial()
    for (const peer of [...this.peers]) peer.unlist()
    if (this.peers.length === 0) this.leave(notListed)
    this.tell({ _tag: "Withdrawn" })
    this.onRoom()
  }

  /** Ends everything: calls in flight and those that wait fail as closed. */
  close(): void {
    const peers = [...this.peers]
    this.listed = false
    this.refresh()
    this.forgetRedial()
    this.leave("the Connection was closed")
    for (const peer of peers) peer.close()
    this.tell({ _tag: "Closed" })
    this.onRoom()
  }

  onOpen(session: ClientSession): void {
    const { slowStartMillis } = this.settings
    if (slowStartMillis > 0 && !this.isOpen) this.warmAt = nowMillis(this.settings.clock) + slowStartMillis
    this.refresh()
    session.isSuspect = this.failuresInARow > 0
    this.failures = 0
    this.repeats = 0
    this.restingUntil = 0
    this.lastFailure = undefined
    this.isWarned = false
    this.absentUntil = 0
    this.lossKnownUntil = 0
    this.log("Debug", "an endpoint is connected")
    this.tell({ _tag: "Ready", session })
    this.onRoom()
    this.owner.onOpen(this)
  }

  /** Those who wait for a connection, or for room on one, look for another endpoint. The dial goes on. */
  letGo(): void {
    this.tell({ _tag: "Withdrawn" })
    const waiters = this.roomWaiters
    this.roomWaiters = undefined
    for (const wake of waiters ?? none) wake()
  }

  /** Dials, unless somebody does, for calls to come. */
  dial(): void {
    if (!this.gone && this.listed && !this.isDialing) this.dialOne()
  }

  onDialFailed(message: string, wasCutShort: boolean): void {
    this.lastFailure = message
    this.lossKnownUntil = 0
    if (wasCutShort && this.failures === 0 && this.repeats < this.size) return this.dialAgain(message)
    const now = nowMillis(this.settings.clock)
    const known = this.isWarned || now < this.absentUntil
    this.isWarned ||= !known
    // Dials that were underway together and fail together are one failure.
    if (this.restingUntil <= now) {
      const { factor, initial, jitter, max } = this.settings.backoff
      const jittered = 1 + jitter * (2 * this.settings.random() - 1)
      // Capped before the jitter, so that the longest waits differ too, and after it, so that the cap holds.
      this.restingUntil = now + Math.min(max, Math.min(max, initial * factor ** this.failures) * jittered)
      this.failures++
    }
    if (this.listed && !this.isOpen && !this.isDialing) this.owner.onFailed(this)
    this.noteBackoff()
    this.owner.onChange(this)
    // Never at once: what fails at once would be dialed for ever in this turn.
    this.connect(1)
    this.owner.onTrouble()
    this.log(known ? "Debug" : "Warn", "an endpoint could not be dialed", message)
    if (!this.isDialing) this.tell({ _tag: "Failed", message })
  }

  onLost(why: string): void {
    this.refresh()
    const now = nowMillis(this.settings.clock)
    const known = now < this.lossKnownUntil
    this.lossKnownUntil = now + together
    this.lastFailure = why
    this.isWarned = true
    this.noteBackoff()
    if (!this.isOpen) this.owner.onDown(this)
    this.connectAgain()
    this.owner.onTrouble()
    this.log(known ? "Debug" : "Warn", "a connection was lost", why)
  }

  onGoingAway(): void {
    this.absentUntil = nowMillis(this.settings.clock) + absence
    this.refresh()
    this.noteBackoff()
    this.connectAgain()
    this.owner.onTrouble()
    this.log("Debug", "a connection drains", "its server goes away")
    // Those who wait for room on it need not any more.
    this.onRoom()
  }

  onGone(peer: Peer): void {
    this.peers.splice(this.peers.indexOf(peer), 1)
    this.owner.onChange(this)
    if (this.peers.length === 0 && !this.listed) this.leave(notListed)
  }

  onRoom(): void {
    if (this.roomWaiters === undefined) return
    // One after the other, since each that goes on takes some of the room at once: to wake all would cost each drain a look at everybody.
    for (const wake of this.roomWaiters) {
      if (this.open.length > 0 && !this.hasRoom()) return
      this.roomWaiters.delete(wake)
      wake()
    }
  }

  onBusy(): void {
    // On another connection one may have waited for long.
    if (this.callsOut === 0) this.latencies.begin(nowMillis(this.settings.clock))
  }

  onFlush(): void {
    this.owner.onFlush()
  }

  onUnsent(call: Call, args: Uint8Array): void {
    this.owner.onUnsent(this, call, args)
  }

  onContractDiffers(call: Call): void {
    this.owner.onContractDiffers(call)
  }

  onAnswered(): void {
    this.failuresInARow = 0
    for (const session of this.open) session.isSuspect = false
    this.owner.onAnswered(this)
  }

  onCallFailed(): void {
    this.failuresInARow++
    for (const session of this.open) session.isSuspect = true
    this.owner.onCallFailed(this)
  }

  /** Logs what has become of it, in no caller's context; never before it has, since a logger may call through this very Connection. */
  log(level: "Debug" | "Warn", message: string, reason?: string): void {
    const others = level === "Warn" ? this.settings.warnings.next() : ""
    const annotations = reason === undefined ? { endpoint: this.address } : { endpoint: this.address, reason }
    const line = others === undefined ? Effect.logDebug(message) : Effect.logWithLevel(level)(`${message}${others}`)
    logIn(this.settings.context, Effect.annotateLogs(line, annotations))
  }

  /**
   * As {@link take}, where there may be several: the one with the fewest calls in flight, in turn among equals. A process that is slow, or has
   * more of the connections than others, would else be what all callers wait for; and callers that are answered together by one connection
   * would call over many, each of which then has little to send at a time.
   */
  private takeLeastBusy(): ClientSession | undefined {
    // First: a logger that hears of the dial may close the Connection.
    if (this.open.length < this.size) this.dialBeside()
    const { open } = this
    let best: ClientSession | undefined
    let fewest = Infinity
    let at = this.turn
    for (let left = open.length; left > 0 && fewest > 0; left--) {
      const session = open[at]
      at = at + 1 < open.length ? at + 1 : 0
      if (session === undefined || session.callsInFlight >= fewest || !session.hasRoom()) continue
      best = session
      fewest = session.callsInFlight
      this.turn = at
    }
    return best
  }

  /** Where a connection is open, dials one that is missing and has not failed just now; the next one has its turn with the next call. */
  private dialBeside(): void {
    if (this.open.length === 0 || nowMillis(this.settings.clock) < this.restingUntil) return
    this.dialOne()
  }

  /** Dials one connection that is missing, if any is. */
  private dialOne(): void {
    let peer = this.peers.find(({ state }) => state === "Idle")
    if (peer === undefined) {
      // What goes away takes nobody's place.
      if (this.peers.length - this.leavers >= this.size) return
      peer = new Peer(this.settings, this)
      this.peers.push(peer)
    }
    peer.dial()
    this.owner.onChange(this)
  }

  /**
   * A dial was cut short. A server that goes away does that to whoever connects to it just then, while others that
   * share its address take the next dial, or the one that is started in its place. Nothing was sent, so those who wait
   * for it wait for another. Once for each connection: a peer that closes every one must not be dialed for ever.
   */
  private dialAgain(message: string): void {
    this.repeats++
    this.owner.onTrouble()
    this.log("Debug", "a dial was cut short, and is repeated", message)
    // A logger may call, which dials, or close the Connection.
    if (this.listed && !this.gone && this.missing > 0) this.dialOne()
  }

  /** Where connections are opened ahead of need, dials those that are missing: now, or when the backoff is over. */
  private connect(least = 0): void {
    const { clock, context, eager, scope } = this.settings
    if (!eager || !this.listed || this.gone) return
    const wait = Math.max(least, this.restingUntil - nowMillis(clock))
    if (wait <= 0) {
      // A logger that hears of a dial may close the Connection.
      for (let missing = this.missing; missing > 0 && this.listed; missing--) this.dialOne()
    } else if (this.redial === undefined) {
      const fiber: Fiber.Fiber<void> = Fiber.runIn(
        Effect.runForkWith(context)(Effect.andThen(
          sleepMillis(clock, wait),
          Effect.sync(() => {
            this.redial = undefined
            this.connect()
          })
        )),
        scope
      )
      this.redial = fiber
    }
  }

  /** Where a connection is lost: at once, but not again and again, since a server may close each one as soon as it is open. */
  private connectAgain(): void {
    const now = nowMillis(this.settings.clock)
    if (now - this.lossesSince >= together) {
      this.lossesSince = now
      this.losses = 0
    }
    this.losses++
    this.connect(this.losses > this.size ? this.lossesSince + together - now : 0)
  }

  private forgetRedial(): void {
    this.redial?.interruptUnsafe()
    this.redial = undefined
  }

  /** How many connections are neither open nor being dialed. */
  private get missing(): number {
    const there = this.peers.filter(({ state }) => state === "Dialing" || state === "Active")
    return this.size - there.length
  }

  private get leavers(): number {
    return this.peers.reduce((sum, { isGoingAway }) => isGoingAway ? sum + 1 : sum, 0)
  }

  private hasRoom(): boolean {
    return this.open.some((session) => session.hasRoom())
  }

  /** Notes which sessions are open. */
  private refresh(): void {
    this.open = this.listed ? this.peers.flatMap(({ session }) => session ?? []) : none
    this.only = this.size === 1 ? this.open[0] : undefined
    if (this.turn >= this.open.length) this.turn = 0
    if (this.watches !== undefined) this.watch(this.watches)
    this.owner.onChange(this)
  }

  /** Asks the servers of open connections, and no others. */
  private watch(watches: Map<ClientSession, HealthWatch>): void {
    const { health } = this.settings
    if (health === undefined) return
    for (const [session, watch] of watches) {
      if (this.open.includes(session)) continue
      watches.delete(session)
      watch.stop()
    }
    for (const session of this.open) {
      if (watches.has(session)) continue
      watches.set(session, new HealthWatch(session, health, this.settings, () => this.owner.onHealth(this)))
    }
  }

  private noteBackoff(): void {
    if (this.listed && this.backoffUntil > nowMillis(this.settings.clock)) this.owner.onBackoff(this)
  }

  /** Those who wait for a connection need not any more. */
  private tell(dialed: Dialed): void {
    const waiters = this.waiters
    if (waiters === undefined) return
    this.waiters = undefined
    for (const tell of waiters) tell(dialed)
  }

  private leave(why: string): void {
    if (this.gone) return
    this.gone = true
    this.owner.onGone(this)
    this.log("Debug", "an endpoint is gone", why)
  }
}
