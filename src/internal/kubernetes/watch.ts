/**
 * Follows the EndpointSlices of a Service: lists them, watches for changes, and starts again when a watch ends. It does
 * not know how the API is asked, nor what the slices are for.
 */
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import * as Schedule from "effect/Schedule"
import * as Stream from "effect/Stream"
import { logged } from "../log.ts"
import { backoff } from "../resolver/backoff.ts"
import { nowMillis } from "../time/clock.ts"
import type { Api, Event } from "./api.ts"
import type { Failure } from "./failure.ts"
import type { Slice } from "./slices.ts"

const longestWait = 30_000

/** The waits after a list or a watch that was of no use. */
const waits = backoff({ firstMillis: 500, factor: 2, longestMillis: longestWait, jitter: 0.5 })

/**
 * A watch that ends sooner than this, and without an event, was of no use: the same cause would end the next one, too.
 * Any other watch was useful, however it ends: a proxy or load balancer cuts idle connections, and a server ends each
 * watch after a while.
 */
const shortestWatch = 1000

/** The receiver of the slices. */
export interface Audience {
  /** The slices are known, or have changed. */
  readonly slices: (slices: ReadonlyMap<string, Slice>) => Effect.Effect<void>
  /** The slices could not be read. Another attempt follows. */
  readonly failed: (failure: Failure) => Effect.Effect<void>
  /** From now on changes are received. */
  readonly watching: Effect.Effect<void>
}

const tooManyRequests = 429

/** Whether the slices must be listed again after a failure. If no answer came, or it was cut, they need not be. */
const needsList = ({ kind, status }: Failure): boolean =>
  kind === "Expired" || kind === "Garbled" || (kind === "Refused" && status !== tooManyRequests)

/**
 * Never ends.
 *
 *     ┌─▶ list ── listed ──▶ watch ◀── at once: a useful watch has ended or was cut
 *     │    │ failed            │
 *     │    ▼                   ▼
 *     │   wait                wait ── no answer, cut, or too many requests ──▶ watch
 *     └────┴───────────────────┴── another refusal, garbled, or the version is too old
 */
export const follow = Effect.fnUntraced(function*(api: Api, audience: Audience): Effect.fn.Return<never> {
  const clock = yield* Clock.Clock
  let slices: ReadonlyMap<string, Slice> = new Map()
  /** The version of the known slices; undefined if they must be listed. */
  let position: string | undefined
  /** Whether the last watch has brought an event, and when it began. */
  let hasEvents = false
  let since = Infinity
  /**
   * Whether the watch after a short one began at once. The next watch then waits. Otherwise a server that ends each
   * watch after an event would be asked all the time.
   */
  let isHurried = false
  /** Whether a version was too old since the last useful watch. If so, a second list would not help. */
  let hasExpired = false
  let nextWait = yield* Schedule.toStep(waits)

  const list = Effect.gen(function*() {
    const listed = yield* api.list
    slices = new Map(listed.slices.map((slice) => [slice.metadata.name, slice]))
    position = listed.resourceVersion
    yield* audience.slices(slices)
  })

  /** Applies events that came together, as one change. */
  const apply = Effect.fnUntraced(function*(events: ReadonlyArray<Result.Result<Event, Failure>>) {
    const next = new Map(slices)
    let changed = false
    let failure: Failure | undefined
    for (const result of events) {
      if (Result.isFailure(result)) {
        failure = result.failure
        break
      }
      const event = result.success
      hasEvents = true
      switch (event._tag) {
        case "Bookmark":
          position = event.resourceVersion
          break
        case "Unknown":
          yield* logged(Effect.logDebug(`the watch has sent an event of an unknown type, ${event.type}`))
          break
        case "Put":
        case "Remove": {
          const { name, resourceVersion } = event.slice.metadata
          if (event._tag === "Put") next.set(name, event.slice)
          else next.delete(name)
          position = resourceVersion
          changed = true
        }
      }
    }
    if (changed) {
      slices = next
      yield* audience.slices(slices)
    }
    if (failure !== undefined) return yield* failure
  })

  const watch = Effect.fnUntraced(function*(resourceVersion: string) {
    const events = yield* api.watch(resourceVersion)
    since = nowMillis(clock)
    yield* audience.watching
    yield* Stream.runForEachArray(events, apply)
  }, Effect.scoped)

  while (true) {
    hasEvents = false
    since = Infinity
    const isList = position === undefined
    const result = yield* Effect.result(position === undefined ? list : watch(position))
    const lived = Math.max(0, nowMillis(clock) - since)
    const isShort = lived < shortestWatch
    const wasUseful = hasEvents || !isShort
    if (wasUseful) {
      nextWait = yield* Schedule.toStep(waits)
      hasExpired = false
    }
    if (isList && Result.isSuccess(result)) continue
    const hasEnded = Result.isSuccess(result) || result.failure.kind === "Cut"
    if (!isList && hasEnded && wasUseful && !(isShort && isHurried)) {
      isHurried = isShort
      const why = Result.isFailure(result) ? [result.failure.message] : []
      yield* logged(Effect.logDebug(`a watch has ended after ${Math.round(lived)} ms: another one begins`, ...why))
      continue
    }

    // The schedule has no end, so there is always a next wait.
    const [, duration] = yield* Effect.orDie(nextWait(0, undefined))
    let wait = Duration.toMillis(duration)
    if (Result.isFailure(result)) {
      const failure = result.failure
      const { kind, retryAfterMillis = 0 } = failure
      yield* logged(Effect.logDebug("changes of the endpoints are not received for now", failure.message))
      if (needsList(failure)) position = undefined
      if (kind === "Expired" && !hasExpired) wait = 0
      else if (kind !== "Cut" || isList) yield* audience.failed(failure)
      if (kind === "Expired") hasExpired = true
      wait = Math.max(wait, Math.min(retryAfterMillis, longestWait))
    }
    isHurried = false
    yield* Effect.sleep(Duration.millis(wait))
  }
})
