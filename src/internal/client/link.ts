/**
 * One of a client's connections to an endpoint, through all its states.
 *
 * ```
 *                 a call wants it            its version message
 *         ┌─────┐ ───────────────▶ ┌─────────┐ ───────────────▶ ┌────────┐
 *    ──▶  │ Idle│                  │ Dialing │                  │ Active │
 *         └─────┘ ◀─────────────── └─────────┘                  └────────┘
 *          │   ▲   failed                                         │    │ ▲
 *          │   │                                        lost      │    │ │ listed again, where
 *          │   └──────────────────────────────────────────────────┘    │ │ its server stays
 *          │ no longer listed       no longer listed, or going away    ▼ │
 *          ▼                                                     ┌──────────┐
 *        Gone  ◀──────────────────────────────────────────────── │ Draining │
 *                          its last call ended, or lost          └──────────┘
 * ```
 *
 * Invariants: it is one of its {@link PeerOwner}'s iff it is not Gone; it has a session iff it is Active or Draining; it has a dial iff it
 * is Dialing; calls are in flight only where it is Active or Draining; it is Draining while its endpoint is listed iff its server goes away.
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
import type { KeepAliveTimes } from "../session/keepAlive.ts"
import type { ClientMetrics, EndpointStats } from "../telemetry/metrics.ts"
import { capabilitiesOf } from "../transport/capabilities.ts"
import { take } from "../transport/given.ts"
import { dialOf } from "../transport/onread.ts"
import { isReset, textOf } from "../userError.ts"
import type { Call } from "./call.ts"
import type { Latency } from "./latency.ts"
import { ClientSession, type SessionSettings } from "./session.ts"

/** The state of a peer. */
export type PeerState = "Idle" | "Dialing" | "Active" | "Draining" | "Gone"

/** What peers of one client share. */
export interface PeerSettings extends SessionSettings {
  readonly dialTimeout: Duration.Duration
  /** Undefined where peers are not asked whether they are there. */
  readonly keepAlive: KeepAliveTimes | undefined
  /** Whether peers of the in-memory network are asked, too. */
  readonly keepAliveInMemory: boolean
  /** Undefined where nothing is to be counted. */
  readonly metrics: ClientMetrics | undefined
  /** The Scope of everything that a peer holds. */
  readonly scope: Scope.Scope
}

/** Whom a peer tells what happened, and who knows what all connections to its endpoint have in common. */
export interface PeerOwner {
  /** The endpoint that is dialed. */
  readonly endpoint: Endpoint
  /** What its answers take. */
  readonly latencies: Latency
  /** A dial has succeeded: it is Active. */
  onOpen(session: ClientSession): void
  /**
   * A dial has failed: it is Idle again. `wasCutShort` says that a peer was there, and has ended it without a reason.
   */
  onDialFailed(message: string, wasCutShort: boolean): void
  /** Its connection was lost: it is Idle again, or about to go. */
  onLost(why: string): void
  /** Its server goes away: it is no longer Active. */
  onGoingAway(): void
  onGone(peer: Peer): void
  /** There may be room for a call on its connection, or its connection is over. */
  onRoom(): void
  /** A call is about to be sent on its connection, on which none is in flight. */
  onBusy(): void
  /** A turn of the event loop in which calls were sent is over. */
  onFlush(): void
  onUnsent(call: Call, args: Uint8Array): void
  /** The server's contract of a method is another one, so that a call of it is to be made again. */
  onContractDiffers(call: Call): void
  /** A call was answered, after others had failed. */
  onAnswered(): void
  /** The time of a call was up, or a connection was lost under calls. */
  onCallFailed(): void
  log(level: "Debug" | "Warn", message: string, reason?: string): void
}

/** Why an endpoint goes that is healthy. */
export const notListed = "it is no longer listed"

/** What becomes of calls where contracts differ. */
const inJson = "calls of the method go in JSON on this connection"

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
  /** Whether it was called off, which may be while its fiber is only being started. */
  abandoned: boolean
}

export class Peer {
  /** The session that calls may be sent on: there iff Active. */
  session: ClientSession | undefined = undefined
  private readonly address: string
  /** What is counted of its endpoint; there once this has been dialed. */
  private stats: EndpointStats | undefined = undefined
  private current: Dial | undefined = undefined
  private draining: ClientSession | undefined = undefined
  /** Whether its server goes away: it is never used again. */
  isGoingAway = false
  private gone = false
  private readonly settings: PeerSettings
  private readonly owner: PeerOwner

  constructor(settings: PeerSettings, owner: PeerOwner) {
    this.address = owner.endpoint.address
    this.settings = settings
    this.owner = owner
  }

  get state(): PeerState {
    if (this.gone) return "Gone"
    if (this.session !== undefined) return "Active"
    if (this.draining !== undefined) return "Draining"
    return this.current !== undefined ? "Dialing" : "Idle"
  }

  get callsInFlight(): number {
    return (this.session ?? this.draining)?.callsInFlight ?? 0
  }

  /**
   * Dials. It must be Idle. The dial ends by itself, or when its endpoint is no longer listed or the Connection is
   * closed.
   */
  dial(): void {
    const dial: Dial = { fiber: undefined, abandoned: false }
    this.current = dial
    this.startDial(dial)
  }

  /** Its endpoint is listed again. Says whether a connection that was draining is used again. */
  list(): boolean {
    if (this.draining === undefined || this.isGoingAway) return false
    this.session = this.draining
    this.draining = undefined
    return true
  }

  /** Its endpoint is listed no longer: no new calls; it goes as soon as it has none. */
  unlist(): void {
    if (this.session !== undefined) {
      this.draining = this.session
      this.session = undefined
      this.owner.log("Debug", "a connection drains", notListed)
      this.leaveIfIdle()
    } else if (this.draining === undefined) {
      this.abandonDial()
      this.leave()
    }
  }

  /** Ends everything: calls in flight fail as closed. */
  close(): void {
    this.abandonDial()
    const session = this.session ?? this.draining
    this.leave()
    session?.close()
  }

  private startDial(dial: Dial): void {
    const { context, dialTimeout, metrics, scope } = this.settings
    // First: a logger may close the Connection, which lets go of what it has by then.
    this.stats ??= metrics?.endpoints.acquire(this.address, this)
    this.owner.log("Debug", "an endpoint is dialed")
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
              // Before it is interrupted: it may take its time to clean up, or never be done.
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
              // First, for the same reason.
              this.dialFailed(dial, exit.cause)
              return this.release(own)
            })
          ))
      )
    )
    // The Connection's Scope waits for it: an endpoint's `dial` may have something to clean up.
    dial.fiber = Fiber.runIn(fiber, scope)
    if (dial.abandoned) fiber.interruptUnsafe()
  }

  /** Dials, says our version and waits for the peer's. A session that is ready is ours before anything can interrupt. */
  private establish(dial: Dial, own: Scope.Closeable): Effect.Effect<void, DialFailure> {
    const endpoint = this.owner.endpoint
    const { keepAlive, keepAliveInMemory } = this.settings
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
          const session: ClientSession = new ClientSession(
            this.address,
            duplex,
            {
              onReady: () => {
                this.established(dial, session)
                resume(Effect.void)
              },
              onFlush: () => this.owner.onFlush(),
              onRoom: () => this.owner.onRoom(),
              onBusy: () => this.owner.onBusy(),
              onIdle: () => {
                if (this.draining === session) this.leaveIfIdle()
              },
              onGoingAway: () => this.goingAway(session),
              onOver: (why, calls) => {
                resume(Effect.fail(failure(why, session.wasCutShort)))
                this.lost(session, own, why, calls)
              },
              onUnsent: (call, args) => this.owner.onUnsent(call, args),
              onContractDiffers: (call, isNew) => {
                this.owner.onContractDiffers(call)
                if (isNew) {
                  this.owner.log("Warn", `client and server have different contracts of ${call.method}`, inJson)
                }
              },
              onAnswered: () => this.owner.onAnswered(),
              onCallFailed: () => this.owner.onCallFailed(),
              latencies: this.owner.latencies
            },
            this.settings,
            keepAliveInMemory || capabilitiesOf(duplex).mayVanish ? keepAlive : undefined,
            this.stats
          )
          session.start()
          // Interrupted before the version came; after it, the callback is over and this does not run.
          return Effect.sync(() => session.close())
        })
      )
    )
  }

  /** What reports a failure names the endpoint itself. */
  private withoutAddress(message: string): string {
    const prefix = `cannot dial ${this.address}: `
    return message.startsWith(prefix) ? message.slice(prefix.length) : message
  }

  private established(dial: Dial, session: ClientSession): void {
    // Nobody wants it any more.
    if (this.current !== dial) return session.close()
    this.current = undefined
    this.session = session
    this.owner.onOpen(session)
  }

  private dialFailed(dial: Dial, cause: Cause.Cause<DialFailure>): void {
    if (this.current !== dial) return
    this.current = undefined
    if (this.stats !== undefined) this.stats.dialFailures++
    const { message, wasCutShort } = Option.getOrElse(
      Cause.findErrorOption(cause),
      () => failure("dialing was interrupted")
    )
    this.owner.onDialFailed(message, wasCutShort)
  }

  private goingAway(session: ClientSession): void {
    if (this.session === session) {
      this.draining = session
      this.session = undefined
    } else if (this.draining !== session) {
      return
    }
    this.isGoingAway = true
    this.owner.onGoingAway()
    this.leaveIfIdle()
  }

  private lost(session: ClientSession, own: Scope.Closeable, why: string, calls: number): void {
    if (this.session === session) {
      this.session = undefined
      this.owner.onLost(why)
    } else if (this.draining === session) {
      // First: a logger that hears of the loss may call, and must not find this here to be dialed.
      this.leave()
      // One that goes away may be faster to close than we are.
      if (!this.isGoingAway || calls > 0) this.owner.onLost(why)
    }
    // The socket is destroyed by now; this lets the connection's Scope forget it.
    Effect.runForkWith(this.settings.context)(this.release(own))
  }

  /** Lets go of what a dial has opened. */
  private release(own: Scope.Closeable): Effect.Effect<void> {
    return Effect.catchCause(
      isolated(Scope.close(own, Exit.void), identity),
      (cause) => {
        const line = Effect.logError("what a dial had opened could not be closed", cause)
        return logged(Effect.annotateLogs(line, { endpoint: this.address }))
      }
    )
  }

  private abandonDial(): void {
    const dial = this.current
    if (dial === undefined) return
    this.current = undefined
    dial.abandoned = true
    dial.fiber?.interruptUnsafe()
  }

  private leaveIfIdle(): void {
    const session = this.draining
    if (session === undefined || session.callsInFlight > 0) return
    this.draining = undefined
    this.leave()
    session.close()
  }

  private leave(): void {
    if (this.gone) return
    this.gone = true
    this.session = undefined
    this.draining = undefined
    if (this.stats !== undefined) this.settings.metrics?.endpoints.release(this.stats, this)
    this.owner.onGone(this)
  }
}
