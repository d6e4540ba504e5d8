/**
 * Resolvers that look for their endpoints now and then.
 *
 * One fiber looks, while somebody waits for news: what several ask for is looked for once. It ends when nobody waits
 * any more, as does a look that is under way then, and what looks have left to come later. What is known stays, and so
 * does the time until which it is good.
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
import type { Resolution, Resolver, Version } from "../../Resolver.ts"
import { background } from "../ambient/background.ts"
import { isolated } from "../guard.ts"
import { nowMillis, sleepMillis } from "../time/clock.ts"
import { textOf } from "../userError.ts"
import { sameEndpoints } from "./endpoints.ts"
import { again, resolution, ResolverError, versions } from "./model.ts"

/** What was found, and for how long it need not be looked for again. */
export interface Look {
  readonly endpoints: ReadonlyArray<Endpoint>
  readonly goodForMillis: number
  /** Why there are none, or fewer than there should be. */
  readonly problem?: string | undefined
}

/** What a look need not wait for. */
export interface Later {
  /**
   * Goes on for as long as somebody waits, also after the end of the look that has begun it. What has not ended by then
   * is looked for again.
   */
  readonly fork: <A, E>(effect: Effect.Effect<A, E>) => Effect.Effect<Fiber.Fiber<A, E>>
  /** Tells those who wait what is known by now, whether or not a look is under way. */
  readonly tell: (look: Look) => void
}

/** How endpoints are found. */
export interface Source {
  /** The kind of resolver, as versions name it. */
  readonly kind: string
  readonly look: (later: Later) => Effect.Effect<Look, ResolverError>
  /** So long after a look has begun, the next one may, where it is asked for before the last one's answer is no longer good. */
  readonly leastMillis: number
  /** So long after a look has failed, the next one is made. */
  readonly retryMillis: number
  /** Runs while somebody waits, and may say that there is something to look at. */
  readonly beside?: (lookSoon: () => void) => Effect.Effect<void>
}

/** A resolver that can be told that there is something to look at. */
export interface Polled {
  readonly resolver: Resolver
  readonly lookSoon: () => void
}

interface Waiter {
  readonly seen: Version | undefined
  readonly resume: (effect: Effect.Effect<Resolution, ResolverError>) => void
}

export const polled = Effect.fnUntraced(function*(source: Source): Effect.fn.Return<Polled> {
  const context = yield* background
  const clock = Context.get(context, Clock.Clock)
  const nextVersion = versions(source.kind)
  const waiters = new Set<Waiter>()
  let latest: Resolution | undefined
  let failing = false
  /** When the last look began, and when the next one is due. */
  let lookedAt = -Infinity
  let dueAt = -Infinity
  let looking = false
  /** Whether the last look was given up, since nobody waited for it any more. */
  let givenUp = false
  /** Whether nobody waited for so long that what is known may be out of date, and it has not been looked since. */
  let stale = false
  /** Whether another look was asked for while one was under way, which may have missed what there is to see. */
  let lookAgain = false
  let running: Fiber.Fiber<void> | undefined
  let isRunning = false
  /** What looks have left to come later. */
  const pending = new Set<Fiber.Fiber<unknown, unknown>>()
  let wake = () => {}

  const lookAt = (at: number) => {
    if (at >= dueAt) return
    dueAt = at
    wake()
  }

  const lookSoon = () => {
    if (looking) lookAgain = true
    else lookAt(lookedAt + source.leastMillis)
  }

  const settle = (
    which: (waiter: Waiter) => boolean,
    answer: (waiter: Waiter) => Effect.Effect<Resolution, ResolverError>
  ) => {
    for (const waiter of [...waiters]) {
      if (which(waiter) && waiters.delete(waiter)) waiter.resume(answer(waiter))
    }
  }

  const mayBeOld = () => givenUp || nowMillis(clock) >= dueAt

  /**
   * What is known by now. Who has seen the same endpoints hears of another problem too, and that they are up to date
   * again after failures.
   */
  const after = (last: Resolution | undefined, { endpoints, problem }: Look): Resolution => {
    if (last?.version === undefined || !sameEndpoints(last.endpoints, endpoints)) {
      return resolution(endpoints, nextVersion(), problem)
    }
    return failing || last.problem !== problem ? resolution(last.endpoints, again(last.version), problem) : last
  }

  const found = (look: Look) => {
    const current = after(latest, look)
    failing = false
    latest = current
    settle(({ seen }) => seen !== current.version, () => Effect.succeed(current))
  }

  const notFound = (error: ResolverError) => {
    failing = true
    const current = latest
    settle(
      () => true,
      ({ seen }) => current !== undefined && seen === undefined ? Effect.succeed(current) : Effect.fail(error)
    )
  }

  const laterIn = (scope: Scope.Scope): Later => ({
    fork: Effect.fnUntraced(function*(effect) {
      const fiber = yield* Effect.forkIn(effect, scope, { startImmediately: true })
      pending.add(fiber)
      fiber.addObserver(() => pending.delete(fiber))
      return fiber
    }),
    tell: (look) => {
      found(look)
      dueAt = Math.min(dueAt, nowMillis(clock) + look.goodForMillis)
      // Maybe nobody waits any more.
      wake()
    }
  })

  const look = Effect.fnUntraced(function*(later: Later) {
    looking = true
    givenUp = false
    lookAgain = false
    lookedAt = nowMillis(clock)
    const exit = yield* Effect.exit(isolated(Effect.suspend(() => source.look(later)), identity))
    looking = false
    stale = false
    dueAt = nowMillis(clock) + (Exit.isSuccess(exit) ? exit.value.goodForMillis : source.retryMillis)
    if (lookAgain) dueAt = Math.min(dueAt, lookedAt + source.leastMillis)
    if (Exit.isSuccess(exit)) return found(exit.value)
    const failure = exit.cause.reasons.find(Cause.isFailReason)
    if (failure !== undefined) return notFound(failure.error)
    const defect = Cause.squash(exit.cause)
    notFound(new ResolverError({ message: `the resolver has a defect: ${textOf(defect)}`, cause: defect }))
  })

  const woken = Effect.callback<void>((resume) => {
    wake = () => resume(Effect.void)
  })

  /** What has not come by now is looked for again soon, where all is well but for that. */
  const ending = () => {
    isRunning = false
    if (pending.size > 0 && !failing) dueAt = Math.min(dueAt, lookedAt + source.leastMillis)
  }

  const run = Effect.fnUntraced(function*(before: Fiber.Fiber<void> | undefined) {
    // What it has left to come later is under way until then.
    if (before !== undefined) yield* Fiber.await(before)
    const later = laterIn(yield* Effect.scope)
    const { beside } = source
    // What it begins with may be of a user's: it is not to keep those who wait from being answered.
    if (beside !== undefined) yield* Effect.forkChild(Effect.suspend(() => beside(lookSoon)))
    while (waiters.size > 0) {
      const wait = dueAt - nowMillis(clock)
      if (wait <= 0) yield* look(later)
      else yield* Effect.raceFirst(sleepMillis(clock, wait), woken)
    }
    ending()
  }, Effect.scoped)

  const start = () => {
    if (isRunning) return
    isRunning = true
    stale = mayBeOld()
    running = Effect.runForkWith(context)(run(running))
  }

  const leave = (waiter: Waiter): Effect.Effect<void> =>
    Effect.suspend(() => {
      waiters.delete(waiter)
      if (waiters.size > 0 || !isRunning || running === undefined) return Effect.void
      ending()
      // Here and not when the fiber has ended: another may have begun to look by then.
      // Those who come and go while a look takes its time do not make it begin more often.
      if (looking) dueAt = lookedAt + source.leastMillis
      givenUp ||= looking
      looking = false
      return Fiber.interrupt(running)
    })

  const wait = (seen: Version | undefined) =>
    Effect.callback<Resolution, ResolverError>((resume) => {
      const waiter = { seen, resume }
      waiters.add(waiter)
      if (latest === undefined) lookAt(-Infinity)
      start()
      return leave(waiter)
    })

  return {
    lookSoon,
    resolver: {
      isConstant: false,
      resolve: (seen) =>
        Effect.suspend(() => {
          if (latest === undefined) return wait(seen)
          // Where somebody has waited, nothing newer is known. Else it may be out of date.
          const isNews = seen === undefined
            ? !(isRunning ? stale : mayBeOld())
            : seen !== latest.version
          return isNews ? Effect.succeed(latest) : wait(seen)
        }),
      refresh: Effect.sync(lookSoon)
    }
  }
})
