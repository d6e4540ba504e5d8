import { describe, it } from "@effect/vitest"
import { Deferred, Effect, Fiber, FileSystem } from "effect"
import { Endpoint } from "effect-call"
import * as assert from "node:assert/strict"
import { file } from "../../../src/internal/resolver/file.ts"
import { addresses } from "../../support/resolve.ts"

describe("a file that two look for", () => {
  it.effect("is there for good once one of them has found it, also where the other look began before", () =>
    Effect.gen(function*() {
      const slow = yield* Deferred.make<boolean>()
      const answers = [Deferred.await(slow), Effect.succeed(true)]
      const resolver = yield* file("/run/cart.ready", [Endpoint.tcp("a:1")]).pipe(
        Effect.provide(FileSystem.layerNoop({ exists: () => answers.shift() ?? Effect.succeed(false) }))
      )
      const first = yield* Effect.forkChild(resolver.resolve(), { startImmediately: true })
      assert.deepEqual(addresses(yield* resolver.resolve()), ["tcp://a:1"])
      yield* Deferred.succeed(slow, false)
      assert.deepEqual(addresses(yield* Fiber.join(first)), ["tcp://a:1"])
      assert.deepEqual(addresses(yield* resolver.resolve()), ["tcp://a:1"])
    }))
})
