/**
 * Monotonic time in milliseconds, read from a `Clock`, and sleeping until a deadline. It does not know what is timed.
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"

// The default clock of fibers; `Context` makes it once and keeps it.
const live: Clock.Clock = Context.get(Context.empty(), Clock.Clock)

/**
 * The monotonic time of `clock` in milliseconds, with fractions. Only the difference between two readings of the same
 * clock has a meaning.
 *
 * Each call with a deadline reads it, and a `bigint` would cost about as much as the rest of the call's bookkeeping. So
 * the live clock is not asked for its nanoseconds: `performance.now()` is the same monotonic time as a plain number.
 */
export const nowMillis = (clock: Clock.Clock): number =>
  clock === live ? performance.now() : Number(clock.monotonicTimeNanosUnsafe()) / 1e6

/**
 * Ticks of 10 µs, modulo 2^31. They are small integers: a number with a fraction in the record of each call would cost
 * an allocation.
 */
const ticksPerMilli = 100
const tickMask = 0x7fff_ffff

/** A time in milliseconds as ticks. */
export const toTicks = (millis: number): number => Math.floor(millis * ticksPerMilli) % (tickMask + 1)

/** The time of `clock` in ticks. */
export const nowTicks = (clock: Clock.Clock): number => toTicks(nowMillis(clock))

/** The milliseconds between two moments in ticks that are less than six hours apart. */
export const millisBetween = (start: number, end: number): number => ((end - start) & tickMask) / ticksPerMilli

/** The seconds between two moments in ticks that are less than six hours apart. */
export const secondsBetween = (start: number, end: number): number =>
  ((end - start) & tickMask) / (ticksPerMilli * 1000)

/** At most this many readings in a row give the same time. */
const sharedReadings = 16

/**
 * A clock that is read once for events that happen together: a reading costs more than everything else in counting a
 * call. Its error is at most the time that passed during {@link sharedReadings} readings, or since the last `forget`.
 */
export class CoarseClock {
  private readonly clock: Clock.Clock
  private ticks = 0
  private left = 0

  constructor(clock: Clock.Clock) {
    this.clock = clock
  }

  /** The time in ticks, now or a moment ago. */
  now(): number {
    if (this.left-- > 0) return this.ticks
    this.left = sharedReadings - 1
    return this.ticks = nowTicks(this.clock)
  }

  /** The next event does not happen together with the last one: the clock is read again. */
  forget(): void {
    this.left = 0
  }
}

/**
 * Waits until the event loop has polled for input once more.
 *
 * Node runs timers before it polls: after a stall, a timer can fire although the answer has already arrived in the
 * kernel. The first immediate runs after the poll of the current turn, the second one after a whole turn.
 */
const polled: Effect.Effect<void> = Effect.callback<void>((resume) => {
  let immediate = setImmediate(() => {
    immediate = setImmediate(() => resume(Effect.void))
  })
  return Effect.sync(() => clearImmediate(immediate))
})

/**
 * Sleeps on `clock` until at least `millis` have passed, and all input that has arrived by then was read.
 */
export const sleepMillis = (clock: Clock.Clock, millis: number): Effect.Effect<void> =>
  clock === live
    // Timers drop fractions, and count from the start of the current millisecond: both make them fire too early.
    ? Effect.andThen(clock.sleep(Duration.millis(Math.ceil(millis) + 1)), polled)
    // A duration is rounded to nanoseconds: if it is rounded down, the fiber wakes too early, and sleeps again and
    // again for nothing.
    : clock.sleep(Duration.millis(Math.ceil(millis * 1e6) / 1e6))
