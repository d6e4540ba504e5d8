import { assert, describe, it } from "@effect/vitest"
import { Effect, Layer, Random } from "effect"
import { Balancer, CallError, Endpoint } from "effect-call"
import { isImmediate, pickNow } from "../src/internal/balancer/immediate.ts"

const endpoint = (port: number): Endpoint.Endpoint => Endpoint.tcp(`127.0.0.1:${port}`)
const e1 = endpoint(7001)
const e2 = endpoint(7002)
const e3 = endpoint(7003)
const e4 = endpoint(7004)
const noneExcluded: ReadonlySet<string> = new Set()
const avoiding = (...avoided: ReadonlyArray<Endpoint.Endpoint>): Balancer.PickOptions => ({
  avoid: new Set(avoided.map(({ address }) => address))
})
const picks = (balancer: Balancer.Balancer, times: number, options: Balancer.PickOptions = { avoid: noneExcluded }) =>
  Effect.map(
    Effect.all(Array.from({ length: times }, () => balancer.pick(options))),
    (picked) => picked.map(({ address }) => address)
  )
const addresses = (...picked: ReadonlyArray<Endpoint.Endpoint>) => picked.map(({ address }) => address)

describe("roundRobin", () => {
  it.effect("takes the endpoints in turn, beginning with the first", () =>
    Effect.gen(function*() {
      const balancer = yield* Balancer.roundRobin
      balancer.update([e1, e2, e3])
      assert.deepStrictEqual(yield* picks(balancer, 7), addresses(e1, e2, e3, e1, e2, e3, e1))
    }))

  it.effect("has nothing to pick before the first update and after an empty one", () =>
    Effect.gen(function*() {
      const balancer = yield* Balancer.roundRobin
      const before = yield* Effect.flip(balancer.pick({ avoid: noneExcluded }))
      assert.deepStrictEqual(before, new CallError.Unreachable({ message: "no endpoints", attempts: [] }))
      balancer.update([e1])
      balancer.update([])
      assert.strictEqual((yield* Effect.flip(balancer.pick({ avoid: noneExcluded }))).message, "no endpoints")
      balancer.update([e2])
      assert.deepStrictEqual(yield* picks(balancer, 2), addresses(e2, e2))
    }))

  it.effect("passes over excluded endpoints, and fails when none is left", () =>
    Effect.gen(function*() {
      const balancer = yield* Balancer.roundRobin
      balancer.update([e1, e2, e3])
      assert.deepStrictEqual(yield* picks(balancer, 3, avoiding(e1)), addresses(e2, e3, e2))
      assert.deepStrictEqual(yield* picks(balancer, 2, avoiding(e4)), addresses(e3, e1))
      const error = yield* Effect.flip(balancer.pick(avoiding(e1, e2, e3)))
      assert.strictEqual(error._tag, "Unreachable")
      assert.strictEqual(error.message, "every endpoint was tried, is in backoff or is ejected")
      assert.deepStrictEqual(yield* picks(balancer, 1), addresses(e2))
    }))

  it.effect("goes on where it was after an update with the same endpoints", () =>
    Effect.gen(function*() {
      const balancer = yield* Balancer.roundRobin
      const picked: Array<string> = []
      for (let i = 0; i < 6; i++) {
        balancer.update([e1, e2, e3])
        picked.push(...yield* picks(balancer, 1))
      }
      assert.deepStrictEqual(picked, addresses(e1, e2, e3, e1, e2, e3))
    }))

  it.effect("goes on with the endpoint that has waited longest when the list has changed", () =>
    Effect.gen(function*() {
      const balancer = yield* Balancer.roundRobin
      balancer.update([e1, e2, e3])
      yield* picks(balancer, 1)
      balancer.update([e1, e3])
      assert.deepStrictEqual(yield* picks(balancer, 3), addresses(e3, e1, e3))
      balancer.update([e1, e3, e4])
      assert.deepStrictEqual(yield* picks(balancer, 3), addresses(e4, e1, e3))
    }))

  it.effect("starves no endpoint while the list is reordered, shortened and emptied between picks", () =>
    Effect.gen(function*() {
      const balancer = yield* Balancer.roundRobin
      const counts = new Map<string, number>()
      const lists = [[e1, e2, e3], [e3, e2, e1], [], [e1, e2], [e2, e3, e1]]
      for (let i = 0; i < 300; i++) {
        const list = lists[i % lists.length]!
        balancer.update(list)
        if (list.length === 0) continue
        for (const address of yield* picks(balancer, 1)) counts.set(address, (counts.get(address) ?? 0) + 1)
      }
      for (const address of addresses(e1, e2, e3)) assert.isAtLeast(counts.get(address) ?? 0, 60, address)
    }))

  it.effect("remembers whose turn it was among endpoints that were gone for a while, but not without limit", () =>
    Effect.gen(function*() {
      const balancer = yield* Balancer.roundRobin
      balancer.update([e1, e2])
      yield* picks(balancer, 1)
      balancer.update([])
      balancer.update([e3])
      balancer.update([e1, e2])
      assert.deepStrictEqual(yield* picks(balancer, 2), addresses(e2, e1))
      for (let i = 0; i < 1_100; i++) balancer.update([endpoint(10_000 + i)])
      balancer.update([e1, e2])
      assert.deepStrictEqual(yield* picks(balancer, 1), addresses(e1))
    }))

  it.effect("keeps the list it was given, not the array", () =>
    Effect.gen(function*() {
      const balancer = yield* Balancer.roundRobin
      const list = [e1, e2]
      balancer.update(list)
      list.pop()
      assert.deepStrictEqual(yield* picks(balancer, 3), addresses(e1, e2, e1))
    }))

  it.effect("takes a turn when a pick is run, not when it is made", () =>
    Effect.gen(function*() {
      const balancer = yield* Balancer.roundRobin
      balancer.update([e1, e2, e3])
      const pick = balancer.pick({ avoid: noneExcluded })
      balancer.pick({ avoid: noneExcluded })
      assert.strictEqual((yield* pick).address, e1.address)
      assert.strictEqual((yield* pick).address, e2.address)
    }))

  it.effect("has its own turn in each run", () =>
    Effect.gen(function*() {
      const one = yield* Balancer.roundRobin
      const other = yield* Balancer.roundRobin
      one.update([e1, e2])
      other.update([e1, e2])
      yield* picks(one, 1)
      assert.deepStrictEqual(yield* picks(other, 1), addresses(e1))
      assert.deepStrictEqual(yield* picks(one, 1), addresses(e2))
    }))
})

describe("sharded", () => {
  const withKey = (shardKey: bigint, ...avoided: ReadonlyArray<Endpoint.Endpoint>): Balancer.PickOptions => ({
    ...avoiding(...avoided),
    shardKey
  })

  it.effect("sends a key k to the endpoint at k mod n, over all of u64", () =>
    Effect.gen(function*() {
      const balancer = yield* Balancer.sharded
      const list = [e1, e2, e3]
      balancer.update(list)
      const keys = [
        0n,
        1n,
        2n,
        3n,
        4n,
        2n ** 32n,
        2n ** 53n - 1n,
        2n ** 53n,
        2n ** 53n + 1n,
        2n ** 63n,
        2n ** 64n - 2n,
        2n ** 64n - 1n
      ]
      for (const key of keys) {
        const picked = yield* picks(balancer, 3, withKey(key))
        const expected = list[Number(key % 3n)]!.address
        assert.deepStrictEqual(picked, [expected, expected, expected], `${key}`)
      }
    }))

  it.effect("refuses a key outside u64 and names it", () =>
    Effect.gen(function*() {
      const balancer = yield* Balancer.sharded
      balancer.update([e1, e2])
      for (const key of [-1n, 2n ** 64n]) {
        const error = yield* Effect.flip(balancer.pick(withKey(key)))
        assert.strictEqual(error._tag, "Unreachable")
        assert.strictEqual(
          error.message,
          `shard key ${key} is out of range: a shard key is a u64, from 0 to 18446744073709551615`
        )
      }
    }))

  it.effect("never sends a key to another endpoint when its own is excluded", () =>
    Effect.gen(function*() {
      const balancer = yield* Balancer.sharded
      balancer.update([e1, e2, e3])
      const error = yield* Effect.flip(balancer.pick(withKey(7n, e2)))
      assert.deepStrictEqual(
        error,
        new CallError.Unreachable({
          message:
            "the endpoint of shard key 7 (tcp://127.0.0.1:7002) is not reachable: it was tried, is in backoff or is ejected",
          attempts: []
        })
      )
      assert.deepStrictEqual(yield* picks(balancer, 1, withKey(7n, e1, e3)), addresses(e2))
    }))

  it.effect("picks at random without a key, as Effect's Random says", () =>
    Effect.gen(function*() {
      const balancer = yield* Balancer.sharded
      balancer.update([e1, e2, e3, e4])
      const seeded = (seed: string) => Random.withSeed(picks(balancer, 40), seed)
      const picked = yield* seeded("a")
      assert.deepStrictEqual(picked, yield* seeded("a"))
      assert.notDeepEqual(picked, yield* seeded("b"))
      assert.sameMembers([...new Set(picked)], addresses(e1, e2, e3, e4))
    }))

  it.effect("picks at random among the eligible endpoints, evenly", () =>
    Effect.gen(function*() {
      const balancer = yield* Balancer.sharded
      balancer.update([e1, e2, e3, e4])
      const picked = yield* Random.withSeed(picks(balancer, 600, avoiding(e1, e3)), "even")
      assert.sameMembers([...new Set(picked)], addresses(e2, e4))
      assert.closeTo(picked.filter((address) => address === e2.address).length, 300, 60)
      const error = yield* Effect.flip(balancer.pick(avoiding(e1, e2, e3, e4)))
      assert.strictEqual(error.message, "every endpoint was tried, is in backoff or is ejected")
    }))

  it.effect("has nothing to pick without endpoints, with and without a key", () =>
    Effect.gen(function*() {
      const balancer = yield* Balancer.sharded
      assert.strictEqual((yield* Effect.flip(balancer.pick({ avoid: noneExcluded }))).message, "no endpoints")
      assert.strictEqual((yield* Effect.flip(balancer.pick(withKey(0n)))).message, "no endpoints")
    }))
})

describe("make", () => {
  it.effect("picks with the given function from the latest endpoints", () =>
    Effect.gen(function*() {
      const balancer = yield* Balancer.make((list, { shardKey }) =>
        Effect.succeed(list[shardKey === undefined ? list.length - 1 : 0]!)
      )
      balancer.update([e1, e2])
      assert.deepStrictEqual(yield* picks(balancer, 2), addresses(e2, e2))
      assert.deepStrictEqual(yield* picks(balancer, 1, { avoid: noneExcluded, shardKey: 5n }), addresses(e1))
      balancer.update([e1, e2, e3])
      assert.deepStrictEqual(yield* picks(balancer, 1), addresses(e3))
    }))

  it.effect("does not call the function while there are no endpoints", () =>
    Effect.gen(function*() {
      let asked = 0
      const balancer = yield* Balancer.make((list) =>
        Effect.sync(() => {
          asked++
          return list[0]!
        })
      )
      assert.strictEqual((yield* Effect.flip(balancer.pick({ avoid: noneExcluded }))).message, "no endpoints")
      assert.strictEqual(asked, 0)
    }))

  it.effect("lets the function say that no endpoint is suitable", () =>
    Effect.gen(function*() {
      const none = new CallError.Unreachable({ message: "none in this zone", attempts: [] })
      const balancer = yield* Balancer.make(() => Effect.fail(none))
      balancer.update([e1])
      assert.strictEqual(yield* Effect.flip(balancer.pick({ avoid: noneExcluded })), none)
    }))
})

describe("layer", () => {
  it.effect("gives each Connection that shares it a balancer of its own", () =>
    Effect.gen(function*() {
      const shared = Balancer.layer(Balancer.roundRobin)
      const first = (name: string) =>
        Layer.effectDiscard(Effect.gen(function*() {
          const factory = yield* Balancer.Factory
          const balancer = yield* factory.make
          balancer.update([e1, e2])
          assert.deepStrictEqual(yield* picks(balancer, 1), addresses(e1), name)
        })).pipe(Layer.provide(shared))
      yield* Effect.provide(Effect.void, Layer.mergeAll(first("one"), first("other")))
    }))
})

describe("the immediate pick", () => {
  const immediate = (balancer: Balancer.Balancer) => {
    assert.isTrue(isImmediate(balancer))
    if (!isImmediate(balancer)) throw new Error("unreachable")
    return balancer
  }

  it.effect("picks what pick picks, and shares its state", () =>
    Effect.gen(function*() {
      const context = yield* Effect.context<never>()
      const balancer = immediate(yield* Balancer.roundRobin)
      assert.isUndefined(balancer[pickNow]({ avoid: noneExcluded }, context))
      balancer.update([e1, e2])
      assert.strictEqual(balancer[pickNow]({ avoid: noneExcluded }, context), e1)
      assert.strictEqual(yield* balancer.pick({ avoid: noneExcluded }), e2)
      assert.isUndefined(balancer[pickNow](avoiding(e1, e2), context))

      const shards = immediate(yield* Balancer.sharded)
      shards.update([e1, e2])
      assert.strictEqual(shards[pickNow]({ avoid: noneExcluded, shardKey: 2n ** 64n - 1n }, context), e2)
      assert.isUndefined(shards[pickNow]({ avoid: noneExcluded, shardKey: 2n ** 64n }, context))
    }))

  it.effect("is not offered by a user's own balancer, or by one that is made from a built-in one", () =>
    Effect.gen(function*() {
      const builtIn = yield* Balancer.roundRobin
      const pick = () => Effect.succeed(e4)
      assert.isFalse(isImmediate(yield* Balancer.make(pick)))
      assert.isFalse(isImmediate({ ...builtIn, pick }))
      assert.isFalse(isImmediate(Object.create(builtIn, { pick: { value: pick } })))
    }))
})
