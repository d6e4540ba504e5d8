/**
 * What a user's code hands us, checked where it enters: it may throw, or be other than its type says.
 */
import * as Effect from "effect/Effect"
import { format } from "effect/Formatter"
import { attempt, clip } from "./userError.ts"

/** How much of a value is shown where it is not what was expected. */
const maxShownLength = 200

/** A value in the text of an error. It does not throw, whatever the value. */
export const shown = (value: unknown): string => clip(attempt(() => format(value), `a ${typeof value}`), maxShownLength)

/**
 * The effect that a user's code gives. Where that code throws, or gives something else, it is an effect that dies and says so; `what` names
 * what was asked for, as in `the dial of tcp://localhost:80`.
 */
export const effectOf = <A, E, R>(what: string, give: () => Effect.Effect<A, E, R>): Effect.Effect<A, E, R> => {
  try {
    // Whatever its type says, it may be anything.
    const given: unknown = give()
    return Effect.isEffect(given)
      ? given as Effect.Effect<A, E, R>
      : Effect.die(new TypeError(`${what}: expected an Effect, got ${shown(given)}`))
  } catch (defect) {
    return Effect.die(defect)
  }
}
