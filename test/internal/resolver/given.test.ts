import { describe, it } from "@effect/vitest"
import { Deferred, Effect } from "effect"
import * as assert from "node:assert/strict"
import { refresher } from "../../../src/internal/resolver/given.ts"

/** A refresh that ends when it is told to, and how often it has begun. */
const make = Effect.gen(function*() {
  const context = yield* Effect.context<never>()
  const gates: Array<Deferred.Deferred<void>> = []
  const refresh = Effect.suspend(() => {
    const gate = Deferred.makeUnsafe<void>()
    gates.push(gate)
    return Deferred.await(gate)
  })
  const tell = refresher(refresh, (effect) => void Effect.runForkWith(context)(effect))
  const end = (n: number) => Effect.andThen(Deferred.succeed(gates[n]!, undefined), Effect.yieldNow)
  return { tell, end, begun: () => gates.length }
})

describe("the refresher of a resolver", () => {
  it.effect("runs the refresh each time that it is called", () =>
    Effect.gen(function*() {
      const { begun, end, tell } = yield* make
      tell()
      assert.equal(begun(), 1)
      yield* end(0)
      tell()
      assert.equal(begun(), 2)
      yield* end(1)
    }))

  it.effect("runs one refresh at a time, and one more after it for all calls that came meanwhile", () =>
    Effect.gen(function*() {
      const { begun, end, tell } = yield* make
      tell()
      tell()
      tell()
      assert.equal(begun(), 1)
      yield* end(0)
      assert.equal(begun(), 2)
      yield* end(1)
      assert.equal(begun(), 2)
      tell()
      assert.equal(begun(), 3)
      yield* end(2)
    }))
})
