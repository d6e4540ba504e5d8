/**
 * Checks values from user code at the place where they enter: user code may throw, or give a value that does not have
 * its type.
 */
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import { format } from "effect/Formatter"
import { isPromise } from "node:util/types"
import { attempt, clip } from "./userError.ts"

/** An error shows at most this many characters of an unexpected value. */
const maxShownLength = 200

/** A value in the text of an error. It does not throw, whatever the value. */
export const shown = (value: unknown): string => clip(attempt(() => textOf(value), `a ${typeof value}`), maxShownLength)

/** Long values are cut before they become text: they may be megabytes long. */
const textOf = (value: unknown): string => {
  if (Effect.isEffect(value)) return "an Effect, which has to be run first"
  if (ArrayBuffer.isView(value)) return `a ${value.constructor.name} of ${value.byteLength} bytes`
  return format(typeof value === "string" ? clip(value, maxShownLength) : value)
}

/**
 * The effect that user code gives. If the code throws, or gives no effect, the result is an effect that dies with an
 * error that says so. `what` names the effect in that error, such as `the dial of tcp://localhost:80`.
 */
export const effectOf = <A, E, R>(what: string, give: () => Effect.Effect<A, E, R>): Effect.Effect<A, E, R> => {
  try {
    return asEffect(what, give())
  } catch (defect) {
    return Effect.die(defect)
  }
}

/** Checks, as {@link effectOf} does, a value that user code gave as an effect. */
export const asEffect = <A, E, R>(what: string, given: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> => {
  // Without `attempt`, which would cost a closure: this runs for each call's handler.
  try {
    // Code without types may give any value.
    if (Effect.isEffect(given)) return given
  } catch {
    // A proxy may throw.
  }
  return Effect.die(notAnEffect(what, given))
}

/**
 * Runs a user's effect in its own fiber, for fibers of this package that hold a resource. If an effect continues with a
 * value that is no effect (such as the result of a function that forgot its `return`), Effect ends the fiber at once
 * and runs none of its finalizers. That must not happen to the fiber that holds the resource.
 *
 * `restore` comes from the caller's uninterruptible region: only the wait for the effect can be interrupted, and its
 * result is not lost.
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

/** The defect for a value from user code that is no effect. */
export const notAnEffect = (what: string, given: unknown): TypeError => unexpected(what, "an Effect", given)

/** The defect for an unexpected value from user code. The value is not used. */
export const unexpected = (what: string, expected: string, given: unknown): TypeError => {
  discard(given)
  return new TypeError(`${what}: expected ${expected}, got ${shown(given)}`)
}

/**
 * Drops a value that is not needed. If it is a promise (the result of an async function), its failure is caught: an
 * unhandled rejection would end the process.
 */
export const discard = (given: unknown): void => {
  if (isPromise(given)) attempt(() => void Promise.prototype.then.call(given, undefined, () => {}), undefined)
}
