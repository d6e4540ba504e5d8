import { describe, it } from "@effect/vitest"
import { Effect, Fiber } from "effect"
import * as assert from "node:assert/strict"
import { Latest } from "../../src/internal/latest.ts"

/** A fiber that takes one value after another, and what it has taken. */
const follower = <A>(latest: Latest<A>) => {
  const taken: Array<A> = []
  const follow = Effect.gen(function*() {
    while (true) taken.push(yield* latest.after(latest.version))
  })
  return Effect.map(Effect.forkChild(follow, { startImmediately: true }), (fiber) => ({ fiber, taken }))
}

const turn = Effect.promise(() => Promise.resolve())

describe("the latest value", () => {
  it.effect("is answered at once where the version is older", () =>
    Effect.gen(function*() {
      const latest = new Latest<string>("a")
      const { version } = latest
      latest.set("b")
      latest.set("c")
      assert.equal(yield* latest.after(version), "c")
      assert.equal(latest.value, "c")
    }))

  it.effect("reaches waiting fibers before set returns", () =>
    Effect.gen(function*() {
      const latest = new Latest<string>("a")
      const { taken } = yield* follower(latest)
      latest.set("b")
      assert.deepEqual(taken, ["b"])
      latest.set("c")
      assert.deepEqual(taken, ["b", "c"])
    }))

  it.effect("is given once to fibers that wait again meanwhile", () =>
    Effect.gen(function*() {
      const latest = new Latest<string>("a")
      const first = yield* follower(latest)
      const second = yield* follower(latest)
      latest.set("b")
      assert.deepEqual([first.taken, second.taken], [["b"], ["b"]])
      assert.equal(latest.waiting, 2)
    }))

  it.effect("is not missed where it is set after a fiber has read the version, and before it waits", () =>
    Effect.gen(function*() {
      const latest = new Latest<string>("a")
      // The effect is made first, and run when the value is another one already.
      const waiting = latest.after(latest.version)
      latest.set("b")
      assert.equal(yield* waiting, "b")
      const waitingLater = latest.after(latest.version)
      latest.setAndResumeLater("c")
      assert.equal(yield* waitingLater, "c")
    }))

  it.effect("that is set in the middle of something reaches those who wait after it, once for all that were set", () =>
    Effect.gen(function*() {
      const latest = new Latest<string>("a")
      const { taken } = yield* follower(latest)
      latest.setAndResumeLater("b")
      latest.setAndResumeLater("c")
      assert.deepEqual([latest.value, latest.version], ["c", 2])
      assert.deepEqual(taken, [])
      yield* turn
      assert.deepEqual(taken, ["c"])
    }))

  it.effect("does not reach a fiber that was interrupted", () =>
    Effect.gen(function*() {
      const latest = new Latest<string>("a")
      const { fiber, taken } = yield* follower(latest)
      assert.equal(latest.waiting, 1)
      yield* Fiber.interrupt(fiber)
      assert.equal(latest.waiting, 0)
      latest.set("b")
      assert.deepEqual(taken, [])
    }))

  it("reaches only those waiters that it is news for", () => {
    const latest = new Latest<number>(0)
    const resumed: Array<string> = []
    latest.join({ isNews: (value) => value > 1, resume: () => resumed.push("above 1") })
    latest.join({ resume: () => resumed.push("any") })
    latest.set(1)
    assert.deepEqual(resumed, ["any"])
    latest.set(2)
    assert.deepEqual(resumed, ["any", "above 1"])
  })

  it("does not reach a waiter that another one has removed", () => {
    const latest = new Latest<number>(0)
    const resumed: Array<string> = []
    latest.join({
      resume: () => {
        resumed.push("first")
        leave()
      }
    })
    const leave = latest.join({ resume: () => resumed.push("second") })
    latest.set(1)
    assert.deepEqual(resumed, ["first"])
  })

  it.effect("stays when waiting fibers get a failure", () =>
    Effect.gen(function*() {
      const latest = new Latest<string, string>("a")
      const waiting = yield* Effect.forkChild(Effect.flip(latest.next), { startImmediately: true })
      latest.tell(Effect.fail("lost"))
      assert.equal(yield* Fiber.join(waiting), "lost")
      assert.deepEqual([latest.value, latest.version, latest.waiting], ["a", 0, 0])
    }))
})
