/**
 * The contract of a resolver: its methods, its answers and its errors. `Resolver.ts` exports the public part.
 *
 * It knows no kind of resolver.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import type { Endpoint } from "../../Endpoint.ts"
import { textOf } from "../userError.ts"
import type { Version } from "./version.ts"

/**
 * The answer of a resolver: the endpoints that can be called now.
 *
 * @category models
 * @since 0.1.0
 */
export interface Resolution {
  /** All current endpoints, in the order of the resolver. There may be none. */
  readonly endpoints: ReadonlyArray<Endpoint>
  /** The version of this set of endpoints. A constant resolver gives none. */
  readonly version?: Version | undefined
  /**
   * Why there are no endpoints, or fewer than expected, if the resolver knows the reason: `"cart.internal" is not in
   * DNS (ENOTFOUND)`. Default: no problem is known.
   *
   * **Details**
   *
   * Calls that fail because of it have it in their messages. It can change while the version stays.
   */
  readonly problem?: string | undefined
}

/**
 * Tells a Connection which endpoints it can call, now and later.
 *
 * **When to use**
 *
 * Give it to `Connection.make`, or provide it with `Resolver.layer`. Implement it for a source of endpoints that this
 * package has no resolver for.
 *
 * **Details**
 *
 * One resolver can serve several connections. They can ask it at the same time.
 *
 * **Example** (Following a resolver)
 *
 * ```ts
 * import { Console, Effect, Equal } from "effect"
 * import type { Resolver } from "effect-call"
 *
 * const printAddresses = Effect.fn("printAddresses")(function*(resolver: Resolver.Resolver) {
 *   let version: Resolver.Version | undefined
 *   while (true) {
 *     const resolution = yield* resolver.resolve(version)
 *     for (const endpoint of resolution.endpoints) yield* Console.log(endpoint.address)
 *     if (resolver.isConstant) return
 *     if (Equal.equals(resolution.version, version)) yield* Effect.sleep("1 second")
 *     version = resolution.version
 *   }
 * })
 * ```
 *
 * Source: `type Resolver` of the Go package.
 *
 * @category models
 * @since 0.1.0
 */
export interface Resolver {
  /** Whether the endpoints never change, so that one `resolve` is enough. */
  readonly isConstant: boolean
  /**
   * The endpoints.
   *
   * **Details**
   *
   * - Without a version: the current set and its version, at once.
   * - With the version of an earlier answer, the resolver chooses one of two: it waits until there is a newer set, or
   *   it returns the same version, which means "ask again after a while".
   * - After a failure or the same version, a Connection asks again after 10 ms. Each further wait is 1.3 times as long,
   *   at most 1 second, and is shortened by up to 40 % at random.
   * - A constant resolver always returns the same endpoints and no version.
   *
   * The `problem` of an answer counts whatever its version is.
   *
   * **Gotchas**
   *
   * After a failure, a caller considers the resolver failing until it answers. So a resolver must answer as soon as it
   * works again, even if only with the same version.
   */
  resolve(version?: Version): Effect.Effect<Resolution, ResolverError>
  /**
   * Tells the resolver that its last answer may be out of date: an endpoint could not be dialed, or its connection was
   * lost. A resolver that looks from time to time then looks again soon. It limits itself how often it does so.
   * Default: the resolver notices changes without being told.
   */
  readonly refresh?: Effect.Effect<void> | undefined
}

/**
 * The service from which `Connection.layer` takes its resolver.
 *
 * @category services
 * @since 0.1.0
 */
export const Resolver: Context.Service<Resolver, Resolver> = Context.Service<Resolver>("effect-call/Resolver")

/**
 * A resolver could not determine its endpoints. A `Connection` keeps its last endpoints, and asks again.
 *
 * **Details**
 *
 * The first of several failures in a row is logged as a warning. `Connection.make` fails with this error if the
 * resolver fails at its first question.
 *
 * @category errors
 * @since 0.1.0
 */
export class ResolverError extends Schema.TaggedError<ResolverError>("effect-call/ResolverError")("ResolverError", {
  /** What could not be determined, and why. */
  message: Schema.String,
  /** The error behind it, for example a `DnsError`. Default: none. */
  cause: Schema.optionalKey(Schema.Defect())
}) {}

/**
 * A text names no resolver: `Resolver.parse` or `Resolver.config` cannot read it, or a name in it is no host name.
 *
 * @category errors
 * @since 0.1.0
 */
export class InvalidResolver
  extends Schema.TaggedError<InvalidResolver>("effect-call/Resolver/InvalidResolver")("InvalidResolver", {
    /** Which part of the text is wrong, and what was expected. */
    message: Schema.String,
    /** The text. */
    text: Schema.String
  })
{}

/** A resolver whose endpoints never change. */
export const constant = (endpoints: ReadonlyArray<Endpoint>): Resolver => {
  const resolution = Effect.succeed<Resolution>({ endpoints })
  return { isConstant: true, resolve: () => resolution }
}

export const resolution = (
  endpoints: ReadonlyArray<Endpoint>,
  version: Version,
  problem: string | undefined
): Resolution => problem === undefined ? { endpoints, version } : { endpoints, version, problem }

/** The problem of an answer, if there is one. A custom resolver can give any value for it. */
export const problemOf = ({ problem }: Resolution): ReadonlyArray<string> =>
  problem === undefined ? [] : [textOf(problem)]

/** Several problems as one; undefined if there are none. */
export const joined = (problems: ReadonlyArray<string>): string | undefined =>
  problems.length === 0 ? undefined : problems.join("; ")
