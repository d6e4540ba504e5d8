/**
 * Servers and clients whose streams are Effect's.
 */
import { Cause, Effect, Fiber, Stream } from "effect"
import { type Feed, itemOf, served, type StreamClient } from "../system.ts"

/** What a handler answers: chunks that are there already. */
export const feedStream = ({ chunk, chunks, counted, itemBytes }: Feed): Stream.Stream<Uint8Array> => {
  served.streams++
  if (chunks === 0) return Stream.never
  const item = itemOf(itemBytes)
  const items = [item, ...Array.from({ length: chunk - 1 }, () => item)] as const
  const give = Effect.succeed(items)
  if (chunks === Infinity && !counted) return Stream.fromPull(Effect.succeed(give))
  let left = chunks
  const next = Effect.suspend(() => {
    if (left-- <= 0) return Cause.done()
    served.items += chunk
    return give
  })
  return Stream.fromPull(Effect.succeed(next))
}

/** One fiber for each stream. What comes is taken by plain code: an effect more would be the benchmark's own. */
export const effectStreams = <E, E2>(
  open: (feed: Feed) => Stream.Stream<Uint8Array, E>,
  call: (bytes: number) => Effect.Effect<Uint8Array, E2>
): StreamClient => ({
  call: (bytes) => Effect.runPromise(call(bytes)).then(({ length }) => length),
  open: (feed, streams, take) => {
    const consume = Effect.suspend(() =>
      Stream.runForEachArray(open(feed), (items) => take(items.length, items[0]) ? Effect.void : Effect.never)
    )
    const fibers = Array.from({ length: streams }, () => Effect.runFork(consume))
    return {
      ended: Effect.runPromise(Effect.asVoid(Fiber.joinAll(fibers))),
      stop: () => Effect.runPromise(Fiber.interruptAll(fibers))
    }
  }
})
