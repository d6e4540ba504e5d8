/**
 * Numbers at random for what must go on whatever the application's `Random` does: waits between tries.
 */
import type * as Random from "effect/Random"
import { attempt } from "./userError.ts"

/**
 * A number from 0 to 1, exclusive; the one in the middle where a `Random` of a user's own throws, or gives something
 * else.
 */
export const uniform = (random: typeof Random.Random.Service): number => {
  const drawn = attempt(() => random.nextDoubleUnsafe(), Number.NaN)
  return drawn >= 0 && drawn < 1 ? drawn : 0.5
}
