/**
 * One timer for the earliest of many deadlines, driven by a `Clock`.
 */
import type * as Clock from "effect/Clock"
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import { nowMillis, sleepMillis } from "./clock.ts"

/**
 * Wakes at the earliest moment it was armed for. There is no tick: it sleeps once, and is set again for what is then
 * the earliest. A deadline that is settled before costs nothing more than a wake-up that finds nothing to do.
 */
export class DeadlineTimer {
  private readonly clock: Clock.Clock
  private readonly context: Context.Context<never>
  private readonly expire: (now: number) => number
  private at = Infinity
  private fiber: Fiber.Fiber<void> | undefined = undefined
  private stopped = false

  /** `expire` ends what is due at `now` and returns the earliest deadline that is left, or Infinity. */
  constructor(clock: Clock.Clock, context: Context.Context<never>, expire: (now: number) => number) {
    this.clock = clock
    this.context = context
    this.expire = expire
  }

  /** Makes sure that it wakes at `at`, in milliseconds of `nowMillis(clock)`, or before. */
  arm(at: number): void {
    if (at >= this.at || this.stopped) return
    this.fiber?.interruptUnsafe()
    this.at = at
    const fiber = Effect.runForkWith(this.context)(sleepMillis(this.clock, Math.max(0, at - nowMillis(this.clock))))
    this.fiber = fiber
    fiber.addObserver((exit) => {
      if (this.fiber !== fiber || exit._tag === "Failure") return
      this.fiber = undefined
      this.at = Infinity
      // A clock may say a little less than it was asked to sleep, by rounding.
      this.arm(this.expire(Math.max(at, nowMillis(this.clock))))
    })
  }

  /** Stops for good, also where what `expire` has ended is what stops it. */
  stop(): void {
    this.stopped = true
    const fiber = this.fiber
    this.fiber = undefined
    this.at = Infinity
    fiber?.interruptUnsafe()
  }
}
