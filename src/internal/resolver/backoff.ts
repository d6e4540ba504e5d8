/**
 * Waits between the attempts of work that is repeated until it succeeds. It knows no resolver.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Random from "effect/Random"
import * as Schedule from "effect/Schedule"
import { uniform } from "../random.ts"

export interface Backoff {
  readonly firstMillis: number
  readonly factor: number
  readonly longestMillis: number
  /** The largest part by which a wait is shortened at random, from 0 to 1. */
  readonly jitter: number
}

/**
 * Waits that grow from `firstMillis` by `factor` up to `longestMillis`, each of them shortened at random. It never
 * ends.
 */
export const backoff = (
  { factor, firstMillis, jitter, longestMillis }: Backoff
): Schedule.Schedule<Duration.Duration> =>
  Schedule.modifyDelay(
    Schedule.exponential(firstMillis, factor),
    ({ duration }) =>
      Effect.map(Random.Random, (random) =>
        Duration.millis(Math.min(longestMillis, Duration.toMillis(duration)) * (1 - jitter * uniform(random))))
  )
