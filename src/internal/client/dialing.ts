/**
 * When an endpoint is dialed again: its backoff, dials that are repeated at once, and connections that are lost again
 * and again.
 *
 * It must not know connections or calls. Its pool tells it what has happened, and asks it how long to wait.
 *
 * Backoff is not Effect's Schedule: it belongs to the endpoint and not to one effect that is repeated, and it is read
 * with every call.
 */
import type * as Clock from "effect/Clock"
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import type * as Scope from "effect/Scope"
import { nowMillis, sleepMillis } from "../time/clock.ts"
import { checkTransition, type Transitions } from "../transitions.ts"

/** How long an endpoint is in backoff, in milliseconds. */
export interface BackoffTimes {
  readonly initial: number
  readonly factor: number
  readonly max: number
  readonly jitter: number
}

export interface DialingSettings {
  readonly clock: Clock.Clock
  readonly context: Context.Context<never>
  readonly scope: Scope.Scope
  readonly backoff: BackoffTimes
  /** A number from 0 to 1. */
  readonly random: () => number
}

/**
 * ```
 *                  a dial fails                      ┌──┐ another fails when the
 *       ┌───────┐ ──────────────────────▶ ┌─────────┐   │ backoff is over: a longer one
 *  ───▶ │ Sound │                         │ Failing │ ◀─┘
 *       └───────┘ ◀────────────────────── └─────────┘
 *          │  ▲         it connects
 *          └──┘ a dial is cut short, and repeated at once
 * ```
 * In `Failing` there is a backoff, until a time which may have come. Dials that were under way together and fail
 * together are one failure. Invariants: failures are counted iff it is `Failing`; there is no time in `Sound`; a dial
 * is repeated only in `Sound`, and once for each connection at most.
 */
export type DialingState = "Sound" | "Failing"

const allowed: Transitions<DialingState> = {
  Sound: ["Sound", "Failing"],
  Failing: ["Sound", "Failing"]
}

/** Connections that are lost within so many milliseconds are lost together, as they are when a server goes. */
export const lostTogether = 1000

/** When one endpoint is dialed again: its backoff, repeated dials and lost connections. */
export class Dialing {
  private readonly settings: DialingSettings
  /** How many connections there should be. */
  private readonly size: number
  private current: DialingState = "Sound"
  /** Until when no more is dialed, in milliseconds of the clock; 0 in `Sound`. */
  private until = 0
  /** How many dials have failed since it was last connected, not counting those within a backoff. */
  private failures = 0
  /** How many dials were repeated at once since it was last connected. */
  private repeats = 0
  /** How many connections were lost of late, or went away, and since when that is counted. */
  private losses = 0
  private lossesSince = -Infinity
  /** The fiber that waits for the next dial; undefined where none waits. */
  private redial: Fiber.Fiber<void> | undefined = undefined

  constructor(settings: DialingSettings, size: number) {
    this.settings = settings
    this.size = size
  }

  get state(): DialingState {
    return this.current
  }

  /**
   * Until when it is in backoff unless it is connected or being dialed, in milliseconds of the clock; 0 if it is not.
   */
  get backoffUntil(): number {
    return this.until
  }

  /** A connection is open. */
  connected(): void {
    this.transition("Sound", 0, 0, 0)
  }

  /**
   * A dial was cut short. A server that goes away does that to a client that connects to it just then, while others
   * that share its address take the next dial, or the one that is started in its place. Nothing was sent, so calls that
   * wait for it can wait for another. Returns whether to repeat it: a peer that closes every connection must not be
   * dialed for ever.
   */
  repeat(): boolean {
    if (this.current !== "Sound" || this.repeats >= this.size) return false
    this.transition("Sound", 0, 0, this.repeats + 1)
    return true
  }

  /** A dial has failed. */
  failed(now: number): void {
    if (this.until > now) return
    const { backoff: { factor, initial, jitter, max }, random } = this.settings
    const jittered = 1 + jitter * (2 * random() - 1)
    // Capped before the jitter, so that the longest waits differ too, and after it, so that the cap holds.
    const wait = Math.min(max, Math.min(max, initial * factor ** this.failures) * jittered)
    this.transition("Failing", now + wait, this.failures + 1, this.repeats)
  }

  /**
   * A connection was lost, or goes away. Returns how many milliseconds to wait before it is dialed again: none, unless
   * this has happened again and again, since a server may close each connection as soon as it is open.
   */
  lost(now: number): number {
    if (now - this.lossesSince >= lostTogether) {
      this.lossesSince = now
      this.losses = 0
    }
    this.losses++
    return this.losses > this.size ? this.lossesSince + lostTogether - now : 0
  }

  /** Runs `dial` when the backoff is over, and at the earliest after `least` milliseconds: at once if that is now. */
  whenDue(least: number, dial: () => void): void {
    const { clock, context, scope } = this.settings
    const wait = Math.max(least, this.until - nowMillis(clock))
    if (wait <= 0) return dial()
    if (this.redial !== undefined) return
    const later = Effect.andThen(
      sleepMillis(clock, wait),
      Effect.sync(() => {
        this.redial = undefined
        // What has failed meanwhile has made the backoff longer.
        this.whenDue(0, dial)
      })
    )
    this.redial = Fiber.runIn(Effect.runForkWith(context)(later), scope)
  }

  /** No more dials are started by it. */
  stop(): void {
    this.redial?.interruptUnsafe()
    this.redial = undefined
  }

  private transition(state: DialingState, until: number, failures: number, repeats: number): void {
    checkTransition("the dialing of an endpoint", allowed, this.current, state)
    const isFailing = state === "Failing"
    if (isFailing !== (failures > 0) || (!isFailing && until !== 0) || repeats > this.size) {
      throw new Error(`dialing: ${state} until ${until} after ${failures} failures and ${repeats} repeats`)
    }
    this.current = state
    this.until = until
    this.failures = failures
    this.repeats = repeats
  }
}
