import { assert, describe, it } from "@effect/vitest"
import { Balancer } from "effect-call"
import * as fc from "fast-check"
import {
  addressesOf,
  countPicks,
  endpoint,
  endpointsOf,
  makeBalancer,
  picker,
  viewsOf,
  whyNone
} from "../../support/views.ts"

const setUp = (count: number) => {
  const endpoints = endpointsOf(count)
  const views = viewsOf(endpoints)
  const balancer = makeBalancer(Balancer.consistentHash)
  balancer.update(endpoints, views)
  const pick = picker(balancer)
  const byAddress = new Map(views.map((view) => [view.endpoint.address, view]))
  return {
    balancer,
    endpoints,
    views,
    byAddress,
    pick,
    owner: (shardKey: bigint) => byAddress.get(pick({ shardKey }))!
  }
}

describe("consistentHash", () => {
  it("sends a key to the same endpoint each time, for every client, in any order of the list", () => {
    const { endpoints, pick } = setUp(10)
    const other = makeBalancer(Balancer.consistentHash)
    other.update([...endpoints].reverse())
    const otherPick = picker(other, 2)
    fc.assert(
      fc.property(
        fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
        (shardKey) => assert.strictEqual(pick({ shardKey }), otherPick({ shardKey }))
      ),
      { seed: 6 }
    )
  })

  it("moves only the keys of the endpoint that leaves, and gives them back when it returns", () => {
    const { balancer, endpoints, pick } = setUp(10)
    const keys = Array.from({ length: 2000 }, (_, key) => BigInt(key))
    const owners = () => keys.map((shardKey) => pick({ shardKey }))
    const before = owners()
    const gone = endpoints[4]!.address
    balancer.update(endpoints.toSpliced(4, 1))
    const without = owners()
    without.forEach((owner, key) => assert.isTrue(before[key] === gone ? owner !== gone : owner === before[key]))
    assert.closeTo(before.filter((owner) => owner === gone).length, 200, 70)
    balancer.update(endpoints)
    assert.deepStrictEqual(owners(), before)
  })

  it("passes over an excluded endpoint, and spreads its keys over all others", () => {
    const { balancer, endpoints, pick } = setUp(10)
    const avoid = addressesOf([endpoints[0]!])
    const keys = Array.from({ length: 5000 }, (_, key) => BigInt(key))
    const own = keys.filter((shardKey) => pick({ shardKey }) === endpoints[0]!.address)
    for (const shardKey of keys.filter((key) => !own.includes(key)).slice(0, 500)) {
      assert.strictEqual(pick({ shardKey, avoid }), pick({ shardKey }))
    }
    const counts = countPicks(own.length, (index) => pick({ shardKey: own[index]!, avoid }))
    assert.strictEqual(counts.size, 9)
    assert.strictEqual(
      whyNone(balancer, { shardKey: 1n, avoid: addressesOf(endpoints) }),
      "every endpoint was tried, is in backoff or is ejected"
    )
  })

  it("passes over an endpoint with more than 1.25 times the mean number of pending calls", () => {
    const { owner, views } = setUp(10)
    for (const view of views) view.callsPending = 20
    const home = owner(7n)
    // The mean of 200 calls and the one to be made is 20.1, and the bound 26.
    home.callsPending = 25
    assert.strictEqual(owner(7n), home)
    home.callsPending = 60
    const next = owner(7n)
    assert.notStrictEqual(next, home)
    next.callsPending = 60
    assert.notInclude([home, next], owner(7n))
    home.callsPending = 20
    // Found out within as many picks as there are endpoints.
    for (let i = 0; i < 10; i++) owner(BigInt(i))
    assert.strictEqual(owner(7n), home)
  })

  it("keeps every endpoint within the bound while all calls have the same key", () => {
    fc.assert(
      fc.property(fc.integer({ min: 2, max: 20 }), fc.integer({ min: 1, max: 400 }), (count, calls) => {
        const { owner, views } = setUp(count)
        for (let call = 0; call < calls; call++) owner(7n).callsPending++
        const most = Math.max(...views.map(({ callsPending }) => callsPending))
        assert.isAtMost(most, Math.max(4, Math.ceil(1.25 * calls / count)))
      }),
      { seed: 6, numRuns: 50 }
    )
  })

  it("does not pass over an endpoint with few pending calls, whatever the mean is", () => {
    const { owner } = setUp(10)
    const home = owner(7n)
    home.callsPending = 3
    assert.strictEqual(owner(7n), home)
    home.callsPending = 4
    assert.notStrictEqual(owner(7n), home)
  })

  it("sends a key to its own endpoint where all others are excluded, even under high load", () => {
    const { endpoints, owner, pick } = setUp(5)
    const home = owner(7n)
    home.callsPending = 1000
    const avoid = addressesOf(endpoints.filter((endpoint) => endpoint !== home.endpoint))
    assert.strictEqual(pick({ shardKey: 7n, avoid }), home.endpoint.address)
  })

  it("gives keys by weight, and an endpoint that starts slowly no more calls than it may have", () => {
    const endpoints = [1, 1, 2, 4].map((weight, index) => endpoint(index, { weight }))
    const views = viewsOf(endpoints)
    const balancer = makeBalancer(Balancer.consistentHash)
    balancer.update(endpoints, views)
    const pick = picker(balancer)
    const counts = countPicks(8000, (key) => pick({ shardKey: BigInt(key) }))
    endpoints.forEach(({ address, weight }) => assert.closeTo(counts.get(address)! / weight!, 1000, 250))
    for (const view of views) view.callsPending = 20 * view.weight
    views[3]!.weight = 0.4
    views[3]!.callsPending = 11
    countPicks(4, () => pick({ shardKey: 1n }))
    assert.isFalse(countPicks(100, (key) => pick({ shardKey: BigInt(key) })).has(endpoints[3]!.address))
  })

  it("sends a call without a key to the endpoint of two with fewer pending calls", () => {
    const { endpoints, pick, views } = setUp(2)
    views[0]!.callsPending = 1
    assert.deepStrictEqual([...countPicks(50, () => pick()).keys()], [endpoints[1]!.address])
  })

  it("refuses a key outside u64 and names it", () => {
    const { balancer } = setUp(2)
    for (const shardKey of [-1n, 2n ** 64n]) {
      assert.strictEqual(
        whyNone(balancer, { shardKey }),
        `shard key ${shardKey} is out of range: a shard key is a u64, from 0 to 18446744073709551615`
      )
    }
    balancer.update([])
    assert.strictEqual(whyNone(balancer, { shardKey: 1n }), "no endpoints")
    assert.strictEqual(whyNone(balancer), "no endpoints")
  })
})
