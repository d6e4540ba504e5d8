/**
 * A short run of what `npm run fuzz` does for longer. Each run is another one; what a failure prints is run again by
 * `npm run fuzz -- --direction server --seed N --path P` (or `client`), with the seed and the path of fast-check's
 * report.
 */
import { describe, it } from "@effect/vitest"
import { Effect, type Scope } from "effect"
import * as fc from "fast-check"
import * as assert from "node:assert/strict"
import { clientTarget } from "./againstClient.ts"
import { serverTarget } from "./againstServer.ts"
import { batchesOf } from "./batches.ts"
import { ProcessWatch, type Target } from "./harness.ts"

const watched = Effect.acquireRelease(
  Effect.sync(() => {
    const watch = new ProcessWatch()
    // Exceptions are the test runner's.
    watch.start({ exceptions: false })
    return watch
  }),
  (watch) => Effect.sync(() => watch.stop())
)

/** Some batches of cases; gives what was seen. */
const fuzz = Effect.fnUntraced(function*<Case>(make: Effect.Effect<Target<Case>, never, Scope.Scope>, numRuns: number) {
  const watch = yield* watched
  const target = yield* make
  const property = batchesOf(target, watch, { shrinkTime: 10_000 })
  yield* Effect.promise(() => fc.assert(property, { numRuns }))
  assert.equal(yield* Effect.promise(target.audit), undefined)
  for (const { calls, name } of target.neighbours) assert.ok(calls > 0, `the neighbour ${name} made no call`)
  return target.seen
}, Effect.scoped)

describe("conversations that were changed anywhere", () => {
  it.live(
    "are answered by a server as their bytes ask for, or cost their connection and nothing more",
    () =>
      Effect.gen(function*() {
        const seen = yield* fuzz(serverTarget, 50)
        for (const what of ["response", "response error", "version", "connection closed"]) {
          assert.ok((seen.get(what) ?? 0) > 30, `${what}: ${seen.get(what)}`)
        }
      })
  )

  it.live(
    "end a client's calls as their bytes say, or with the connection, and the next one works",
    () =>
      Effect.gen(function*() {
        const seen = yield* fuzz(clientTarget, 50)
        for (const what of ["success", "RemoteError", "Protocol", "TooLarge", "Lost", "Unreachable", "interrupted"]) {
          assert.ok((seen.get(what) ?? 0) > 30, `${what}: ${seen.get(what)}`)
        }
      })
  )
})
