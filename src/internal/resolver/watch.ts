/**
 * Asks a resolver for newer endpoints, for as long as a Connection lives. It does not know what its audience does with
 * them.
 */
import type * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Equal from "effect/Equal"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import { logged } from "../log.ts"
import { backoff } from "./backoff.ts"
import { ask } from "./given.ts"
import type { Resolution, Resolver, ResolverError } from "./model.ts"

/** The waits after a failure, and after an answer with no version or with the same version. */
const waits = backoff({ firstMillis: 10, factor: 1.3, longestMillis: 1000, jitter: 0.4 })

/**
 * At most this many changes in a row are taken without a wait if the event loop has not turned between them. Otherwise
 * a resolver that always has a new version at once would block the loop.
 */
const freeChanges = 64

/** The problems that were logged since the resolver last worked. They are not logged again. */
export interface Logged {
  /** The resolver has failed. */
  failure: boolean
  /** The audience could not use an answer. */
  refusal: boolean
}

/** The receiver of a resolver's answers. */
export interface Audience {
  /** There are other endpoints, or the answer has no version to tell. */
  readonly changed: (resolution: Resolution) => void
  /** The endpoints are unchanged, whatever this resolution lists. Its problem may have changed. */
  readonly unchanged: (resolution: Resolution) => void
  readonly failed: (cause: Cause.Cause<ResolverError>) => void
}

/**
 * Asks `resolver` for endpoints that are newer than `first`, and tells its audience. It never ends.
 *
 * Failures leave the endpoints as they are. The first of several failures in a row is logged as a warning. Changes are
 * logged at debug level. If the audience cannot use an answer, the resolver is asked again. If a resolver is watched
 * several times, each watch gets the same `logs`.
 */
export const watch = Effect.fnUntraced(function*(
  resolver: Resolver,
  first: Resolution,
  { changed: apply, failed, unchanged }: Audience,
  logs: Logged = { failure: false, refusal: false }
): Effect.fn.Return<never> {
  let version = first.version
  let immediate = 0

  const fail = Effect.fnUntraced(function*(cause: Cause.Cause<ResolverError>) {
    if (!logs.failure) yield* logged(Effect.logWarning("the resolver failed; its last endpoints stay in use", cause))
    logs.failure = true
    // This is last: the audience may wait for it, and then end this fiber.
    failed(cause)
    return false
  })

  /** Gives an answer to the audience. True if the answer has new endpoints. */
  const take = (resolution: Resolution): Effect.Effect<boolean> => {
    // The version can be a custom object.
    const isNew = resolution.version !== undefined && !Equal.equals(resolution.version, version)
    if (!isNew && resolution.version !== undefined) {
      unchanged(resolution)
      return Effect.succeed(false)
    }
    const listed = Effect.annotateLogs(Effect.logDebug("the resolver has changed the endpoints"), {
      endpoints: resolution.endpoints.map(({ address }) => address)
    })
    return Effect.andThen(
      isNew ? logged(listed) : Effect.void,
      Effect.sync(() => {
        apply(resolution)
        return isNew
      })
    )
  }

  const answered = Effect.fnUntraced(function*(resolution: Resolution) {
    logs.failure = false
    const taken = yield* Effect.exit(Effect.suspend(() => take(resolution)))
    if (Exit.isSuccess(taken)) version = resolution.version
    else if (!logs.refusal) yield* logged(Effect.logError("the new endpoints could not be used", taken.cause))
    logs.refusal = Exit.isFailure(taken)
    return Exit.isSuccess(taken) && taken.value
  })

  /** Asks once. It gives true if the next question needs no wait. */
  const askOnce = Effect.gen(function*() {
    let atOnce = true
    const turned = setImmediate(() => {
      atOnce = false
    })
    const asked = yield* Effect.forkChild(ask(resolver, version), { startImmediately: true })
    const exit = yield* Fiber.await(asked)
    clearImmediate(turned)
    const isNew = yield* Exit.isSuccess(exit) ? answered(exit.value) : fail(exit.cause)
    immediate = isNew && atOnce ? immediate + 1 : 0
    return isNew && immediate <= freeChanges
  })

  // Each change starts the waits from the beginning.
  while (true) yield* Effect.repeat(askOnce, { schedule: waits, until: (isFree) => isFree })
})
