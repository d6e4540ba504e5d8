import { assert, describe, it } from "@effect/vitest"
import { Balancer } from "effect-call"
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
  const balancer = makeBalancer(Balancer.peakEwma)
  balancer.update(endpoints, views)
  const pick = picker(balancer)
  return { balancer, endpoints, views, pick, who: (times = 50) => [...countPicks(times, () => pick()).keys()] }
}

describe("peakEwma", () => {
  it("picks the endpoint of two that is expected to answer sooner: latency × (pending + 1)", () => {
    const { endpoints, views, who } = setUp(2)
    views[0]!.latency = 10
    views[1]!.latency = 35
    assert.deepStrictEqual(who(), [endpoints[0]!.address])
    views[0]!.callsPending = 2
    assert.deepStrictEqual(who(), [endpoints[0]!.address])
    views[0]!.callsPending = 3
    assert.deepStrictEqual(who(), [endpoints[1]!.address])
  })

  it("avoids an endpoint after one slow answer", () => {
    const { endpoints, views, who } = setUp(2)
    views[0]!.latency = views[1]!.latency = 10
    assert.lengthOf(who(), 2)
    views[1]!.latency = 400
    assert.deepStrictEqual(who(), [endpoints[0]!.address])
  })

  it("divides by weight", () => {
    const endpoints = [endpoint(0), endpoint(1, { weight: 4 })]
    const views = viewsOf(endpoints, { latency: 10 })
    const balancer = makeBalancer(Balancer.peakEwma)
    balancer.update(endpoints, views)
    const pick = picker(balancer)
    views[1]!.latency = 30
    assert.deepStrictEqual([...countPicks(50, () => pick()).keys()], [endpoints[1]!.address])
    views[1]!.callsPending = 1
    assert.deepStrictEqual([...countPicks(50, () => pick()).keys()], [endpoints[0]!.address])
  })

  it("tries a new endpoint with its share of calls, and does not flood it before it answers", () => {
    const { endpoints, pick, views } = setUp(5)
    for (const view of views) view.callsPending = 24
    for (const view of views.slice(1)) view.latency = 10
    const fresh = views[0]!
    fresh.callsPending = 0
    let first = -1
    for (let i = 0; i < 2000; i++) {
      if (pick() !== endpoints[0]!.address) continue
      if (first < 0) first = i
      fresh.callsPending++
    }
    assert.isAtLeast(first, 0)
    assert.isBelow(first, 30)
    // (4 + 1)² is as much as the 25 of the others: each call that waits counts as one more reason to expect little.
    assert.isAtMost(fresh.callsPending, 5)
  })

  it("compares pending calls where no endpoint has answered yet, and where all latencies are 0", () => {
    const { endpoints, views, who } = setUp(2)
    views[0]!.callsPending = 3
    assert.deepStrictEqual(who(), [endpoints[1]!.address])
    for (const view of views) view.latency = 0
    assert.deepStrictEqual(who(), [endpoints[1]!.address])
  })

  it("picks by weight without views", () => {
    const endpoints = [endpoint(0), endpoint(1, { weight: 3 })]
    const balancer = makeBalancer(Balancer.peakEwma)
    balancer.update(endpoints)
    const pick = picker(balancer)
    assert.closeTo(countPicks(4000, () => pick()).get(endpoints[1]!.address)!, 3000, 150)
  })

  it("takes a slow endpoint rather than an excluded one", () => {
    const { balancer, endpoints, pick, views } = setUp(3)
    views.forEach((view, index) => view.latency = 10 ** index)
    const avoid = addressesOf(endpoints.slice(0, 2))
    assert.deepStrictEqual([...countPicks(50, () => pick({ avoid })).keys()], [endpoints[2]!.address])
    assert.strictEqual(
      whyNone(balancer, { avoid: addressesOf(endpoints) }),
      "every endpoint was tried, is in backoff or is ejected"
    )
  })
})
