/** A clock that a test makes itself. */
import { type Clock, Effect } from "effect"

/** A clock whose time in milliseconds is what is read, and on which nobody wakes. */
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
