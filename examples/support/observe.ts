/**
 * Checks the claims of an example, and reports at the end which of them were not observed.
 */
import { Cause, Console, Effect } from "effect"

class NotObserved extends Error {
  override readonly name = "NotObserved"
}

export const makeObserver = () => {
  const missed: Array<string> = []
  return {
    /**
     * Runs `seen` to check one claim, and prints the result. `seen` succeeds with details of what it observed. If it
     * fails, dies, or takes more than six seconds, the claim counts as not observed.
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

    /** Fails if a claim was not observed. */
    verdict: Effect.suspend(() =>
      missed.length === 0
        ? Console.log("everything was observed")
        : Effect.fail(new NotObserved(`not observed: ${missed.join("; ")}`))
    )
  }
}
