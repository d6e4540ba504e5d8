/**
 * One timer for the earliest of many deadlines, driven by a `Clock`.
 */
import type * as Clock from "effect/Clock"
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import { nowMillis, sleepMillis } from "./clock.ts"

/**
 * Wakes at the earliest time that it was armed for. There is no tick: it sleeps once, and is armed again for the
 * earliest deadline that is left. A call that ends before its deadline costs at most one wake-up with nothing to do.
 */
export class DeadlineTimer {
  private readonly clock: Clock.Clock
  private readonly context: Context.Context<never>
  private readonly expire: (now: number) => number
  private at = Infinity
  private fiber: Fiber.Fiber<void> | undefined = undefined
  private stopped = false

  /** `expire` ends the calls that are due at `now`, and returns the earliest deadline that is left, or Infinity. */
  constructor(clock: Clock.Clock, context: Context.Context<never>, expire: (now: number) => number) {
    this.clock = clock
    this.context = context
    this.expire = expire
  }

  /** Makes sure that it wakes at `at` (in milliseconds of `nowMillis(clock)`) or earlier. */
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
      // By rounding, a clock may say a little less than it was asked to sleep.
      this.arm(this.expire(Math.max(at, nowMillis(this.clock))))
    })
  }

  /** Stops for good, also if it is called from within `expire`. */
  stop(): void {
    this.stopped = true
    const fiber = this.fiber
    this.fiber = undefined
    this.at = Infinity
    fiber?.interruptUnsafe()
  }
}
