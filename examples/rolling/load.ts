/**
 * Callers that call without a pause worth the name, and who has answered them: in all, and lately.
 */
import { Duration, Effect, type Scope } from "effect"
import { type CallError, type Connection, MethodKey } from "effect-call"

const name = MethodKey.make("example/Worker", "name")

/** What is drawn of each moment. */
const width = 60
const moment = "250 millis"
/** Over how long a replica's share is measured, and how much of an equal one it has to have. */
const window = "100 millis"
const enough = 0.7

export interface Load {
  /** How many calls were answered, and how those failed that were not. */
  readonly answered: () => number
  readonly failures: ReadonlyArray<CallError.CallError>
  /** Waits until a replica, one of so many, has got its share of the calls; gives how long that took. */
  readonly share: (replica: string, replicas: number) => Effect.Effect<Duration.Duration>
}

/**
 * Lets `callers` call, and draws who answers: a line for each moment, in which each replica has as many letters as its
 * share of the calls.
 */
export const start = Effect.fnUntraced(function*(
  connection: Connection.Connection,
  callers: number,
  draw: (line: string) => Effect.Effect<void>
): Effect.fn.Return<Load, never, Scope.Scope> {
  const counts = new Map<string, number>()
  const failures: Array<CallError.CallError> = []
  const total = () => [...counts.values()].reduce((sum, count) => sum + count, 0)

  const call = connection.call(name, new Uint8Array(), { timeout: "5 seconds" }).pipe(
    Effect.match({
      onSuccess: (answer) => {
        const replica = new TextDecoder().decode(answer)
        counts.set(replica, (counts.get(replica) ?? 0) + 1)
      },
      onFailure: (error) => void failures.push(error)
    }),
    // Leaves the machine to the replicas.
    Effect.andThen(Effect.sleep("3 millis"))
  )
  yield* Effect.forkScoped(Effect.replicateEffect(Effect.forever(call), callers, { concurrency: "unbounded" }))

  const began = performance.now()
  let before = new Map<string, number>()
  const line = Effect.suspend(() => {
    const now = new Map(counts)
    const fresh = [...now].map(([replica, count]) => ({ replica, calls: count - (before.get(replica) ?? 0) }))
    before = now
    const sum = fresh.reduce((sum, { calls }) => sum + calls, 0)
    const bar = fresh.filter(({ calls }) => calls > 0).toSorted((a, b) => a.replica.localeCompare(b.replica))
      .map(({ calls, replica }) => replica.repeat(Math.round(calls / sum * width))).join("")
    const seconds = ((performance.now() - began) / 1000).toFixed(2).padStart(6)
    return draw(`${seconds} s  ${bar.padEnd(width + 2)} ${String(sum).padStart(5)} calls`)
  })
  yield* Effect.forkScoped(Effect.forever(Effect.delay(line, moment)))

  return {
    answered: total,
    failures,
    share: Effect.fnUntraced(function*(replica, replicas) {
      const since = performance.now()
      while (true) {
        const [its, all] = [counts.get(replica) ?? 0, total()]
        yield* Effect.sleep(window)
        if (((counts.get(replica) ?? 0) - its) * replicas >= (total() - all) * enough) {
          return Duration.millis(performance.now() - since)
        }
      }
    })
  }
})
