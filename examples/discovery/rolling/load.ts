/**
 * The load of the `rolling` example: callers that call almost without a pause. It counts the answers of each replica,
 * in total and for each short interval.
 */
import { Duration, Effect, Fiber, type Scope } from "effect"
import { type CallError, type Connection, MethodKey } from "effect-call"

const name = MethodKey.make("example/Worker", "name")

/** The width of a line of the chart, in letters, and the time that a line covers. */
const width = 60
const moment = "250 millis"
/** The time over which a replica's share is measured, and the part of an equal share that it must reach. */
const window = "100 millis"
const enough = 0.7

export interface Load {
  /** The number of calls that were answered, and the errors of those that failed. */
  readonly answered: () => number
  readonly failures: ReadonlyArray<CallError.CallError>
  /** Waits until a replica gets its share of the calls, as one of `replicas`. It returns how long that took. */
  readonly share: (replica: string, replicas: number) => Effect.Effect<Duration.Duration>
  /** Stops the callers and the chart. */
  readonly stop: Effect.Effect<void>
}

/**
 * Starts the callers, and draws a chart of who answers them. Each line covers a short interval. In a line, the number
 * of a replica's letters is proportional to its share of the calls.
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
    // A pause, so that the callers do not take the CPU from the replicas.
    Effect.andThen(Effect.sleep("10 millis"))
  )
  const calling = yield* Effect.forkScoped(
    Effect.replicateEffect(Effect.forever(call), callers, { concurrency: "unbounded" })
  )

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
  const drawing = yield* Effect.forkScoped(Effect.forever(Effect.delay(line, moment)))

  return {
    answered: total,
    failures,
    stop: Effect.asVoid(Fiber.interruptAll([drawing, calling])),
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
