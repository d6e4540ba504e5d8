/** Waiting for what is soon going to be true. */
import { Effect } from "effect"
import { limits } from "./limits.ts"

/** Looks again and again until nothing is wrong any more, and gives what still is after so many ms. */
export const eventually = Effect.fnUntraced(function*<A, E>(wrong: Effect.Effect<A | undefined, E>, millis: number) {
  const until = performance.now() + millis
  while (true) {
    const found = yield* wrong
    if (found === undefined || performance.now() > until) return found
    yield* Effect.sleep(limits.poll)
  }
})
