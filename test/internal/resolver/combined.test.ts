/**
 * Several resolvers as one: when its answers are the same, and when they are news.
 */
import { describe, it } from "@effect/vitest"
import { Effect, Equal, Fiber, SubscriptionRef } from "effect"
import { Endpoint, Resolver } from "effect-call"
import * as assert from "node:assert/strict"
import { combined } from "../../../src/internal/resolver/combined.ts"
import { version } from "../../../src/internal/resolver/version.ts"

const a = Endpoint.tcp("a:1")
const b = Endpoint.tcp("b:1")

describe("combined resolvers", () => {
  it.effect("are constant where all of them are, and have no versions then", () =>
    Effect.gen(function*() {
      const resolver = combined([Resolver.constant(a), Resolver.constant(b, a)])
      assert.ok(resolver.isConstant)
      const { endpoints, version: none } = yield* resolver.resolve()
      assert.deepEqual([endpoints.map(({ address }) => address), none], [["tcp://a:1", "tcp://b:1"], undefined])
    }))

  it.effect("answer with the same object while nothing has changed", () =>
    Effect.gen(function*() {
      const ref = yield* SubscriptionRef.make<ReadonlyArray<Endpoint.Endpoint>>([a])
      const resolver = combined([Resolver.fromSubscriptionRef(ref), Resolver.constant(b)])
      const first = yield* resolver.resolve()
      assert.equal(yield* resolver.resolve(), first)
    }))

  it.effect("answer a version that they do not know at once, and their own when something changes", () =>
    Effect.gen(function*() {
      const ref = yield* SubscriptionRef.make<ReadonlyArray<Endpoint.Endpoint>>([a])
      const resolver = combined([Resolver.fromSubscriptionRef(ref), Resolver.constant(b)])
      const first = yield* resolver.resolve()
      assert.equal(yield* resolver.resolve(version("other")), first)
      const waiting = yield* Effect.forkChild(resolver.resolve(first.version), { startImmediately: true })
      assert.equal(waiting.pollUnsafe(), undefined)
      yield* SubscriptionRef.set(ref, [])
      const second = yield* Fiber.join(waiting)
      assert.deepEqual(second.endpoints.map(({ address }) => address), ["tcp://b:1"])
      assert.ok(!Equal.equals(second.version, first.version))
    }))
})
