/**
 * A link: one of a client's connections to an endpoint, through all its states.
 *
 * It must not know calls, or why its endpoint is dialed: it tells its owner of its life only.
 *
 * ```
 *                 a call wants it            its version message
 *         ┌─────┐ ───────────────▶ ┌─────────┐ ───────────────▶ ┌────────┐
 *    ──▶  │ Idle│                  │ Dialing │                  │ Active │
 *         └─────┘ ◀─────────────── └─────────┘                  └────────┘
 *          │   ▲   failed                                         │    │ ▲
 *          │   │                                        lost      │    │ │ listed again, if
 *          │   └──────────────────────────────────────────────────┘    │ │ its server stays
 *          │ no longer listed       no longer listed, or going away    ▼ │
 *          ▼                                                     ┌──────────┐
 *        Gone  ◀──────────────────────────────────────────────── │ Draining │
 *                          its last call ended, or lost          └──────────┘
 * ```
 *
 * Invariants: it is one of its {@link LinkOwner}'s iff it is not Gone; it has a session iff it is Active or Draining;
 * it has a dial iff it is Dialing; its server goes away only if it is Draining.
 */
import * as Cause from "effect/Cause"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import { identity } from "effect/Function"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import type { Duplex } from "node:stream"
import type { DialError, Endpoint } from "../../Endpoint.ts"
import { effectOf, isolated } from "../guard.ts"
import { logged } from "../log.ts"
import { CurrentObstacles, Obstacles } from "../net/obstacles.ts"
import type { ClientMetrics, EndpointStats } from "../telemetry/metrics.ts"
import { checkTransition, type Transitions } from "../transitions.ts"
import { take } from "../transport/given.ts"
import { dialOf } from "../transport/onread.ts"
import { isReset, textOf } from "../userError.ts"
import type { CalledEndpoint } from "./call.ts"
import type { EndpointLog } from "./endpointLog.ts"
import { LinkCalls } from "./linkCalls.ts"
import { ClientSession, type SessionOwner, type SessionSettings } from "./session.ts"
import type { RoomWaiters } from "./waiters.ts"

/** The state of a link. */
export type LinkState = "Idle" | "Dialing" | "Active" | "Draining" | "Gone"

const allowed: Transitions<LinkState> = {
  Idle: ["Dialing", "Gone"],
  Dialing: ["Idle", "Active", "Gone"],
  Active: ["Idle", "Draining", "Gone"],
  Draining: ["Active", "Draining", "Gone"],
  Gone: []
}

/** What there is in each state. */
type Phase =
  | { readonly state: "Idle" | "Gone" }
  | { readonly state: "Dialing"; readonly dial: Dial }
  | { readonly state: "Active"; readonly calls: LinkCalls }
  /** `isGoingAway` says that its server goes away: it is never used again. */
  | { readonly state: "Draining"; readonly calls: LinkCalls; readonly isGoingAway: boolean }

const idle: Phase = { state: "Idle" }
const gone: Phase = { state: "Gone" }

/** What links of one client share. */
export interface LinkSettings extends SessionSettings {
  readonly dialTimeout: Duration.Duration
  /** Undefined if nothing is counted. */
  readonly metrics: ClientMetrics | undefined
  /** The Scope of everything that a link holds. */
  readonly scope: Scope.Scope
}

/** Hears of a link's life, and has what all connections to its endpoint have in common. */
export interface LinkOwner extends CalledEndpoint {
  /** The endpoint that is dialed. */
  readonly endpoint: Endpoint
  readonly log: EndpointLog
  /** The calls that wait for room on a connection. */
  readonly room: RoomWaiters
  /** A dial has succeeded: it is Active. */
  onOpen(calls: LinkCalls): void
  /**
   * A dial has failed: it is Idle again. `wasCutShort` says that the peer has ended the connection without a reason.
   */
  onDialFailed(message: string, wasCutShort: boolean): void
  /** Its connection was lost: it is Idle again, or Gone. */
  onLost(why: string): void
  /** Its server goes away: it is no longer Active. */
  onGoingAway(): void
  onGone(link: Link): void
}

/** Why a healthy endpoint is removed. */
export const notListed = "it is no longer listed"

/** Why a dial has failed. */
interface DialFailure {
  readonly message: string
  /**
   * Whether a peer was there, and has ended the connection before its version message: it may be one that goes away.
   */
  readonly wasCutShort: boolean
}

const failure = (message: string, wasCutShort = false): DialFailure => ({ message, wasCutShort })

interface Dial {
  fiber: Fiber.Fiber<void> | undefined
  /** Whether it was abandoned. That may happen while its fiber is being started. */
  abandoned: boolean
}

const isGoingAway = (phase: Phase): boolean => phase.state === "Draining" && phase.isGoingAway

/** One connection of a client to an endpoint, through all its states. */
export class Link {
  private readonly address: string
  private phase: Phase = idle
  /** The counters of its endpoint; undefined until the first dial. */
  private stats: EndpointStats | undefined = undefined
  private readonly settings: LinkSettings
  private readonly owner: LinkOwner

  constructor(settings: LinkSettings, owner: LinkOwner) {
    this.address = owner.endpoint.address
    this.settings = settings
    this.owner = owner
  }

  get state(): LinkState {
    return this.phase.state
  }

  /** The calls of its connection, where new ones may be sent: there iff it is Active. */
  get calls(): LinkCalls | undefined {
    return this.phase.state === "Active" ? this.phase.calls : undefined
  }

  /** Whether its server goes away: it is never used again. */
  get isGoingAway(): boolean {
    return isGoingAway(this.phase)
  }

  /** How many calls are in flight, without streams. */
  get callsInFlight(): number {
    return "calls" in this.phase ? this.phase.calls.callsInFlight : 0
  }

  /** How many streams are open. */
  get streams(): number {
    return "calls" in this.phase ? this.phase.calls.streams : 0
  }

  /** Dials. It must be Idle. The dial ends by itself, or when the link is unlisted or closed. */
  dial(): void {
    const dial: Dial = { fiber: undefined, abandoned: false }
    this.become({ state: "Dialing", dial })
    this.startDial(dial)
  }

  /** Its endpoint is listed again. Returns whether a draining connection is used again. */
  list(): boolean {
    const { phase } = this
    if (phase.state !== "Draining" || phase.isGoingAway) return false
    this.become({ state: "Active", calls: phase.calls })
    return true
  }

  /** Its endpoint is no longer listed: it gets no new calls, and is Gone as soon as none is in flight. */
  unlist(): void {
    const { phase } = this
    if (phase.state === "Active") {
      this.become({ state: "Draining", calls: phase.calls, isGoingAway: false })
      this.owner.log.debug("a connection drains", notListed)
      this.leaveIfIdle(phase.calls)
    } else if (phase.state !== "Draining") {
      this.leave()
    }
  }

  /** Ends everything: calls in flight fail as closed. */
  close(): void {
    const { phase } = this
    this.leave()
    if ("calls" in phase) phase.calls.session.close()
  }

  private startDial(dial: Dial): void {
    const { context, dialTimeout, metrics, scope } = this.settings
    this.stats ??= metrics?.endpoints.acquire(this.address, this)
    this.owner.log.debug("an endpoint is dialed")
    const obstacles = new Obstacles()
    // A fiber of its own, in no caller's context: the dial serves all who wait for it, and calls to come.
    const fiber = Effect.runForkWith(context)(
      Effect.uninterruptibleMask((restore) =>
        Effect.flatMap(Scope.fork(scope), (own) =>
          this.establish(dial, own).pipe(
            Effect.provideService(CurrentObstacles, obstacles),
            Effect.raceFirst(Effect.flatMap(Effect.sleep(dialTimeout), () => {
              const within = Duration.format(dialTimeout)
              const late = failure(`no connection and version message within ${within}${obstacles.text}`)
              // Before the dial is interrupted: its cleanup may take long, or never end.
              this.dialFailed(dial, Cause.fail(late))
              return Effect.fail(late)
            })),
            restore,
            Effect.catchDefect((defect) => {
              const line = Effect.annotateLogs(Effect.logDebug("a dial died", Cause.die(defect)), {
                endpoint: this.address
              })
              return Effect.andThen(logged(line), Effect.fail(failure(`dialing died: ${textOf(defect)}`)))
            }),
            Effect.exit,
            Effect.flatMap((exit) => {
              if (Exit.isSuccess(exit)) return Effect.void
              // Before its Scope is closed, for the same reason.
              this.dialFailed(dial, exit.cause)
              return this.release(own)
            })
          ))
      )
    )
    // The Connection's Scope waits for this fiber: an endpoint's `dial` may have finalizers.
    dial.fiber = Fiber.runIn(fiber, scope)
    if (dial.abandoned) fiber.interruptUnsafe()
  }

  /**
   * Dials, says our version and waits for the peer's. A session that is ready is ours before anything can interrupt.
   */
  private establish(dial: Dial, own: Scope.Closeable): Effect.Effect<void, DialFailure> {
    const endpoint = this.owner.endpoint
    const dialed = effectOf<Duplex, DialError, Scope.Scope>(
      `the dial of ${this.address}`,
      () => dialOf(endpoint)
    )
    return dialed.pipe(
      Scope.provide(own),
      Effect.mapError((error) => failure(this.withoutAddress(textOf(error)), isReset(error))),
      Effect.flatMap((duplex) =>
        Effect.callback<void, DialFailure>((resume) => {
          const wrong = take(duplex)
          if (wrong !== undefined) return resume(Effect.fail(failure(`the dial of ${this.address}: ${wrong}`)))
          const calls = this.callsOn(duplex, {
            onReady: () => {
              this.established(dial, calls)
              resume(Effect.void)
            },
            onGoingAway: () => this.goingAway(calls),
            onIdle: () => this.leaveIfIdle(calls),
            onOver: (why, inFlight) => {
              resume(Effect.fail(failure(why, calls.session.wasCutShort)))
              this.lost(calls, own, why, inFlight)
            }
          })
          calls.session.start()
          // Interrupted before the version came; after it, the callback is over and this does not run.
          return Effect.sync(() => calls.session.close())
        })
      )
    )
  }

  private callsOn(duplex: Duplex, life: SessionOwner): LinkCalls {
    const { owner, settings, stats } = this
    const session = new ClientSession(this.address, duplex, life, owner.room, settings, stats)
    return new LinkCalls(session, owner, owner.log, settings.clock, stats)
  }

  /** The message without its address: the error that lists such messages names the endpoint itself. */
  private withoutAddress(message: string): string {
    const prefix = `cannot dial ${this.address}: `
    return message.startsWith(prefix) ? message.slice(prefix.length) : message
  }

  private established(dial: Dial, calls: LinkCalls): void {
    // The dial was abandoned.
    if (!this.isDialedBy(dial)) return calls.session.close()
    this.become({ state: "Active", calls })
    this.owner.onOpen(calls)
  }

  private dialFailed(dial: Dial, cause: Cause.Cause<DialFailure>): void {
    if (!this.isDialedBy(dial)) return
    this.become(idle)
    if (this.stats !== undefined) this.stats.dialFailures++
    const { message, wasCutShort } = Option.getOrElse(
      Cause.findErrorOption(cause),
      () => failure("dialing was interrupted")
    )
    this.owner.onDialFailed(message, wasCutShort)
  }

  private goingAway(calls: LinkCalls): void {
    if (!this.has(calls)) return
    this.become({ state: "Draining", calls, isGoingAway: true })
    calls.goingAway()
    this.owner.onGoingAway()
    this.leaveIfIdle(calls)
  }

  private lost(calls: LinkCalls, own: Scope.Closeable, why: string, inFlight: number): void {
    calls.over()
    if (this.has(calls)) {
      const { isGoingAway, state } = this
      if (state === "Draining") this.leave()
      else this.become(idle)
      // A server that goes away may close the connection before we do: without calls in flight that is no loss.
      if (!isGoingAway || inFlight > 0) this.owner.onLost(why)
      if (inFlight > 0) this.owner.onCallFailed()
    }
    // The socket is destroyed by now; this lets the connection's Scope forget it.
    Effect.runForkWith(this.settings.context)(this.release(own))
  }

  /** Closes what a dial has opened. */
  private release(own: Scope.Closeable): Effect.Effect<void> {
    return Effect.catchCause(
      isolated(Scope.close(own, Exit.void), identity),
      (cause) => {
        const line = Effect.logError("what a dial had opened could not be closed", cause)
        return logged(Effect.annotateLogs(line, { endpoint: this.address }))
      }
    )
  }

  private leaveIfIdle(calls: LinkCalls): void {
    if (this.state !== "Draining" || !this.has(calls) || calls.inFlight > 0) return
    this.leave()
    calls.session.close()
  }

  private leave(): void {
    const { phase } = this
    if (phase.state === "Gone") return
    this.become(gone)
    if (phase.state === "Dialing") {
      phase.dial.abandoned = true
      phase.dial.fiber?.interruptUnsafe()
    }
    if (this.stats !== undefined) this.settings.metrics?.endpoints.release(this.stats, this)
    this.owner.onGone(this)
  }

  private isDialedBy(dial: Dial): boolean {
    return this.phase.state === "Dialing" && this.phase.dial === dial
  }

  private has(calls: LinkCalls): boolean {
    return "calls" in this.phase && this.phase.calls === calls
  }

  private become(phase: Phase): void {
    checkTransition("a link", allowed, this.phase.state, phase.state)
    if ("calls" in phase && phase.calls.session.isGoingAway !== isGoingAway(phase)) {
      throw new Error(`a link is ${phase.state}, but its server ${isGoingAway(phase) ? "stays" : "goes away"}`)
    }
    this.phase = phase
  }
}
