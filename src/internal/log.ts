/**
 * Logs of what a user's code failed with.
 */
import type * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import { readableCause } from "./userError.ts"

/**
 * A line with a cause, at the level of `log`. A logger that throws does not end who logs, nor does an error that throws when a logger reads it.
 */
export const logCause = (
  log: (...message: ReadonlyArray<unknown>) => Effect.Effect<void>,
  message: string,
  cause: Cause.Cause<unknown>
): Effect.Effect<void> => Effect.catchCause(Effect.suspend(() => log(message, readableCause(cause))), () => Effect.void)
