/**
 * Several resolvers as one. It asks and watches them as a Connection does. It does not know how they resolve.
 */
import * as Cause from "effect/Cause"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import { textOf } from "../userError.ts"
import { distinct, sameEndpoints } from "./endpoints.ts"
import { ask, refreshed } from "./given.ts"
import { joined, problemOf, type Resolution, resolution, type Resolver, type ResolverError } from "./model.ts"
import { again, type Version, versions } from "./version.ts"
import { type Audience, type Logged, watch } from "./watch.ts"

const concurrently = { concurrency: "unbounded" } as const

export const combined = (resolvers: ReadonlyArray<Resolver>): Resolver => {
  const isConstant = resolvers.every((resolver) => resolver.isConstant)
  // Each runs by itself: if one dies, the others are still told.
  const refreshes = resolvers.flatMap(({ refresh }) => refresh === undefined ? [] : refreshed(refresh))
  const nextVersion = versions("merge")
  /** The last answer of each resolver. */
  const last = new Map<Resolver, Resolution>()
  /** The failure of each resolver that has failed since then. */
  const failures = new Map<Resolver, string>()
  const logs = new Map(resolvers.map((resolver): [Resolver, Logged] => [resolver, { failure: false, refusal: false }]))
  let current: Resolution | undefined

  const problemsOf = (resolver: Resolver): ReadonlyArray<string> => {
    const known = last.get(resolver)
    const failure = failures.get(resolver)
    return [
      ...(known === undefined ? [] : problemOf(known)),
      ...(failure === undefined ? [] : [`a resolver of Resolver.merge failed: ${failure}`])
    ]
  }

  /** The last answers as one. If nothing has changed, it is the same object as before. */
  const combine = (): Resolution => {
    const endpoints = distinct(resolvers.flatMap((resolver) => last.get(resolver)?.endpoints ?? []))
    const problem = joined(resolvers.flatMap(problemsOf))
    if (isConstant) return problem === undefined ? { endpoints } : { endpoints, problem }
    if (current?.version === undefined || !sameEndpoints(current.endpoints, endpoints)) {
      current = resolution(endpoints, nextVersion(), problem)
    } else if (current.problem !== problem) {
      current = resolution(current.endpoints, again(current.version), problem)
    }
    return current
  }

  const answered = (resolver: Resolver, resolution: Resolution): void => {
    last.set(resolver, resolution)
    failures.delete(resolver)
  }

  const askOne = Effect.fnUntraced(function*(resolver: Resolver): Effect.fn.Return<void, ResolverError> {
    const exit = yield* Effect.exit(ask(resolver))
    if (Exit.isSuccess(exit)) return answered(resolver, exit.value)
    if (!last.has(resolver) || Cause.hasInterrupts(exit.cause)) return yield* Effect.failCause(exit.cause)
    failures.set(resolver, textOf(Cause.squash(exit.cause)))
  })

  const askAll = Effect.map(Effect.forEach(resolvers, askOne, { ...concurrently, discard: true }), combine)

  /** Watches all resolvers until one of them has a new answer. */
  const newerThan = Effect.fnUntraced(function*(seen: Version | undefined) {
    const changed = yield* Deferred.make<Resolution>()
    const watching = Effect.forEach([...last], ([resolver, first]) => {
      if (resolver.isConstant) return Effect.never
      const tell = () => {
        const combination = combine()
        if (combination.version !== seen) Deferred.doneUnsafe(changed, Effect.succeed(combination))
      }
      const audience: Audience = {
        changed: (resolution) => {
          answered(resolver, resolution)
          tell()
        },
        unchanged: (resolution) => {
          answered(resolver, { ...resolution, endpoints: last.get(resolver)?.endpoints ?? [] })
          tell()
        },
        failed: (cause) => {
          failures.set(resolver, textOf(Cause.squash(cause)))
          tell()
        }
      }
      return watch(resolver, first, audience, logs.get(resolver))
    }, { ...concurrently, discard: true })
    return yield* Effect.raceFirst(Deferred.await(changed), Effect.andThen(watching, Effect.never))
  })

  return {
    isConstant,
    resolve: (seen) =>
      Effect.suspend(() => {
        if (isConstant || seen === undefined || current === undefined) return askAll
        const known = combine()
        return known.version === seen ? newerThan(seen) : Effect.succeed(known)
      }),
    refresh: refreshes.length === 0 ? undefined : Effect.all(refreshes, { ...concurrently, discard: true })
  }
}
