/**
 * Resolvers that look for their endpoints from time to time. It does not know where a look finds them.
 *
 * One fiber looks while there are waiters, so several waiters share a look. When the last waiter has left, the fiber
 * ends. The look that is under way and the work that looks have left for later end with it. The last result and the
 * time of the next look stay.
 */
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import { identity } from "effect/Function"
import type * as Scope from "effect/Scope"
import type { Endpoint } from "../../Endpoint.ts"
import { background } from "../ambient/background.ts"
import { isolated } from "../guard.ts"
import { Latest } from "../latest.ts"
import { nowMillis, sleepMillis } from "../time/clock.ts"
import { textOf } from "../userError.ts"
import { sameEndpoints } from "./endpoints.ts"
import { type Resolution, resolution, type Resolver, ResolverError } from "./model.ts"
import { again, type Version, versions } from "./version.ts"

/** The result of a look. */
export interface Look {
  readonly endpoints: ReadonlyArray<Endpoint>
  /** The time from this look to the next one. */
  readonly ttlMillis: number
  /** Why there are no endpoints, or fewer than expected. */
  readonly problem?: string | undefined
}

/** Work that a look does not have to wait for. */
export interface Later {
  /**
   * Runs an effect as long as there are waiters, also after the end of the look that has forked it. If it is
   * interrupted before it ends, there is another look soon.
   */
  readonly fork: <A, E>(effect: Effect.Effect<A, E>) => Effect.Effect<Fiber.Fiber<A, E>>
  /** Gives the waiters the present result, also while a look is under way. */
  readonly tell: (look: Look) => void
}

/** How endpoints are found. */
export interface Source {
  /** The kind of resolver, a part of its versions. */
  readonly kind: string
  readonly look: (later: Later) => Effect.Effect<Look, ResolverError>
  /** The shortest time from the start of a look to the next one that {@link Polled.lookSoon} asks for. */
  readonly leastMillis: number
  /** The time from a failed look to the next one. */
  readonly retryMillis: number
  /** Runs while there are waiters. It can ask for a look. */
  readonly watch?: (lookSoon: () => void) => Effect.Effect<void>
}

/** A resolver, and how to tell it that its endpoints may have changed. */
export interface Polled {
  readonly resolver: Resolver
  readonly lookSoon: () => void
}

/**
 * The states of the fiber that looks:
 *
 *     idle ─── first waiter ──▶ sleeping ── due ──▶ looking ── lookSoon ──▶ lookingAgain
 *                                  ▲                   │                         │
 *                                  └────── done ───────┴─────────────────────────┘
 *
 * The other three become idle when the last waiter has left.
 *
 * - `idle`: there is no such fiber, or it is being interrupted.
 * - `sleeping`: it waits until the next look is due.
 * - `looking`: a look is under way.
 * - `lookingAgain`: another look was asked for meanwhile. This one may have missed the change.
 */
type State = "idle" | "sleeping" | "looking" | "lookingAgain"

const transitions: { readonly [S in State]: ReadonlyArray<State> } = {
  idle: ["sleeping"],
  sleeping: ["looking", "idle"],
  looking: ["sleeping", "lookingAgain", "idle"],
  lookingAgain: ["sleeping", "idle"]
}

export const polled = Effect.fnUntraced(function*(source: Source): Effect.fn.Return<Polled> {
  const context = yield* background
  const clock = Context.get(context, Clock.Clock)
  const nextVersion = versions(source.kind)
  const latest = new Latest<Resolution, ResolverError, undefined>(undefined)
  let state: State = "idle"
  /** Whether the last look has failed. */
  let isFailing = false
  /** Whether the last result may be out of date: a look was due while there were no waiters, or was interrupted. */
  let isOutdated = false
  /** When the last look has begun, and when the next one is due. */
  let lookedAt = -Infinity
  let dueAt = -Infinity
  let running: Fiber.Fiber<void> | undefined
  /** The work that looks have left for later. */
  const pending = new Set<Fiber.Fiber<unknown, unknown>>()
  let wake = () => {}

  const isLooking = () => state === "looking" || state === "lookingAgain"

  const transition = (next: State) => {
    if (!transitions[state].includes(next)) throw new Error(`a resolver that is ${state} cannot become ${next}`)
    if (next === "sleeping" && state === "idle") isOutdated = mayBeOutdated()
    if (next === "idle" && isLooking()) {
      // Waiters that come and go while a look is under way do not make looks more frequent.
      dueAt = lookedAt + source.leastMillis
      isOutdated = true
    }
    // Missing answers are looked for again soon. After a failure, the time of the next look stays.
    if (next === "idle" && pending.size > 0 && !isFailing) dueAt = Math.min(dueAt, lookedAt + source.leastMillis)
    state = next
  }

  const lookAt = (at: number) => {
    if (at >= dueAt) return
    dueAt = at
    wake()
  }

  const lookSoon = () => {
    if (state === "looking") transition("lookingAgain")
    else if (state !== "lookingAgain") lookAt(lookedAt + source.leastMillis)
  }

  const mayBeOutdated = () => isOutdated || nowMillis(clock) >= dueAt

  /**
   * The result after a look. If the endpoints are the same, their version stays. It becomes a new object if the problem
   * is new, or after failures.
   */
  const after = (last: Resolution | undefined, { endpoints, problem }: Look): Resolution => {
    if (last?.version === undefined || !sameEndpoints(last.endpoints, endpoints)) {
      return resolution(endpoints, nextVersion(), problem)
    }
    return isFailing || last.problem !== problem ? resolution(last.endpoints, again(last.version), problem) : last
  }

  const succeeded = (look: Look) => {
    const current = after(latest.value, look)
    isFailing = false
    latest.set(current)
  }

  const failed = (error: ResolverError) => {
    isFailing = true
    latest.tell(Effect.fail(error))
  }

  const laterIn = (scope: Scope.Scope): Later => ({
    fork: Effect.fnUntraced(function*(effect) {
      const fiber = yield* Effect.forkIn(effect, scope, { startImmediately: true })
      pending.add(fiber)
      fiber.addObserver(() => pending.delete(fiber))
      return fiber
    }),
    tell: (look) => {
      succeeded(look)
      dueAt = Math.min(dueAt, nowMillis(clock) + look.ttlMillis)
      // The last waiter may have left.
      wake()
    }
  })

  const look = Effect.fnUntraced(function*(later: Later) {
    transition("looking")
    lookedAt = nowMillis(clock)
    const exit = yield* Effect.exit(isolated(Effect.suspend(() => source.look(later)), identity))
    const isAskedForAgain = state === "lookingAgain"
    transition("sleeping")
    isOutdated = false
    dueAt = nowMillis(clock) + (Exit.isSuccess(exit) ? exit.value.ttlMillis : source.retryMillis)
    if (isAskedForAgain) dueAt = Math.min(dueAt, lookedAt + source.leastMillis)
    if (Exit.isSuccess(exit)) return succeeded(exit.value)
    const failure = exit.cause.reasons.find(Cause.isFailReason)
    if (failure !== undefined) return failed(failure.error)
    const defect = Cause.squash(exit.cause)
    failed(new ResolverError({ message: `the resolver has a defect: ${textOf(defect)}`, cause: defect }))
  })

  const woken = Effect.callback<void>((resume) => {
    wake = () => resume(Effect.void)
  })

  const run = Effect.fnUntraced(function*(before: Fiber.Fiber<void> | undefined) {
    // The previous fiber's work for later is still running until that fiber has ended.
    if (before !== undefined) yield* Fiber.await(before)
    const later = laterIn(yield* Effect.scope)
    const { watch } = source
    // In its own fiber: it can be user code, and must not delay the answer to the waiters.
    if (watch !== undefined) yield* Effect.forkChild(Effect.suspend(() => watch(lookSoon)))
    while (latest.waiting > 0) {
      const wait = dueAt - nowMillis(clock)
      if (wait <= 0) yield* look(later)
      else yield* Effect.raceFirst(sleepMillis(clock, wait), woken)
    }
    // It is idle already if the waiters that it has just resumed have interrupted the last one.
    if (state !== "idle") transition("idle")
  }, Effect.scoped)

  const start = () => {
    if (state !== "idle") return
    transition("sleeping")
    running = Effect.runForkWith(context)(run(running))
  }

  /** Ends the fiber after the last waiter has left. It counts as idle at once: when it has ended, another may run. */
  const stop = (): Effect.Effect<void> => {
    if (latest.waiting > 0 || state === "idle" || running === undefined) return Effect.void
    transition("idle")
    return Fiber.interrupt(running)
  }

  /** Waits for a result that the holder of `seen` does not know. */
  const wait = (seen: Version | undefined) =>
    Effect.callback<Resolution, ResolverError>((resume) => {
      const leave = latest.join({
        isNews: ({ version }) => version !== seen,
        resume: (answer) => {
          // Without a version, the result from before the failure is an answer.
          const known = seen === undefined ? latest.value : undefined
          resume(known === undefined ? answer : Effect.succeed(known))
        }
      })
      if (latest.value === undefined) lookAt(-Infinity)
      start()
      return Effect.suspend(() => {
        leave()
        return stop()
      })
    })

  return {
    lookSoon,
    resolver: {
      isConstant: false,
      resolve: (seen) =>
        Effect.suspend(() => {
          const known = latest.value
          if (known === undefined) return wait(seen)
          // While the fiber runs, it finds newer results.
          const isNews = seen === undefined
            ? !(state === "idle" ? mayBeOutdated() : isOutdated)
            : seen !== known.version
          return isNews ? Effect.succeed(known) : wait(seen)
        }),
      refresh: Effect.sync(lookSoon)
    }
  }
})
