/** Clocks that a test makes itself. */
import { type Clock, Duration, Effect } from "effect"

/** A clock whose time in milliseconds is what is read, and on which no sleeper wakes. */
export const clockThat = (read: () => number): Clock.Clock => {
  const nanos = () => BigInt(Math.round(read() * 1e6))
  return {
    currentTimeMillisUnsafe: read,
    currentTimeMillis: Effect.sync(read),
    currentTimeNanosUnsafe: nanos,
    currentTimeNanos: Effect.sync(nanos),
    monotonicTimeNanosUnsafe: nanos,
    monotonicTimeNanos: Effect.sync(nanos),
    sleep: () => Effect.never
  }
}

/** A clock that stands still until it is put forward. */
export interface HandClock extends Clock.Clock {
  /**
   * Lets that many milliseconds pass. Sleepers whose time comes are woken one after the other, and go on before this
   * returns.
   */
  readonly pass: (millis: number) => void
  /** How many sleep. */
  readonly sleepers: () => number
}

/** Unlike a TestClock it takes no turns of the event loop. */
export const handClock = (): HandClock => {
  interface Sleeper {
    readonly at: number
    readonly wake: () => void
  }
  let now = 0
  // In the order in which they wake: that of their times, and among equals that in which they went to sleep.
  const sleepers: Array<Sleeper> = []
  const sleep = (duration: Duration.Duration) =>
    Effect.callback<void>((resume) => {
      const at = now + Duration.toMillis(duration)
      if (at <= now) return resume(Effect.void)
      const sleeper = { at, wake: () => resume(Effect.void) }
      const later = sleepers.findIndex((other) => other.at > at)
      sleepers.splice(later === -1 ? sleepers.length : later, 0, sleeper)
      return Effect.sync(() => {
        const index = sleepers.indexOf(sleeper)
        if (index !== -1) sleepers.splice(index, 1)
      })
    })
  return Object.assign(clockThat(() => now), {
    sleep,
    pass: (millis: number) => {
      const until = now + millis
      while (true) {
        const first = sleepers[0]
        if (first === undefined || first.at > until) break
        sleepers.shift()
        now = first.at
        first.wake()
      }
      // One that was woken may have put it forward, too.
      now = Math.max(now, until)
    },
    sleepers: () => sleepers.length
  })
}
