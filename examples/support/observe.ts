/**
 * Observations: what a program claims to show is checked, and what was not seen is named at the end.
 */
import { Cause, Console, Effect } from "effect"

class NotObserved extends Error {
  override readonly name = "NotObserved"
}

export const makeObserver = () => {
  const missed: Array<string> = []
  return {
    /**
     * Runs `seen`, which tells what it saw, or fails or dies where that was something else; after `limit` it has seen
     * nothing.
     */
    observe: <E, R>(what: string, seen: Effect.Effect<string, E, R>): Effect.Effect<void, never, R> =>
      seen.pipe(
        Effect.timeout("6 seconds"),
        Effect.matchCauseEffect({
          onSuccess: (details) => Console.log(`✓ ${what}\n    ${details}`),
          onFailure: (cause) => {
            missed.push(what)
            return Console.log(`✗ ${what}\n    ${Cause.pretty(cause)}`)
          }
        })
      ),

    /** Fails where something was missed. */
    verdict: Effect.suspend(() =>
      missed.length === 0
        ? Console.log("everything was observed")
        : Effect.fail(new NotObserved(`not observed: ${missed.join("; ")}`))
    )
  }
}
