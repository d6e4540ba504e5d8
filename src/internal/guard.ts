/**
 * What a user's code hands us, checked where it enters: it may throw, or be other than its type says.
 */
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import { format } from "effect/Formatter"
import { isPromise } from "node:util/types"
import { attempt, clip } from "./userError.ts"

/** How much of a value is shown where it is not what was expected. */
const maxShownLength = 200

/** A value in the text of an error. It does not throw, whatever the value. */
export const shown = (value: unknown): string => clip(attempt(() => textOf(value), `a ${typeof value}`), maxShownLength)

/** What would be long is cut first, or not made into a text: it may be any number of megabytes. */
const textOf = (value: unknown): string => {
  if (Effect.isEffect(value)) return "an Effect, which has to be run first"
  if (ArrayBuffer.isView(value)) return `a ${value.constructor.name} of ${value.byteLength} bytes`
  return format(typeof value === "string" ? clip(value, maxShownLength) : value)
}

/**
 * The effect that a user's code gives. Where that code throws, or gives something else, it is an effect that dies and
 * says so; `what` names what was asked for, as in `the dial of tcp://localhost:80`.
 */
export const effectOf = <A, E, R>(what: string, give: () => Effect.Effect<A, E, R>): Effect.Effect<A, E, R> => {
  try {
    return asEffect(what, give())
  } catch (defect) {
    return Effect.die(defect)
  }
}

/** What a user's code has given where it was asked for an effect, as {@link effectOf} has it. */
export const asEffect = <A, E, R>(what: string, given: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> => {
  // Not by `attempt`: this is asked of each call's handler.
  try {
    // Whatever its type says, it may be anything.
    if (Effect.isEffect(given)) return given
  } catch {
    // A proxy.
  }
  return Effect.die(notAnEffect(what, given))
}

/**
 * Runs a user's effect in a fiber of its own, for fibers of ours that hold something. Where an effect goes on with what
 * is no effect, as of a function without its `return`, Effect ends the fiber on the spot, and none of its finalizers
 * runs.
 *
 * `restore` is of the caller's uninterruptible region: only who waits for the effect can be interrupted, and what it
 * has given is not lost.
 */
export const isolated = <A, E, R>(
  effect: Effect.Effect<A, E, R>,
  restore: <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>
): Effect.Effect<A, E, R> =>
  Effect.flatMap(Effect.forkChild(effect, { startImmediately: true }), (fiber) =>
    restore(Fiber.await(fiber)).pipe(
      Effect.onInterrupt(() => Fiber.interrupt(fiber)),
      Effect.exit,
      Effect.flatMap(() => fiber.pollUnsafe() ?? Effect.interrupt)
    ))

/** The defect of a user's code that was to give an effect. */
export const notAnEffect = (what: string, given: unknown): TypeError => unexpected(what, "an Effect", given)

/** The defect of a user's code that has given something else than was expected, which is not used. */
export const unexpected = (what: string, expected: string, given: unknown): TypeError => {
  discard(given)
  return new TypeError(`${what}: expected ${expected}, got ${shown(given)}`)
}

/**
 * Drops what nobody asked for. Where it is a promise, as of an async function, nobody waits for it: its failure would
 * end the process.
 */
export const discard = (given: unknown): void => {
  if (isPromise(given)) attempt(() => void Promise.prototype.then.call(given, undefined, () => {}), undefined)
}
