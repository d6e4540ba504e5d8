/**
 * One timer for the earliest of many deadlines, driven by a `Clock`. It does not know the calls.
 */
import type * as Clock from "effect/Clock"
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import { nowMillis, sleepMillis } from "./clock.ts"

/**
 * Wakes at the earliest time that it was armed for. It does not poll: it sleeps once, and is armed again for the
 * earliest remaining deadline. A call that ends before its deadline costs at most one wake-up without work.
 */
export class DeadlineTimer {
  private readonly clock: Clock.Clock
  private readonly context: Context.Context<never>
  private readonly expire: (now: number) => number
  private at = Infinity
  private fiber: Fiber.Fiber<void> | undefined = undefined
  private stopped = false

  /** `expire` ends the calls that are due at `now`, and returns the earliest remaining deadline, or Infinity. */
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
      // Because of rounding, slightly less time than requested may have passed on the clock.
      this.arm(this.expire(Math.max(at, nowMillis(this.clock))))
    })
  }

  /** Stops for good, even if it is called within `expire`. */
  stop(): void {
    this.stopped = true
    const fiber = this.fiber
    this.fiber = undefined
    this.at = Infinity
    fiber?.interruptUnsafe()
  }
}
