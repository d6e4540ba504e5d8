/**
 * Clients whose calls are Effects.
 */
import { Effect, Fiber } from "effect"
import { checkLength, type Client } from "../system.ts"

/**
 * One fiber for each caller. What has come back is read off the answer by plain code: an effect more would be the
 * benchmark's own.
 */
export const effectClient = <A, E>(
  call: (payload: Uint8Array) => Effect.Effect<A, E>,
  bytesOf: (answer: A) => Uint8Array
): Client => ({
  echo: (payload) => Effect.runPromise(call(payload)).then(bytesOf),
  run: (job, meter) => {
    const loop = Effect.suspend(() => {
      let startedAt = performance.now()
      return Effect.whileLoop({
        while: () => !meter.isOver,
        body: () => call(job.payload),
        step: (answer) => {
          checkLength(bytesOf(answer).length, job)
          startedAt = meter.answered(startedAt)
        }
      })
    })
    const fibers = Array.from({ length: job.callers }, () => Effect.runFork(loop))
    return Effect.runPromise(Effect.asVoid(Fiber.joinAll(fibers)))
  }
})
