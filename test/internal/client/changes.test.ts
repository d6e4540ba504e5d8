import { describe, it } from "@effect/vitest"
import { Effect, Fiber } from "effect"
import * as assert from "node:assert/strict"
import { Changes } from "../../../src/internal/client/changes.ts"

/** Somebody who waits for another change than those that were seen, and how often that has come. */
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

  it.effect("wake those who wait at once", () =>
    Effect.gen(function*() {
      const changes = new Changes()
      const { seen } = yield* waiting(changes)
      changes.note()
      assert.equal(seen.woken, 1)
    }))

  it.effect("in the middle of something wake those who wait after it, and once", () =>
    Effect.gen(function*() {
      const changes = new Changes()
      const { seen } = yield* waiting(changes)
      changes.noteForLater()
      changes.noteForLater()
      assert.equal(seen.woken, 0)
      yield* Effect.promise(() => Promise.resolve())
      assert.equal(seen.woken, 1)
    }))

  it.effect("are nothing to those who wait no more", () =>
    Effect.gen(function*() {
      const changes = new Changes()
      const { fiber, seen } = yield* waiting(changes)
      yield* Fiber.interrupt(fiber)
      changes.note()
      assert.equal(seen.woken, 0)
    }))
})
