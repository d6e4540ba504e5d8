/**
 * Asks resolvers, which may be custom ones: their answers are checked before they are used.
 *
 * It knows no kind of resolver, and does not know who asks.
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import { identity } from "effect/Function"
import type { Endpoint } from "../../Endpoint.ts"
import { discard, effectOf, isolated, shown, unexpected } from "../guard.ts"
import { logged } from "../log.ts"
import { textOf } from "../userError.ts"
import type { Resolution, Resolver, ResolverError } from "./model.ts"
import type { Version } from "./version.ts"

const isObject = (u: unknown): u is object => typeof u === "object" && u !== null

/** Throws if an endpoint is invalid: that is a bug of the resolver. */
const checkEndpoint = (given: unknown): void => {
  if (!isObject(given)) throw unexpected("what the resolver lists", "an Endpoint", given)
  // The types promise more than user code may keep.
  const { address, priority = 0, weight = 1, zone }: { readonly [K in keyof Endpoint]?: unknown } = given
  if (typeof address !== "string") {
    throw unexpected("the address of an endpoint", "a text", address)
  }
  if (typeof weight !== "number" || !(weight > 0 && weight < Infinity)) {
    throw new RangeError(`the weight of ${address}: expected a number above 0, got ${shown(weight)}`)
  }
  if (typeof priority !== "number" || !Number.isInteger(priority) || priority < 0) {
    throw new RangeError(`the priority of ${address}: expected a whole number, 0 or more, got ${shown(priority)}`)
  }
  if (zone !== undefined && typeof zone !== "string") {
    throw unexpected(`the zone of ${address}`, "the name of a zone", zone)
  }
}

/** Reads and checks an answer. Each of its fields is read once: getters may give another value each time. */
const checkedResolution = (given: unknown): Resolution => {
  if (!isObject(given)) throw unexpected("the answer of the resolver", "endpoints and a version", given)
  discard(given)
  // The types promise more than user code may keep.
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

/** The given value as a resolver. It throws if the value is no resolver. */
export const checkedResolver = (given: unknown): Resolver => {
  if (!isObject(given) || !("resolve" in given) || typeof given.resolve !== "function") {
    throw unexpected("the resolver", "an object with resolve", given)
  }
  // It has `resolve`. The other fields are checked where they are used.
  return given as Resolver
}

/** Asks a resolver. An invalid answer is a defect. */
export const ask = (resolver: Resolver, version?: Version): Effect.Effect<Resolution, ResolverError> =>
  Effect.map(
    isolated(effectOf("the resolve of the resolver", () => checkedResolver(resolver).resolve(version)), identity),
    checkedResolution
  )

/** Tells a resolver that its answer may be out of date. It does not fail: failures are logged. */
export const refreshed = (refresh: Effect.Effect<void>): Effect.Effect<void> =>
  Effect.catchCause(
    isolated(effectOf("the refresh of the resolver", () => refresh), identity),
    (cause) =>
      Cause.hasInterruptsOnly(cause)
        ? Effect.void
        : logged(Effect.logWarning("the resolver could not be refreshed", cause))
  )

/**
 * Runs a resolver's `refresh` whenever it is called, one at a time. If it is called while `refresh` runs, `refresh`
 * runs once more afterwards.
 *
 *     idle ── called ──▶ running ── called ──▶ runningAgain
 *       ▲                │     ▲                    │
 *       └───── done ─────┘     └─────── done ───────┘
 */
export const refresher = (refresh: Effect.Effect<void>, run: (effect: Effect.Effect<void>) => void): () => void => {
  let state: "idle" | "running" | "runningAgain" = "idle"
  const tell: Effect.Effect<void> = Effect.suspend(() => {
    state = "running"
    return Effect.flatMap(refreshed(refresh), () => {
      if (state === "runningAgain") return tell
      state = "idle"
      return Effect.void
    })
  })
  return () => {
    if (state === "idle") {
      state = "running"
      run(tell)
    } else {
      state = "runningAgain"
    }
  }
}
