import { describe, it } from "@effect/vitest"
import { Effect, Fiber } from "effect"
import * as assert from "node:assert/strict"
import { Changes } from "../../../src/internal/client/changes.ts"

/** A caller that waits for another change than the ones it has seen, and how often that has come. */
const waiting = (changes: Changes) => {
  const seen = { woken: 0 }
  const wait = Effect.suspend(() => changes.after(changes.count)).pipe(
    Effect.andThen(Effect.sync(() => void seen.woken++)),
    Effect.forever
  )
  return Effect.map(Effect.forkChild(wait, { startImmediately: true }), (fiber) => ({ fiber, seen }))
}

describe("changes", () => {
  it.effect("that have come already are not waited for", () =>
    Effect.gen(function*() {
      const changes = new Changes()
      const before = changes.count
      changes.note()
      yield* changes.after(before)
    }))

  it.effect("wake the callers that wait at once", () =>
    Effect.gen(function*() {
      const changes = new Changes()
      const { seen } = yield* waiting(changes)
      changes.note()
      assert.equal(seen.woken, 1)
    }))

  it.effect("in the middle of a change wake the callers that wait after it, and once", () =>
    Effect.gen(function*() {
      const changes = new Changes()
      const { seen } = yield* waiting(changes)
      changes.noteForLater()
      changes.noteForLater()
      assert.equal(seen.woken, 0)
      yield* Effect.promise(() => Promise.resolve())
      assert.equal(seen.woken, 1)
    }))

  it.effect("have no effect on callers that no longer wait", () =>
    Effect.gen(function*() {
      const changes = new Changes()
      const { fiber, seen } = yield* waiting(changes)
      yield* Fiber.interrupt(fiber)
      changes.note()
      assert.equal(seen.woken, 0)
    }))
})
