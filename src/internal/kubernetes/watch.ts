/**
 * Keeps up with the EndpointSlices of a Service: lists them, watches what happens after that, and begins again where that breaks off.
 */
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Random from "effect/Random"
import * as Result from "effect/Result"
import * as Stream from "effect/Stream"
import { logged } from "../log.ts"
import { nowMillis } from "../time/clock.ts"
import type { Api, Event } from "./api.ts"
import type { Failure } from "./failure.ts"
import type { Slice } from "./slices.ts"

/** The waits after what brought nothing: from 500 ms, times 2, up to half of it off at random, at most 30 s. */
const firstWait = 500
const longestWait = 30_000
const jitter = 0.5

/**
 * A watch that ends sooner, and without an event, was of no use: whatever ends it would end the next one, too. Any
 * other has done its work, however it ends: a proxy or load balancer cuts what is idle, and a server ends each after a
 * while.
 */
const shortestWatch = 1000

/** Who hears of it. */
export interface Audience {
  /** The slices are known, or have changed. */
  readonly slices: (slices: ReadonlyMap<string, Slice>) => Effect.Effect<void>
  /** They could not be found out for now. It is tried again. */
  readonly failed: (failure: Failure) => Effect.Effect<void>
  /** Changes are heard of from now on. */
  readonly watching: Effect.Effect<void>
}

const tooManyRequests = 429

/** Never ends. */
export const follow = Effect.fnUntraced(function*(api: Api, audience: Audience): Effect.fn.Return<never> {
  const clock = yield* Clock.Clock
  let slices: ReadonlyMap<string, Slice> = new Map()
  /** What is known is of this version; undefined where it has to be listed. */
  let position: string | undefined
  /** Whether the last watch has brought anything, and since when it was there. */
  let fruitful = false
  let since = Infinity
  /**
   * Whether the last watch was followed at once though it was short: a server that ends each after an event is not
   * asked all the time.
   */
  let hurried = false
  /** How often in a row nothing came of it. */
  let attempts = 0
  /** Whether a version was too old since a watch was last of use: then a new one will not be better. */
  let expired = false

  const list = Effect.gen(function*() {
    const listed = yield* api.list
    slices = new Map(listed.slices.map((slice) => [slice.metadata.name, slice]))
    position = listed.resourceVersion
    yield* audience.slices(slices)
  })

  /** All that came together, as one change. */
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
      fruitful = true
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
    fruitful = false
    since = Infinity
    const listing = position === undefined
    const result = yield* Effect.result(position === undefined ? list : watch(position))
    const lived = Math.max(0, nowMillis(clock) - since)
    const isShort = lived < shortestWatch
    const wasUseful = fruitful || !isShort
    if (wasUseful) {
      attempts = 0
      expired = false
    }
    if (listing && Result.isSuccess(result)) continue
    const hasEnded = Result.isSuccess(result) || result.failure.kind === "Cut"
    if (!listing && hasEnded && wasUseful && !(isShort && hurried)) {
      hurried = isShort
      const why = Result.isFailure(result) ? [result.failure.message] : []
      yield* logged(Effect.logDebug(`a watch has ended after ${Math.round(lived)} ms: another one begins`, ...why))
      continue
    }

    let wait = Math.min(longestWait, firstWait * 2 ** attempts) * (1 - jitter * (yield* Random.next))
    if (Result.isFailure(result)) {
      const failure = result.failure
      const { kind, retryAfterMillis = 0, status } = failure
      yield* logged(Effect.logDebug("the endpoints are not heard of for now", failure.message))
      // Where no answer came, or it was cut, what is known is still good to go on from.
      if (kind === "Expired" || kind === "Garbled" || (kind === "Refused" && status !== tooManyRequests)) {
        position = undefined
      }
      if (kind === "Expired" && !expired) wait = 0
      else if (kind !== "Cut" || listing) yield* audience.failed(failure)
      if (kind === "Expired") expired = true
      wait = Math.max(wait, Math.min(retryAfterMillis, longestWait))
    }
    attempts++
    hurried = false
    yield* Effect.sleep(Duration.millis(wait))
  }
})
