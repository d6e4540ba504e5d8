/**
 * Resolvers that may be of a user's own: what they answer is checked before anything is done with it.
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import { identity } from "effect/Function"
import type { Endpoint } from "../../Endpoint.ts"
import type { Resolution, Resolver, Version } from "../../Resolver.ts"
import { discard, effectOf, isolated, shown, unexpected } from "../guard.ts"
import { logged } from "../log.ts"
import { textOf } from "../userError.ts"
import type { ResolverError } from "./model.ts"

const isObject = (u: unknown): u is object => typeof u === "object" && u !== null

/** What is wrong with an endpoint is a bug of whoever lists it. */
const checkEndpoint = (given: unknown): void => {
  if (!isObject(given)) throw unexpected("what the resolver lists", "an Endpoint", given)
  // Whatever their types say, they may be anything.
  const { address, priority = 0, weight = 1, zone }: { readonly [K in keyof Endpoint]?: unknown } = given
  if (typeof address !== "string") {
    throw unexpected("the address of an endpoint", "a text", address)
  }
  if (typeof weight !== "number" || !(weight > 0 && weight < Infinity)) {
    throw new RangeError(`the weight of ${address}: expected a number above 0, got ${shown(weight)}`)
  }
  if (typeof priority !== "number" || !Number.isInteger(priority) || priority < 0) {
    throw new RangeError(`the priority of ${address}: expected a whole number from 0 on, got ${shown(priority)}`)
  }
  if (zone !== undefined && typeof zone !== "string") {
    throw unexpected(`the zone of ${address}`, "the name of a zone", zone)
  }
}

/** An answer, read once. */
const checkedResolution = (given: unknown): Resolution => {
  if (!isObject(given)) throw unexpected("the answer of the resolver", "endpoints and a version", given)
  discard(given)
  // Whatever its type says, it may be anything.
  const { endpoints, problem, version }: {
    readonly endpoints?: unknown
    readonly problem?: unknown
    readonly version?: Version
  } = given
  if (!Array.isArray(endpoints)) {
    throw unexpected("the endpoints of the resolver", "an array", endpoints)
  }
  const list: ReadonlyArray<Endpoint> = [...endpoints]
  list.forEach(discard)
  list.forEach(checkEndpoint)
  return problem === undefined ? { endpoints: list, version } : { endpoints: list, version, problem: textOf(problem) }
}

/** What a user's code gives as a resolver. It throws where that is none. */
export const checkedResolver = (given: unknown): Resolver => {
  if (!isObject(given) || !("resolve" in given) || typeof given.resolve !== "function") {
    throw unexpected("the resolver", "an object with resolve", given)
  }
  // It has what makes one; what else it has is looked at where it is used.
  return given as Resolver
}

/** Asks a resolver. What is no answer is a defect. */
export const ask = (resolver: Resolver, version?: Version): Effect.Effect<Resolution, ResolverError> =>
  Effect.map(
    isolated(effectOf("the resolve of the resolver", () => checkedResolver(resolver).resolve(version)), identity),
    checkedResolution
  )

/**
 * Tells a resolver that what it has answered may be out of date. What goes wrong with that is logged; it ends in any
 * case.
 */
export const refreshed = (refresh: Effect.Effect<void>): Effect.Effect<void> =>
  Effect.catchCause(
    isolated(effectOf("the refresh of the resolver", () => refresh), identity),
    (cause) =>
      Cause.hasInterruptsOnly(cause)
        ? Effect.void
        : logged(Effect.logWarning("the resolver could not be told to look again", cause))
  )

/**
 * Tells it time after time, and once more where it is to be told while it is being told: one that is never done is told
 * once.
 */
export const refresher = (refresh: Effect.Effect<void>, run: (effect: Effect.Effect<void>) => void): () => void => {
  let isTelling = false
  let again = false
  const tell: Effect.Effect<void> = Effect.suspend(() => {
    again = false
    return Effect.flatMap(refreshed(refresh), () => {
      if (again) return tell
      isTelling = false
      return Effect.void
    })
  })
  return () => {
    if (isTelling) {
      again = true
      return
    }
    isTelling = true
    run(tell)
  }
}
