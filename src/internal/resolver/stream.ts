/**
 * A resolver whose endpoints are the last element of a stream. It does not know where the stream comes from.
 */
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import { identity } from "effect/Function"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import type { Endpoint } from "../../Endpoint.ts"
import { withoutCaller } from "../ambient/background.ts"
import { isolated } from "../guard.ts"
import { Latest } from "../latest.ts"
import { textOf } from "../userError.ts"
import { type Resolution, resolution, type Resolver, ResolverError } from "./model.ts"
import { again, versions } from "./version.ts"

type Answer = Effect.Effect<Resolution, ResolverError>

const failed = (cause: Cause.Cause<unknown>): ResolverError => {
  const error = Cause.squash(cause)
  return new ResolverError({
    message: `the stream of endpoints has failed: ${textOf(error)}`,
    cause: error
  })
}

export const fromStream = Effect.fnUntraced(function*<E, R>(
  stream: Stream.Stream<ReadonlyArray<Endpoint>, E, R>
): Effect.fn.Return<Resolver, never, R | Scope.Scope> {
  const scope = yield* Effect.scope
  // The stream may use the Scope. The end of this Scope ends the stream.
  const context = Context.add(withoutCaller(yield* Effect.context<R>()), Scope.Scope, scope)
  const nextVersion = versions("stream")
  const latest = new Latest<Resolution, ResolverError, undefined>(undefined)
  /** The answer to waiters once the stream is over. */
  let over: Answer | undefined

  const ended = (exit: Exit.Exit<void, E>): Answer => {
    if (Exit.isFailure(exit)) return Effect.fail(failed(exit.cause))
    return latest.value === undefined
      ? Effect.fail(new ResolverError({ message: "the stream of endpoints has ended without an element" }))
      : Effect.never
  }

  const wait: Answer = Effect.suspend(() => over ?? latest.next)

  const elements = Stream.runForEach(stream, (endpoints) =>
    Effect.sync(() => {
      latest.set({ endpoints, version: nextVersion() })
    }))
  const following = Effect.onExit(isolated(elements, identity), (exit) =>
    Effect.sync(() => {
      over = ended(exit)
      const last = latest.value
      if (Exit.isSuccess(exit) && last?.version !== undefined && last.endpoints.length === 0) {
        latest.set(
          resolution([], again(last.version), "the stream of endpoints has ended, and its last element is empty")
        )
      }
      latest.tell(over)
    }))
  yield* Effect.forkIn(Effect.updateContext<void, E, R, never>(following, () => context), scope, {
    startImmediately: true
  })

  return {
    isConstant: false,
    resolve: (seen) =>
      Effect.suspend(() => {
        const last = latest.value
        return last === undefined || seen === last.version ? wait : Effect.succeed(last)
      })
  }
})
