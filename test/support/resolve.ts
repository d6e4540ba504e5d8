/** Helpers to look at what resolvers answer. */
import { Effect, type Fiber, type Scope } from "effect"
import type { Resolver } from "effect-call"

export const addresses = ({ endpoints }: Resolver.Resolution): ReadonlyArray<string> =>
  endpoints.map(({ address }) => address)

/** Asks for something newer, in a fiber that has begun to wait when this returns. */
export const next = (
  resolver: Resolver.Resolver,
  { version }: Resolver.Resolution
): Effect.Effect<Fiber.Fiber<Resolver.Resolution, Resolver.ResolverError>, never, Scope.Scope> =>
  Effect.forkScoped(resolver.resolve(version), { startImmediately: true })

/** Whether a fiber still waits. */
export const waits = (fiber: Fiber.Fiber<unknown, unknown>): boolean => fiber.pollUnsafe() === undefined

/** Asks a resolver, as a Connection does, until its endpoints are those. */
export const until = Effect.fnUntraced(function*(
  resolver: Resolver.Resolver,
  expected: ReadonlyArray<string>
): Effect.fn.Return<Resolver.Resolution, Resolver.ResolverError> {
  let resolution = yield* resolver.resolve()
  while (addresses(resolution).join() !== expected.join()) {
    resolution = yield* resolver.resolve(resolution.version)
  }
  return resolution
})
