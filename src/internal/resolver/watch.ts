/**
 * The resolver's watch: one fiber that asks a resolver for newer endpoints, for as long as its Connection lives.
 */
import type * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Equal from "effect/Equal"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Random from "effect/Random"
import type { Resolution, Resolver, ResolverError } from "../../Resolver.ts"
import { logged } from "../log.ts"
import { uniform } from "../random.ts"
import { ask } from "./given.ts"

/** The waits after an error, no version or the same version: from 10 ms, times 1.3, up to 40 % off at random, at most 1 s. */
const firstWait = 10
const waitFactor = 1.3
const longestWait = 1000
const jitter = 0.4

/**
 * So many changes in a row may come without any waiting, where each came before the event loop could turn. A resolver that always has a
 * new version at once, or after nothing but microtasks, would else keep the loop from everything.
 */
const freeChanges = 64

/** Whether a resolver has failed last, or its answer could not be taken over, which has been logged then. */
export interface Health {
  failing: boolean
  refused?: boolean
}

/** Who hears of what a resolver answers. */
export interface Audience {
  /** There are other endpoints, or nobody knows whether they are others. */
  readonly changed: (resolution: Resolution) => void
  /** The endpoints are as before, whatever this says of them. Its problem may be another. */
  readonly unchanged: (resolution: Resolution) => void
  readonly failed: (cause: Cause.Cause<ResolverError>) => void
}

/**
 * Asks `resolver` for endpoints that are newer than `first`, and tells its audience. It never ends; errors leave the
 * endpoints as they are and are logged once in a row, and changes at debug. What cannot be taken over is asked for
 * again. Who watches one resolver again and again gives the same `health` each time.
 */
export const watch = Effect.fnUntraced(function*(
  resolver: Resolver,
  first: Resolution,
  { changed: apply, failed, unchanged }: Audience,
  health: Health = { failing: false }
): Effect.fn.Return<never> {
  const random = yield* Random.Random
  let version = first.version
  let wait = firstWait
  let immediate = 0
  while (true) {
    let atOnce = true
    const turned = setImmediate(() => {
      atOnce = false
    })
    const asked = yield* Effect.forkChild(ask(resolver, version), { startImmediately: true })
    const exit = yield* Fiber.await(asked)
    clearImmediate(turned)
    let changed = false
    if (Exit.isFailure(exit)) {
      if (!health.failing) {
        yield* logged(Effect.logWarning("the resolver failed; its last endpoints stay in use", exit.cause))
      }
      health.failing = true
      // Last: whoever hears of it may have waited for it, and ends this then.
      failed(exit.cause)
    } else {
      health.failing = false
      const resolution = exit.value
      const taken = yield* Effect.exit(Effect.suspend(() => {
        // Versions may be of a user's own.
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
      }))
      if (Exit.isSuccess(taken)) {
        changed = taken.value
        version = resolution.version
      } else if (health.refused !== true) {
        yield* logged(Effect.logError("the endpoints could not be taken over", taken.cause))
      }
      health.refused = Exit.isFailure(taken)
    }
    immediate = changed && atOnce ? immediate + 1 : 0
    if (changed && immediate <= freeChanges) {
      wait = firstWait
      continue
    }
    const shortened = wait * (1 - jitter * uniform(random))
    wait = Math.min(longestWait, wait * waitFactor)
    yield* Effect.sleep(shortened)
  }
})
