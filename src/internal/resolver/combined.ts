/**
 * Several resolvers as one.
 */
import * as Cause from "effect/Cause"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Equal from "effect/Equal"
import * as Exit from "effect/Exit"
import type { Resolution, Resolver, Version } from "../../Resolver.ts"
import { type Health, watch } from "../client/watch.ts"
import { distinct, sameEndpoints } from "./endpoints.ts"
import { ask, refreshed } from "./given.ts"
import { type ResolverError, versions } from "./model.ts"

const concurrently = { concurrency: "unbounded" } as const

export const combined = (resolvers: ReadonlyArray<Resolver>): Resolver => {
  const isConstant = resolvers.every((resolver) => resolver.isConstant)
  // Each by itself: one that dies must not keep the others from being told.
  const refreshes = resolvers.flatMap(({ refresh }) => refresh === undefined ? [] : refreshed(refresh))
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

  const askOne = Effect.fnUntraced(function*(resolver: Resolver): Effect.fn.Return<void, ResolverError> {
    const exit = yield* Effect.exit(ask(resolver))
    if (Exit.isSuccess(exit)) last.set(resolver, exit.value)
    else if (!last.has(resolver) || Cause.hasInterrupts(exit.cause)) return yield* Effect.failCause(exit.cause)
  })

  const askAll = Effect.map(Effect.forEach(resolvers, askOne, { ...concurrently, discard: true }), combine)

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
