/**
 * A resolver whose endpoints are the last element of a stream.
 */
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import { identity } from "effect/Function"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import type { Endpoint } from "../../Endpoint.ts"
import type { Resolution, Resolver } from "../../Resolver.ts"
import { withoutCaller } from "../ambient/background.ts"
import { isolated } from "../guard.ts"
import { textOf } from "../userError.ts"
import { again, resolution, ResolverError, versions } from "./model.ts"

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
  // The stream may want the Scope, which is the one that ends it.
  const context = Context.add(withoutCaller(yield* Effect.context<R>()), Scope.Scope, scope)
  const nextVersion = versions("stream")
  const waiters = new Set<(answer: Answer) => void>()
  let latest: Resolution | undefined
  /** What those hear who wait for something newer; undefined while there may be something. */
  let over: Answer | undefined

  const answer = (result: Answer) => {
    const resumes = [...waiters]
    waiters.clear()
    for (const resume of resumes) resume(result)
  }

  const ended = (exit: Exit.Exit<void, E>): Answer => {
    if (Exit.isFailure(exit)) return Effect.fail(failed(exit.cause))
    return latest === undefined
      ? Effect.fail(new ResolverError({ message: "the stream of endpoints has ended without an element" }))
      : Effect.never
  }

  const emit = (next: Resolution) => {
    latest = next
    answer(Effect.succeed(next))
  }

  const wait: Answer = Effect.suspend(() =>
    over ?? Effect.callback<Resolution, ResolverError>((resume) => {
      waiters.add(resume)
      return Effect.sync(() => waiters.delete(resume))
    })
  )

  const elements = Stream.runForEach(stream, (endpoints) =>
    Effect.sync(() => {
      emit({ endpoints, version: nextVersion() })
    }))
  const following = Effect.onExit(isolated(elements, identity), (exit) =>
    Effect.sync(() => {
      over = ended(exit)
      if (Exit.isSuccess(exit) && latest?.version !== undefined && latest.endpoints.length === 0) {
        emit(
          resolution([], again(latest.version), "the stream of endpoints has ended, and its last element is empty")
        )
      }
      answer(over)
    }))
  yield* Effect.forkIn(Effect.updateContext<void, E, R, never>(following, () => context), scope, {
    startImmediately: true
  })

  return {
    isConstant: false,
    resolve: (seen) =>
      Effect.suspend(() =>
        latest === undefined || seen === latest.version
          ? wait
          : Effect.succeed(latest)
      )
  }
})
