import { assert, describe, it } from "@effect/vitest"
import { Effect, Random } from "effect"
import { Balancer, type Endpoint } from "effect-call"
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

/** A load test in small: `pending` calls are pending all the time, and the oldest ends when another one begins. */
const run = (
  balancer: Balancer.Balancer,
  endpoints: ReadonlyArray<Endpoint.Endpoint>,
  pending: number,
  calls: number
) => {
  const views = viewsOf(endpoints)
  balancer.update(endpoints, views)
  const byAddress = new Map(views.map((view) => [view.endpoint.address, view]))
  const open: Array<string> = []
  const pick = picker(balancer)
  let most = 0
  const counts = countPicks(calls, () => {
    if (open.length === pending) byAddress.get(open.shift()!)!.callsPending--
    const address = pick()
    open.push(address)
    most = Math.max(most, ++byAddress.get(address)!.callsPending / byAddress.get(address)!.weight)
    return address
  })
  return { counts, most, views }
}

describe("leastPending", () => {
  it("picks the endpoint of two with fewer pending calls", () => {
    const endpoints = endpointsOf(2)
    const views = viewsOf(endpoints)
    const balancer = makeBalancer(Balancer.leastPending)
    balancer.update(endpoints, views)
    const pick = picker(balancer)
    views[0]!.callsPending = 1
    assert.deepStrictEqual([...countPicks(50, () => pick()).keys()], [endpoints[1]!.address])
    views[1]!.callsPending = 2
    assert.deepStrictEqual([...countPicks(50, () => pick()).keys()], [endpoints[0]!.address])
  })

  it("never takes the one with the most pending calls", () => {
    fc.assert(
      fc.property(fc.array(fc.nat(50), { minLength: 2, maxLength: 12 }), fc.nat(), (pending, seed) => {
        const endpoints = endpointsOf(pending.length)
        const views = viewsOf(endpoints)
        const most = Math.max(...pending)
        fc.pre(pending.filter((calls) => calls === most).length === 1)
        views.forEach((view, index) => view.callsPending = pending[index]!)
        const balancer = makeBalancer(Balancer.leastPending)
        balancer.update(endpoints, views)
        const pick = picker(balancer, seed)
        assert.isFalse(countPicks(60, () => pick()).has(endpoints[pending.indexOf(most)]!.address))
      }),
      { seed: 6, numRuns: 60 }
    )
  })

  it("gives idle endpoints shares by weight, with and without views", () => {
    const endpoints = [1, 2, 5].map((weight, index) => endpoint(index, { weight }))
    const balancer = makeBalancer(Balancer.leastPending)
    for (const views of [undefined, viewsOf(endpoints)]) {
      balancer.update(endpoints, views)
      const pick = picker(balancer)
      const counts = countPicks(8000, () => pick())
      endpoints.forEach(({ address, weight }) => assert.closeTo(counts.get(address)!, 1000 * weight!, 120))
    }
  })

  it("keeps the pending calls in proportion to the weights", () => {
    const endpoints = [1, 2, 5, 2].map((weight, index) => endpoint(index, { weight }))
    const { counts, most } = run(makeBalancer(Balancer.leastPending), endpoints, 100, 20_000)
    endpoints.forEach(({ address, weight }) => assert.closeTo(counts.get(address)!, 2000 * weight!, 200 * weight!))
    // With ten for each unit of weight, drawing at random would give a light one eighteen or more.
    assert.isBelow(most, 14)
  })

  it("picks equal endpoints equally often, wherever they are in the list", () => {
    const endpoints = endpointsOf(7)
    const { counts } = run(makeBalancer(Balancer.leastPending), endpoints, 20, 14_000)
    endpoints.forEach(({ address }) => assert.closeTo(counts.get(address)!, 2000, 150))
  })

  it("gives an endpoint that starts slowly a share by the weight in its view, as that grows", () => {
    const endpoints = endpointsOf(4)
    const views = viewsOf(endpoints)
    views[0]!.weight = 0.1
    const balancer = makeBalancer(Balancer.leastPending)
    balancer.update(endpoints, views)
    const pick = picker(balancer)
    const share = () => countPicks(10_000, () => pick()).get(endpoints[0]!.address)! / 10_000
    assert.closeTo(share(), 0.1 / 3.1, 0.01)
    views[0]!.weight = 0.5
    assert.closeTo(share(), 0.5 / 3.5, 0.02)
    views[0]!.weight = 1
    assert.closeTo(share(), 0.25, 0.02)
  })

  it("picks evenly while all of them start slowly", () => {
    const endpoints = endpointsOf(4)
    const balancer = makeBalancer(Balancer.leastPending)
    balancer.update(endpoints, viewsOf(endpoints, { weight: 0.01 }))
    const pick = picker(balancer)
    for (const count of countPicks(4000, () => pick()).values()) assert.closeTo(count, 1000, 120)
  })

  it("picks among the eligible endpoints, by weight, also when others are excluded next", () => {
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.integer({ min: 1, max: 9 }), fc.boolean()), { minLength: 1, maxLength: 10 }),
        fc.nat(),
        (rows, seed) => {
          const endpoints = rows.map(([weight], index) => endpoint(index, { weight }))
          const free = endpoints.filter((_, index) => !rows[index]![1])
          const avoid = addressesOf(endpoints.filter((_, index) => rows[index]![1]))
          const balancer = makeBalancer(Balancer.leastPending)
          balancer.update(endpoints, viewsOf(endpoints))
          const pick = picker(balancer, seed)
          pick()
          if (free.length === 0) {
            assert.strictEqual(whyNone(balancer, { avoid }), "every endpoint was tried, is in backoff or is ejected")
            return
          }
          const total = free.reduce((sum, { weight }) => sum + weight!, 0)
          const counts = countPicks(2000, () => pick({ avoid }))
          assert.strictEqual(
            free.reduce((sum, { address }) => sum + (counts.get(address) ?? 0), 0),
            2000
          )
          // Five standard deviations.
          for (const { address, weight } of free) {
            assert.closeTo(counts.get(address) ?? 0, 2000 * weight! / total, 5 * Math.sqrt(500) + 1)
          }
        }
      ),
      { seed: 6, numRuns: 40 }
    )
  })

  it.effect("draws with Effect's Random", () =>
    Effect.gen(function*() {
      const endpoints = endpointsOf(10)
      const balancer = yield* Balancer.leastPending
      balancer.update(endpoints, viewsOf(endpoints))
      const pick = Effect.map(balancer.pick({ avoid: new Set() }), ({ address }) => address)
      const picks = (seed: string) => Random.withSeed(Effect.replicateEffect(pick, 20), seed)
      assert.deepStrictEqual(yield* picks("a"), yield* picks("a"))
      assert.notDeepEqual(yield* picks("a"), yield* picks("b"))
    }))

  it("has nothing to pick without endpoints, and picks a single one", () => {
    const balancer = makeBalancer(Balancer.leastPending)
    assert.strictEqual(whyNone(balancer), "no endpoints")
    balancer.update(endpointsOf(1), viewsOf(endpointsOf(1)))
    assert.strictEqual(picker(balancer)(), endpoint(0).address)
  })
})
