/**
 * Loops over calls that are Effects.
 */
import { Effect, Fiber } from "effect"
import { checkLength, type Client } from "../system.ts"

/** One fiber for each caller. */
export const runEffects =
  <E>(call: (payload: Uint8Array) => Effect.Effect<Uint8Array, E>): Client["run"] => (job, meter) => {
    const loop = Effect.suspend(() => {
      let startedAt = performance.now()
      return Effect.whileLoop({
        while: () => !meter.isOver,
        body: () => call(job.payload),
        step: (answer) => {
          checkLength(answer.length, job)
          startedAt = meter.answered(startedAt)
        }
      })
    })
    const fibers = Array.from({ length: job.callers }, () => Effect.runFork(loop))
    return Effect.runPromise(Effect.asVoid(Fiber.joinAll(fibers)))
  }
