import { describe, it } from "@effect/vitest"
import { Context, Effect } from "effect"
import { HandlerMap, MethodKey } from "effect-call"
import * as assert from "node:assert/strict"
import { entriesSet } from "./support/mapWork.ts"

const component = "test/Numbers"

/** A handler that answers a number. */
const answers = (n: number): HandlerMap.Handler => () => Effect.succeed(Uint8Array.of(n))

/** What a map serves: each method's name and the number that it answers. */
const served = (map: HandlerMap.HandlerMap<never>) =>
  Effect.map(
    Effect.forEach(map.entries.values(), ({ handler, key }) =>
      Effect.map(handler!(new Uint8Array()), ([n]) => [key.method, n] as const)),
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

  it.effect("is immutable, and so are the maps that are made from it", () =>
    Effect.gen(function*() {
      const set = (map: HandlerMap.HandlerMap<never>, method: string, n: number) =>
        HandlerMap.set(map, component, method, answers(n))
      const one = set(HandlerMap.empty, "one", 1)
      const two = set(one, "two", 2)
      // Another of the same map, one that replaces what only a later map has, and one that goes on from the first.
      const three = set(one, "three", 3)
      const other = set(one, "two", 22)
      const replaced = set(two, "one", 11)
      const four = set(two, "four", 4)
      assert.deepEqual(yield* served(one), { one: 1 })
      const five = set(four, "five", 5)
      assert.deepEqual(yield* served(HandlerMap.empty), {})
      assert.deepEqual(yield* served(two), { one: 1, two: 2 })
      assert.deepEqual(yield* served(three), { one: 1, three: 3 })
      assert.deepEqual(yield* served(other), { one: 1, two: 22 })
      assert.deepEqual(yield* served(replaced), { one: 11, two: 2 })
      assert.deepEqual(yield* served(four), { one: 1, two: 2, four: 4 })
      assert.deepEqual(yield* served(five), { one: 1, two: 2, four: 4, five: 5 })
      assert.deepEqual([...five.entries.values()].map(({ key }) => key.method), ["one", "two", "four", "five"])
      assert.equal(five.entries, five.entries)
    }))

  it("takes no method from a later map: the key of one that was made of it is free in it", () => {
    const first = HandlerMap.set(HandlerMap.empty, component, "one", answers(1))
    HandlerMap.set(first, "shop", "stock.get", answers(2))
    const stock = HandlerMap.set(first, "shop.stock", "get", answers(3))
    assert.deepEqual([...stock.entries.values()].map(({ key }) => key.component), [component, "shop.stock"])
  })

  it("is not copied for each of many methods that are set one after the other", () => {
    let map: HandlerMap.HandlerMap<never> = HandlerMap.empty
    const work = entriesSet(() => {
      for (let i = 0; i < 1000; i++) map = HandlerMap.set(map, component, `m${i}`, answers(i))
    })
    assert.equal(map.entries.size, 1000)
    assert.ok(work <= 2000, `${work} entries were set for 1000 methods`)
  })

  it("refuses to add to what is no map", () => {
    for (const map of [5, undefined, {}, { entries: [] }]) {
      assert.throws(
        // Whatever its type says.
        () => HandlerMap.set(map as never, "a", "b", () => Effect.void as never),
        /what handlers are added to: expected a HandlerMap, got /
      )
    }
  })

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
      const results = yield* Effect.forEach(merged.entries.values(), ({ handler }) => handler!(new Uint8Array())).pipe(
        Effect.provideService(A, 1),
        Effect.provideService(B, 2)
      )
      assert.deepEqual(results, [Uint8Array.of(1), Uint8Array.of(2)])
    }))
})

describe("HandlerMap.setStream", () => {
  const gives: HandlerMap.StreamHandler = (_args, items) => items

  it("adds handlers of streams, data-first and data-last, beside those of calls", () => {
    const map = HandlerMap.setStream(HandlerMap.empty, component, "one", gives).pipe(
      HandlerMap.set(component, "two", answers(2)),
      HandlerMap.setStream(component, "three", gives)
    )
    assert.deepEqual(
      [...map.entries.values()].map((
        { handler, key, stream }
      ) => [key.method, handler !== undefined, stream === gives]),
      [["one", false, true], ["two", true, false], ["three", false, true]]
    )
  })

  it("shares its keys with calls: the later handler counts", () => {
    const map = HandlerMap.set(HandlerMap.empty, component, "one", answers(1)).pipe(
      HandlerMap.setStream(component, "one", gives)
    )
    const [entry] = [...map.entries.values()]
    assert.deepEqual([map.entries.size, entry?.stream, entry?.handler], [1, gives, undefined])
    assert.throws(
      () => HandlerMap.set(HandlerMap.empty, "a.b", "c", answers(1)).pipe(HandlerMap.setStream("a", "b.c", gives)),
      /two methods have the same key/
    )
  })

  it("refuses what is no function", () => {
    // The cast: a user without types may give anything.
    const none = 7 as unknown as HandlerMap.StreamHandler
    assert.throws(
      () => HandlerMap.setStream(HandlerMap.empty, component, "one", none),
      /^TypeError: the handler of test\/Numbers.one: expected a function that gives a Stream, got 7$/
    )
  })
})
