import { assert, describe, it } from "@effect/vitest"
import { Cause, Deferred, Effect, Exit, Fiber } from "effect"
import { asEffect, discard, effectOf, isolated, notAnEffect, shown, unexpected } from "../../src/internal/guard.ts"

const revoked = () => {
  const { proxy, revoke } = Proxy.revocable({}, {})
  revoke()
  return proxy
}

/** What an effect dies with. */
const defectOf = (effect: Effect.Effect<unknown, unknown>) =>
  Effect.map(Effect.exit(effect), (exit) => Exit.isFailure(exit) ? String(Cause.squash(exit.cause)) : "no defect")

describe("a value in the text of an error", () => {
  it("is shown in full where it is short", () => {
    assert.strictEqual(shown(7), "7")
    assert.strictEqual(shown(Effect.void), "an Effect, which has to be run first")
    assert.strictEqual(shown(new Uint8Array(3)), "a Uint8Array of 3 bytes")
  })

  it("is cut where it is long, and never throws", () => {
    assert.isBelow(shown("x".repeat(1_000_000)).length, 250)
    assert.strictEqual(shown(revoked()), "a object")
  })
})

describe("an effect of a user's code", () => {
  it.effect("is passed on unchanged", () =>
    Effect.gen(function*() {
      assert.strictEqual(yield* effectOf("the dial", () => Effect.succeed(1)), 1)
      assert.strictEqual(yield* asEffect("the dial", Effect.succeed(2)), 2)
    }))

  it.effect("is a defect that says what was given where it is something else, or where the code throws", () =>
    Effect.gen(function*() {
      const text = yield* defectOf(asEffect<void, never, never>("the dial", 7 as never))
      assert.strictEqual(text, "TypeError: the dial: expected an Effect, got 7")
      assert.strictEqual(notAnEffect("the dial", 7).message, "the dial: expected an Effect, got 7")
      assert.match(
        yield* defectOf(asEffect<void, never, never>("the dial", revoked() as never)),
        /^TypeError: the dial: expected an Effect/
      )
      const throws = effectOf<never, never, never>("the dial", () => {
        throw new Error("broken")
      })
      assert.strictEqual(yield* defectOf(throws), "Error: broken")
    }))

  it.effect("that is isolated is interrupted with its caller, and gives its result otherwise", () =>
    Effect.gen(function*() {
      assert.strictEqual(yield* Effect.uninterruptibleMask((restore) => isolated(Effect.succeed(1), restore)), 1)
      const interrupted = yield* Deferred.make<void>()
      const never = Effect.onInterrupt(Effect.never, () => Deferred.succeed(interrupted, undefined))
      const fiber = yield* Effect.forkChild(Effect.uninterruptibleMask((restore) => isolated(never, restore)), {
        startImmediately: true
      })
      yield* Fiber.interrupt(fiber)
      yield* Deferred.await(interrupted)
    }))
})

it("a promise that is not used does not end the process when it is rejected", async () => {
  const unhandled: Array<unknown> = []
  const note = (reason: unknown) => void unhandled.push(reason)
  process.on("unhandledRejection", note)
  discard(Promise.reject(new Error("not used")))
  assert.match(
    unexpected("the result", "bytes", Promise.reject(new Error("not used"))).message,
    /^the result: expected bytes/
  )
  // A rejection is reported at the end of the turn.
  await new Promise<void>((resolve) => void setImmediate(resolve))
  process.off("unhandledRejection", note)
  assert.deepStrictEqual(unhandled, [])
})
