/**
 * A client's connection to one endpoint, through all its states.
 *
 * ```
 *                 a call wants it            its version message
 *         ┌─────┐ ───────────────▶ ┌─────────┐ ───────────────▶ ┌────────┐
 *    ──▶  │ Idle│                  │ Dialing │                  │ Active │
 *         └─────┘ ◀─────────────── └─────────┘                  └────────┘
 *          │   ▲   failed (backoff),                              │    │ ▲
 *          │   │   or nobody waits                      lost      │    │ │ listed again
 *          │   └──────────────────────────────────────────────────┘    │ │
 *          │ no longer listed                       no longer listed   ▼ │
 *          ▼                                                     ┌──────────┐
 *        Gone  ◀──────────────────────────────────────────────── │ Draining │
 *                          its last call ended, or lost          └──────────┘
 * ```
 *
 * Invariants: it is in the client's table iff it is not Gone; it has a session iff it is Active or Draining; it has a dial, and somebody
 * waiting for it, iff it is Dialing; calls are in flight only where it is Active or Draining.
 */
import * as Cause from "effect/Cause"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import type { DialError, Endpoint } from "../../Endpoint.ts"
import type { ClientMetrics, EndpointStats } from "../telemetry/metrics.ts"
import { nowMillis } from "../time.ts"
import { dialOnread, isOnreadEndpoint } from "../transport/onread.ts"
import { OnreadReceiver } from "../transport/transport.ts"
import type { Call } from "./call.ts"
import { ClientSession, type SessionSettings } from "./session.ts"

/** How a dial may end for somebody who waits for it. */
export type Dialed =
  | { readonly _tag: "Ready"; readonly session: ClientSession }
  | { readonly _tag: "Failed"; readonly message: string }
  /** The endpoint is no longer listed: pick another. */
  | { readonly _tag: "Withdrawn" }
  | { readonly _tag: "Closed" }

/** The state of a peer. */
export type PeerState = "Idle" | "Dialing" | "Active" | "Draining" | "Gone"

/** What peers of one client share. */
export interface PeerSettings extends SessionSettings {
  readonly dialTimeout: Duration.Duration
  readonly backoff: { readonly initial: number; readonly factor: number; readonly max: number; readonly jitter: number }
  /** Undefined where nothing is to be counted. */
  readonly metrics: ClientMetrics | undefined
  /** A number from 0 to 1. */
  readonly random: () => number
  /** The Scope of everything that a peer holds. */
  readonly scope: Scope.Scope
}

/** Whom a peer tells what happened. */
export interface PeerOwner {
  /** It went into backoff. */
  onBackoff(peer: Peer): void
  onGone(peer: Peer): void
  /** A turn of the event loop in which calls were sent is over. */
  onFlush(): void
  onUnsent(peer: Peer, call: Call, args: Uint8Array): void
}

const notListed = "it is no longer listed"

interface Dial {
  readonly waiters: Set<(dialed: Dialed) => void>
  fiber: Fiber.Fiber<void> | undefined
  /** Whether it was called off, which may be while its fiber is only being started. */
  abandoned: boolean
}

export class Peer {
  readonly address: string
  /** The endpoint that is dialed: the latest one listed with this address. */
  endpoint: Endpoint
  /** The session that calls may be sent on: there iff Active. */
  session: ClientSession | undefined = undefined
  /** Whether the client's endpoints contain it. */
  listed = true
  /** Until when it is left alone, in milliseconds of the clock. */
  backoffUntil = 0
  /** Why it could not be dialed, or was lost, the last time; undefined since it last answered. */
  lastFailure: string | undefined = undefined
  /** What is counted of it; there once it has been dialed, since most of many endpoints may never be. */
  private stats: EndpointStats | undefined = undefined
  private failures = 0
  private dial: Dial | undefined = undefined
  private draining: ClientSession | undefined = undefined
  private gone = false
  private readonly settings: PeerSettings
  private readonly owner: PeerOwner

  constructor(endpoint: Endpoint, settings: PeerSettings, owner: PeerOwner) {
    this.address = endpoint.address
    this.endpoint = endpoint
    this.settings = settings
    this.owner = owner
  }

  get state(): PeerState {
    if (this.gone) return "Gone"
    if (this.session !== undefined) return "Active"
    if (this.draining !== undefined) return "Draining"
    return this.dial !== undefined ? "Dialing" : "Idle"
  }

  get callsInFlight(): number {
    return (this.session ?? this.draining)?.callsInFlight ?? 0
  }

  /** Waits for a session, dialing if nobody does. It does not fail, and whoever is interrupted no longer counts as waiting. */
  readonly acquire: Effect.Effect<Dialed> = Effect.callback<Dialed>((resume) => {
    if (this.gone) return resume(Effect.succeed<Dialed>({ _tag: "Withdrawn" }))
    if (this.session !== undefined) return resume(Effect.succeed<Dialed>({ _tag: "Ready", session: this.session }))
    const waiter = (dialed: Dialed) => resume(Effect.succeed(dialed))
    let dial = this.dial
    if (dial === undefined) {
      dial = this.dial = { waiters: new Set(), fiber: undefined, abandoned: false }
      dial.waiters.add(waiter)
      this.startDial(dial)
    } else {
      dial.waiters.add(waiter)
    }
    const joined = dial
    return Effect.sync(() => {
      joined.waiters.delete(waiter)
      if (joined.waiters.size > 0 || this.dial !== joined) return
      this.abandonDial()
      this.log("Debug", "a dial was given up", "nobody waits for it")
    })
  })

  /** The endpoint is listed (again). */
  list(endpoint: Endpoint): void {
    this.endpoint = endpoint
    this.listed = true
    if (this.draining !== undefined) {
      this.session = this.draining
      this.draining = undefined
      this.log("Debug", "a draining connection is used again", "it is listed again")
    }
  }

  /** The endpoint is listed no longer: no new calls; it goes as soon as it has none. */
  unlist(): void {
    this.listed = false
    if (this.dial !== undefined) {
      const { waiters } = this.dial
      this.abandonDial()
      this.leave(notListed)
      for (const tell of waiters) tell({ _tag: "Withdrawn" })
    } else if (this.session !== undefined) {
      this.draining = this.session
      this.session = undefined
      this.log("Debug", "a connection drains", notListed)
      this.leaveIfIdle()
    } else if (this.draining === undefined) {
      this.leave(notListed)
    }
  }

  /** Ends everything: calls in flight and waiting dials fail as closed. */
  close(): void {
    const dial = this.dial
    this.abandonDial()
    const session = this.session ?? this.draining
    this.leave("the Connection was closed")
    if (dial !== undefined) { for (const tell of dial.waiters) tell({ _tag: "Closed" }) }
    session?.close()
  }

  private startDial(dial: Dial): void {
    const { context, dialTimeout, metrics, scope } = this.settings
    // First: a logger may close the Connection, which lets go of what it has by then.
    this.stats ??= metrics?.endpoints.acquire(this.address, this)
    this.log("Debug", "an endpoint is dialed")
    // A fiber of its own, in no caller's context: the dial serves all who wait for it.
    const fiber = Effect.runForkWith(context)(
      Effect.uninterruptibleMask((restore) =>
        Effect.flatMap(Scope.fork(scope), (own) =>
          this.establish(dial, own).pipe(
            Effect.timeoutOrElse({
              duration: dialTimeout,
              orElse: () => Effect.fail(`no connection and version message within ${Duration.format(dialTimeout)}`)
            }),
            restore,
            Effect.catchDefect((defect) => Effect.fail(`dialing died: ${String(defect)}`)),
            Effect.exit,
            Effect.flatMap((exit) =>
              Exit.isSuccess(exit)
                ? Effect.void
                : Effect.andThen(
                  Scope.close(own, Exit.void),
                  Effect.sync(() => this.dialFailed(dial, exit.cause))
                )
            )
          ))
      )
    )
    // The Connection's Scope waits for it: an endpoint's `dial` may have something to clean up.
    dial.fiber = Fiber.runIn(fiber, scope)
    if (dial.abandoned) fiber.interruptUnsafe()
  }

  /** Dials, says our version and waits for the peer's. A session that is ready is ours before anything can interrupt. */
  private establish(dial: Dial, own: Scope.Closeable): Effect.Effect<void, string> {
    const endpoint = this.endpoint
    const receiver = isOnreadEndpoint(endpoint) ? new OnreadReceiver() : undefined
    const dialed = receiver !== undefined && isOnreadEndpoint(endpoint)
      ? endpoint[dialOnread](receiver.options)
      : endpoint.dial
    return dialed.pipe(
      Scope.provide(own),
      Effect.mapError((error: DialError) => this.withoutAddress(error.message)),
      Effect.flatMap((duplex) =>
        Effect.callback<void, string>((resume) => {
          const session: ClientSession = new ClientSession(
            this.address,
            duplex,
            {
              onReady: () => {
                this.established(dial, session)
                resume(Effect.void)
              },
              onFlush: () => this.owner.onFlush(),
              onIdle: () => {
                if (this.draining === session) this.leaveIfIdle()
              },
              onOver: (why) => {
                resume(Effect.fail(why))
                this.lost(session, own, why)
              },
              onUnsent: (call, args) => this.owner.onUnsent(this, call, args)
            },
            this.settings,
            this.stats
          )
          session.start(receiver)
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
    if (this.dial !== dial) return session.close()
    this.dial = undefined
    this.session = session
    this.failures = 0
    this.lastFailure = undefined
    this.log("Debug", "an endpoint is connected")
    for (const tell of dial.waiters) tell({ _tag: "Ready", session })
  }

  private dialFailed(dial: Dial, cause: Cause.Cause<string>): void {
    if (this.dial !== dial) return
    this.dial = undefined
    const message = Option.getOrElse(Cause.findErrorOption(cause), () => "dialing was interrupted")
    // One warning for as long as it is down: that it was lost, or that the first dial failed.
    const known = this.lastFailure !== undefined
    this.lastFailure = message
    const { factor, initial, jitter, max } = this.settings.backoff
    const jittered = 1 + jitter * (2 * this.settings.random() - 1)
    // Capped before the jitter, so that the longest waits differ too, and after it, so that the cap holds.
    const delay = Math.min(max, Math.min(max, initial * factor ** this.failures) * jittered)
    this.failures++
    if (this.stats !== undefined) this.stats.dialFailures++
    this.backoffUntil = nowMillis(this.settings.clock) + delay
    this.owner.onBackoff(this)
    this.log(known ? "Debug" : "Warn", "an endpoint could not be dialed", message)
    for (const tell of dial.waiters) tell({ _tag: "Failed", message })
  }

  private lost(session: ClientSession, own: Scope.Closeable, why: string): void {
    if (this.session === session) {
      this.session = undefined
      this.lastFailure = why
      this.log("Warn", "a connection was lost", why)
    } else if (this.draining === session) {
      this.draining = undefined
      this.log("Warn", "a connection was lost", why)
      this.leave(notListed)
    }
    // The socket is destroyed by now; this lets the connection's Scope forget it.
    Effect.runForkWith(this.settings.context)(Scope.close(own, Exit.void))
  }

  private abandonDial(): void {
    const dial = this.dial
    if (dial === undefined) return
    this.dial = undefined
    dial.abandoned = true
    dial.fiber?.interruptUnsafe()
  }

  private leaveIfIdle(): void {
    const session = this.draining
    if (session === undefined || session.callsInFlight > 0) return
    this.draining = undefined
    this.leave(notListed)
    session.close()
  }

  private leave(why: string): void {
    if (this.gone) return
    this.gone = true
    this.session = undefined
    this.draining = undefined
    if (this.stats !== undefined) this.settings.metrics?.endpoints.release(this.stats, this)
    this.owner.onGone(this)
    this.log("Debug", "an endpoint is gone", why)
  }

  /** Logs what has become of it, in no caller's context; never before it has, since a logger may call through this very Connection. */
  private log(level: "Debug" | "Warn", message: string, reason?: string): void {
    const annotations = reason === undefined ? { endpoint: this.address } : { endpoint: this.address, reason }
    Effect.runForkWith(this.settings.context)(Effect.annotateLogs(Effect.logWithLevel(level)(message), annotations))
  }
}
