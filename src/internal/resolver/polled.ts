/**
 * Resolvers that look for their endpoints from time to time. It does not know where a look finds them.
 *
 * One fiber looks while someone waits for news, so what several ask for is looked for once. When no one waits any more
 * the fiber ends, and with it a look that is under way and what looks have left for later. What is known stays, and so
 * does the time of the next look.
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
  /** The next look is due so long after this one. */
  readonly ttlMillis: number
  /** Why there are no endpoints, or fewer than there should be. */
  readonly problem?: string | undefined
}

/** What a look does not have to wait for. */
export interface Later {
  /**
   * Runs an effect for as long as someone waits, also after the end of the look that has forked it. If it has not ended
   * by then, there is another look soon.
   */
  readonly fork: <A, E>(effect: Effect.Effect<A, E>) => Effect.Effect<Fiber.Fiber<A, E>>
  /** Tells those who wait what is known by now, also while a look is under way. */
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
  /** Runs while someone waits. It can ask for a look. */
  readonly watch?: (lookSoon: () => void) => Effect.Effect<void>
}

/** A resolver, and how to tell it that its endpoints may have changed. */
export interface Polled {
  readonly resolver: Resolver
  readonly lookSoon: () => void
}

/**
 * What the fiber that looks does:
 *
 *     idle ── someone waits ──▶ sleeping ── due ──▶ looking ── lookSoon ──▶ lookingAgain
 *                                  ▲                   │                         │
 *                                  └────── done ───────┴─────────────────────────┘
 *
 * The other three become idle when no one waits any more.
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
  /** Whether what is known may be out of date: a look was due while no one waited, or was given up. */
  let isOutdated = false
  /** When the last look has begun, and when the next one is due. */
  let lookedAt = -Infinity
  let dueAt = -Infinity
  let running: Fiber.Fiber<void> | undefined
  /** What looks have left for later. */
  const pending = new Set<Fiber.Fiber<unknown, unknown>>()
  let wake = () => {}

  const isLooking = () => state === "looking" || state === "lookingAgain"

  const transition = (next: State) => {
    if (!transitions[state].includes(next)) throw new Error(`a resolver that is ${state} cannot become ${next}`)
    if (next === "sleeping" && state === "idle") isOutdated = mayBeOutdated()
    if (next === "idle" && isLooking()) {
      // Those who come and go while a look is under way do not make looks more frequent.
      dueAt = lookedAt + source.leastMillis
      isOutdated = true
    }
    // What has not come by now is looked for again soon. After a failure the time of the next look stays.
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
   * What is known after a look. If the endpoints are the same, a new problem gets their version as a new object, and so
   * does the first success after failures.
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
      // Perhaps no one waits any more.
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
    // What the fiber before has left for later is under way until it has ended.
    if (before !== undefined) yield* Fiber.await(before)
    const later = laterIn(yield* Effect.scope)
    const { watch } = source
    // In a fiber of its own: it can be user code, and must not keep those who wait from their answer.
    if (watch !== undefined) yield* Effect.forkChild(Effect.suspend(() => watch(lookSoon)))
    while (latest.waiting > 0) {
      const wait = dueAt - nowMillis(clock)
      if (wait <= 0) yield* look(later)
      else yield* Effect.raceFirst(sleepMillis(clock, wait), woken)
    }
    // It is idle already where those that it has just answered have interrupted the last one who waited.
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

  /** Waits for what is not known to a holder of `seen`. */
  const wait = (seen: Version | undefined) =>
    Effect.callback<Resolution, ResolverError>((resume) => {
      const leave = latest.join({
        isNews: ({ version }) => version !== seen,
        resume: (answer) => {
          // Without a version, what was found before the failure is an answer.
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
          // While the fiber runs it finds out what is newer.
          const isNews = seen === undefined
            ? !(state === "idle" ? mayBeOutdated() : isOutdated)
            : seen !== known.version
          return isNews ? Effect.succeed(known) : wait(seen)
        }),
      refresh: Effect.sync(lookSoon)
    }
  }
})
