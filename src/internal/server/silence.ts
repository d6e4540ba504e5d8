/**
 * Refuses a client that is silent for too long: that says nothing at first, that has vanished, or that does not go on
 * with a message.
 *
 * It must not know calls or streams, and it has no timer: its session looks at it when it has said so.
 */
import type * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import { KeepAlive, type KeepAliveTimes, type Watched } from "../session/keepAlive.ts"
import { StalledMessage } from "../session/stalledMessage.ts"
import type { ServerVersions } from "../session/versions.ts"
import type { Transport } from "../transport/transport.ts"

/** How long a client may be silent. */
export interface SilenceTimes {
  readonly clock: Clock.Clock
  readonly firstMessageMillis: number
  readonly messageTimeoutMillis: number
  readonly keepAlive: KeepAliveTimes | undefined
  /** Whether clients are probed also on connections whose peer cannot vanish without a word. */
  readonly probesAlways: boolean
}

/** Watches one client. */
export class Silence {
  private readonly times: SilenceTimes
  private readonly transport: Transport
  private readonly versions: ServerVersions
  private readonly stalled: StalledMessage
  /** Finds out whether a client that understands flags is still there. Undefined where it is never probed. */
  private readonly keepAlive: KeepAlive | undefined
  private startedAt = 0

  constructor(times: SilenceTimes, transport: Transport, versions: ServerVersions) {
    const { clock, keepAlive, messageTimeoutMillis, probesAlways } = times
    this.times = times
    this.transport = transport
    this.versions = versions
    this.stalled = new StalledMessage(messageTimeoutMillis)
    this.keepAlive = keepAlive === undefined || (!transport.capabilities.mayVanish && !probesAlways)
      ? undefined
      : new KeepAlive(clock, keepAlive, messageTimeoutMillis, transport.progress())
  }

  /** Whether the client is probed, so that it must be noted when bytes are read. */
  get probes(): boolean {
    return this.keepAlive !== undefined
  }

  /** The connection begins. Returns when to look, in milliseconds of the clock; so do the others. */
  start(now: number): number {
    this.startedAt = now
    // It is not known yet whether the client can be asked.
    if (this.keepAlive !== undefined) {
      const { interval, timeout } = this.keepAlive.times
      this.transport.keepAlive(interval, timeout)
    }
    return now + this.times.firstMessageMillis
  }

  /** The client has said that it understands flags: it can be asked from now on. */
  understood(now: number, peer: Watched): number {
    return this.keepAlive === undefined ? Infinity : this.keepAlive.start(now, peer)
  }

  /** A part of a message has come, or the client is read from again. */
  partial(now: number): number {
    return this.stalled.begin(now)
  }

  /** Refuses the client if its time is up. `isEnding` says that the connection ends, which has a time of its own. */
  expire(now: number, peer: Watched, isEnding: boolean): number {
    return Math.min(this.expireFirst(now), this.expirePeer(now, peer, isEnding), this.expirePartial(now, peer))
  }

  /** Refuses a client that has said nothing. */
  private expireFirst(now: number): number {
    const { times: { firstMessageMillis }, transport } = this
    if (this.versions.state !== "Silent" || transport.isOver) return Infinity
    const due = this.startedAt + firstMessageMillis
    if (now < due) return due
    transport.refuse(`no message within ${Duration.format(Duration.millis(firstMessageMillis))}`)
    return Infinity
  }

  /** Refuses a client that has vanished. */
  private expirePeer(now: number, peer: Watched, isEnding: boolean): number {
    const { keepAlive, transport } = this
    // Where the connection ends, nothing more can be said to the client.
    if (keepAlive === undefined || !this.versions.understands || isEnding || transport.isOver) return Infinity
    const next = keepAlive.look(now, peer)
    if (keepAlive.state === "Lost") {
      transport.refuse(
        `nothing for ${keepAlive.silence(now)}, and has not answered when it was asked whether it is there`
      )
    }
    return next
  }

  /** Refuses a client whose message does not become whole. */
  private expirePartial(now: number, { isDeaf }: Watched): number {
    const { stalled, transport } = this
    if (transport.isOver) return Infinity
    const next = stalled.look(now, transport.isPartial, !isDeaf)
    if (stalled.state === "Stalled") transport.refuse(stalled.problem)
    return next
  }
}
