/**
 * Runs calls while the TestClock moves. It is for tests whose calls are answered only after time has passed on several
 * sides, for example by a handler that sleeps or by a retry.
 */
import { type Duration, Effect, Fiber } from "effect"
import { TestClock } from "effect/testing"
import { setImmediate } from "node:timers/promises"

/** Enough turns of the event loop for the bytes of a call and of its answer to arrive. */
const turns = Effect.replicateEffect(Effect.promise(() => setImmediate()), 20, { discard: true })

/**
 * Runs an effect, and moves the TestClock in steps until the effect is done. Before each step, the bytes that were sent
 * can arrive.
 */
export const inTime = Effect.fnUntraced(function*<A, E, R>(
  effect: Effect.Effect<A, E, R>,
  step: Duration.Input = "10 millis"
) {
  const fiber = yield* Effect.forkChild(effect, { startImmediately: true })
  yield* turns
  while (fiber.pollUnsafe() === undefined) {
    yield* TestClock.adjust(step)
    yield* turns
  }
  return yield* Fiber.join(fiber)
})
