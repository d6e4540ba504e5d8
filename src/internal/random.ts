/**
 * Random numbers for waits between attempts. They must work even if the application's `Random` does not. It does not
 * know what waits.
 */
import type * as Random from "effect/Random"
import { attempt } from "./userError.ts"

/**
 * A number from 0 to 1, exclusive. It is 0.5 if a custom `Random` throws or gives another value.
 */
export const uniform = (random: typeof Random.Random.Service): number => {
  // Code without types may give any value.
  const drawn: unknown = attempt(() => random.nextDoubleUnsafe(), undefined)
  return typeof drawn === "number" && drawn >= 0 && drawn < 1 ? drawn : 0.5
}
