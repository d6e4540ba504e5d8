/**
 * Several resolvers as one.
 */
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Equal from "effect/Equal"
import * as Result from "effect/Result"
import type { Resolution, Resolver, Version } from "../../Resolver.ts"
import { type Health, watch } from "../client/watch.ts"
import { distinct, sameEndpoints } from "./endpoints.ts"
import { type ResolverError, versions } from "./model.ts"

const concurrently = { concurrency: "unbounded" } as const

export const combined = (resolvers: ReadonlyArray<Resolver>): Resolver => {
  const isConstant = resolvers.every((resolver) => resolver.isConstant)
  const refreshes = resolvers.flatMap(({ refresh }) => refresh ?? [])
  const nextVersion = versions("merge")
  /** What each has answered last. */
  const last = new Map<Resolver, Resolution>()
  const healths = new Map(resolvers.map((resolver): [Resolver, Health] => [resolver, { failing: false }]))
  let current: Resolution | undefined

  /** Puts together what is known; the same as before where nothing has changed. */
  const combine = (): Resolution => {
    const endpoints = distinct(resolvers.flatMap((resolver) => last.get(resolver)?.endpoints ?? []))
    if (isConstant) return { endpoints }
    if (current === undefined || !sameEndpoints(current.endpoints, endpoints)) {
      current = { endpoints, version: nextVersion() }
    }
    return current
  }

  const ask = Effect.fnUntraced(function*(resolver: Resolver): Effect.fn.Return<void, ResolverError> {
    const result = yield* Effect.result(resolver.resolve())
    if (Result.isSuccess(result)) last.set(resolver, result.success)
    else if (!last.has(resolver)) return yield* Effect.fail(result.failure)
  })

  const askAll = Effect.map(Effect.forEach(resolvers, ask, { ...concurrently, discard: true }), combine)

  /** Watches all of them, as a Connection does with one, until there is something new in one. */
  const newerThan = Effect.fnUntraced(function*(seen: Version | undefined) {
    const changed = yield* Deferred.make<Resolution>()
    const watching = Effect.forEach([...last], ([resolver, first]) => {
      if (resolver.isConstant) return Effect.never
      const apply = (resolution: Resolution) => {
        last.set(resolver, resolution)
        const combination = combine()
        if (!Equal.equals(combination.version, seen)) Deferred.doneUnsafe(changed, Effect.succeed(combination))
      }
      return watch(resolver, first, apply, () => {}, healths.get(resolver))
    }, { ...concurrently, discard: true })
    return yield* Effect.raceFirst(Deferred.await(changed), Effect.andThen(watching, Effect.never))
  })

  return {
    isConstant,
    resolve: (seen) =>
      Effect.suspend(() => {
        if (isConstant || seen === undefined || current === undefined) return askAll
        const known = combine()
        return Equal.equals(known.version, seen) ? newerThan(seen) : Effect.succeed(known)
      }),
    refresh: refreshes.length === 0 ? undefined : Effect.all(refreshes, { ...concurrently, discard: true })
  }
}
