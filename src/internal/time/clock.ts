/**
 * Monotonic time in milliseconds, read from a `Clock`, and sleeping until a deadline.
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"

// What a fiber sees where nobody has provided another clock; `Context` makes it once and keeps it.
const live: Clock.Clock = Context.get(Context.empty(), Clock.Clock)

/**
 * The monotonic time of `clock` in milliseconds, with fractions. Only differences of two readings of one clock mean
 * anything.
 *
 * It is read for every call that has a deadline, and a `bigint` there costs about as much as the rest of the call's
 * bookkeeping. So the live clock is not asked for its nanoseconds: `performance.now()` is the same monotonic time as a
 * plain number.
 */
export const nowMillis = (clock: Clock.Clock): number =>
  clock === live ? performance.now() : Number(clock.monotonicTimeNanosUnsafe()) / 1e6

/**
 * Ticks of 10 µs, modulo 2^31: small integers, since a number with a fraction in each call's record costs an
 * allocation.
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

/** So many readings may be of the same moment. */
const sharedReadings = 16

/**
 * A clock that is read once for what happens together: a reading costs more than all the rest of counting a call. It is
 * off by no more than what came between {@link sharedReadings} readings, or since the last `forget`.
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

  /** What comes now does not happen together with what was before. */
  forget(): void {
    this.left = 0
  }
}

/**
 * Lets the event loop poll for input once more, in full.
 *
 * Node runs timers before it polls: after a stall, a timer can fire while the answer that it waited for is already in
 * the kernel. The first immediate runs after the poll of the turn that is under way, the second after one whole turn.
 */
const polled: Effect.Effect<void> = Effect.callback<void>((resume) => {
  let immediate = setImmediate(() => {
    immediate = setImmediate(() => resume(Effect.void))
  })
  return Effect.sync(() => clearImmediate(immediate))
})

/**
 * Sleeps on `clock` until `millis` have passed for certain, and what has come in by then has been seen.
 */
export const sleepMillis = (clock: Clock.Clock, millis: number): Effect.Effect<void> =>
  clock === live
    // Timers drop fractions and count from the start of the millisecond that is under way: either way too early.
    ? Effect.andThen(clock.sleep(Duration.millis(Math.ceil(millis) + 1)), polled)
    // A duration is rounded to nanoseconds: rounded down, the sleeper would wake before the time, and sleep for nothing
    // again and again.
    : clock.sleep(Duration.millis(Math.ceil(millis * 1e6) / 1e6))
