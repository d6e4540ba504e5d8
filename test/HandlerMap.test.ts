import { describe, it } from "@effect/vitest"
import { Context, Effect } from "effect"
import { HandlerMap, MethodKey } from "effect-call"
import * as assert from "node:assert/strict"

const component = "test/Numbers"

/** A handler that answers a number. */
const answers = (n: number): HandlerMap.Handler => () => Effect.succeed(Uint8Array.of(n))

/** What a map serves: each method's name and the number that it answers. */
const served = (map: HandlerMap.HandlerMap<never>) =>
  Effect.map(
    Effect.forEach(map.entries.values(), ({ handler, key }) =>
      Effect.map(handler(new Uint8Array()), ([n]) => [key.method, n] as const)),
    Object.fromEntries
  )

describe("HandlerMap", () => {
  it.effect("serves nothing at first, and what is set then, data-first and data-last", () =>
    Effect.gen(function*() {
      assert.deepEqual(yield* served(HandlerMap.empty), {})
      const map = HandlerMap.set(HandlerMap.empty, component, "one", answers(1)).pipe(
        HandlerMap.set(component, "two", answers(2))
      )
      assert.deepEqual(yield* served(map), { one: 1, two: 2 })
    }))

  it("finds its handlers by the keys of their methods", () => {
    const map = HandlerMap.set(HandlerMap.empty, component, "one", answers(1))
    const key = MethodKey.make(component, "one")
    assert.deepEqual([...map.entries.keys()], [key.hex])
    assert.ok(map.entries.get(key.hex)?.key.bytes.every((byte, i) => byte === key.bytes[i]))
  })

  it.effect("is a value: what is set makes another map, and takes the place of what was there", () =>
    Effect.gen(function*() {
      const one = HandlerMap.set(HandlerMap.empty, component, "one", answers(1))
      const other = HandlerMap.set(one, component, "one", answers(11))
      assert.deepEqual(yield* served(one), { one: 1 })
      assert.deepEqual(yield* served(other), { one: 11 })
      assert.deepEqual(yield* served(HandlerMap.empty), {})
    }))

  it("refuses names that make the key of another method, since a dot joins them", () => {
    const shop = HandlerMap.set(HandlerMap.empty, "shop", "stock.get", answers(1))
    const expected =
      /TypeError: two methods have the same key.*"shop" with method "stock.get" and "shop.stock" with "get"/
    assert.throws(() => HandlerMap.set(shop, "shop.stock", "get", answers(2)), expected)
    const stock = HandlerMap.set(HandlerMap.empty, "shop.stock", "get", answers(2))
    assert.throws(() => HandlerMap.merge(shop, stock), expected)
  })

  it.effect("is merged with others, and of two handlers of a method the later one counts", () =>
    Effect.gen(function*() {
      const a = HandlerMap.empty.pipe(
        HandlerMap.set(component, "one", answers(1)),
        HandlerMap.set(component, "two", answers(2))
      )
      const b = HandlerMap.empty.pipe(
        HandlerMap.set(component, "two", answers(22)),
        HandlerMap.set(component, "three", answers(3))
      )
      assert.deepEqual(yield* served(HandlerMap.merge(a, b)), { one: 1, two: 22, three: 3 })
      assert.deepEqual(yield* served(HandlerMap.merge(b, a)), { one: 1, two: 2, three: 3 })
      assert.deepEqual(yield* served(a), { one: 1, two: 2 })
      // With nothing to merge it needs nothing: `unknown` would not be `never`.
      assert.deepEqual(yield* served(HandlerMap.merge()), {})
    }))

  it.effect("needs what any of its handlers needs", () =>
    Effect.gen(function*() {
      class A extends Context.Service<A, number>()("A") {}
      class B extends Context.Service<B, number>()("B") {}
      const a = HandlerMap.set(HandlerMap.empty, component, "a", () => A.useSync((n) => Uint8Array.of(n)))
      const b = HandlerMap.set(HandlerMap.empty, component, "b", () => B.useSync((n) => Uint8Array.of(n)))
      const merged: HandlerMap.HandlerMap<A | B> = HandlerMap.merge(a, b, HandlerMap.empty)
      const results = yield* Effect.forEach(merged.entries.values(), ({ handler }) => handler(new Uint8Array())).pipe(
        Effect.provideService(A, 1),
        Effect.provideService(B, 2)
      )
      assert.deepEqual(results, [Uint8Array.of(1), Uint8Array.of(2)])
    }))
})
