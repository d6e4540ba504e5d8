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

const names = (picked: ReadonlyArray<string>) => picked.map((address) => "abcdefgh"[Number(/(\d+):/.exec(address)![1])])

describe("weighted", () => {
  it("gives each endpoint its share of turns, evenly spread", () => {
    const balancer = makeBalancer(Balancer.weighted)
    balancer.update([endpoint(0, { weight: 3 }), endpoint(1), endpoint(2)])
    const pick = picker(balancer)
    assert.strictEqual(names(Array.from({ length: 10 }, () => pick())).join(""), "aabcaaabca")
  })

  it("picks endpoints of equal weight in turn, beginning with the first", () => {
    const balancer = makeBalancer(Balancer.weighted)
    balancer.update(endpointsOf(3))
    const pick = picker(balancer)
    assert.strictEqual(names(Array.from({ length: 7 }, () => pick())).join(""), "abcabca")
  })

  it("keeps the picks of each endpoint near its share at any time", () => {
    fc.assert(
      fc.property(
        fc.array(fc.double({ min: 0.01, max: 100, noNaN: true }), { minLength: 1, maxLength: 20 }),
        (weights) => {
          const endpoints = weights.map((weight, index) => endpoint(index, { weight }))
          const total = weights.reduce((sum, weight) => sum + weight, 0)
          const balancer = makeBalancer(Balancer.weighted)
          balancer.update(endpoints)
          const pick = picker(balancer)
          const counts = new Map<string, number>()
          for (let picks = 1; picks <= 500; picks++) {
            const address = pick()
            counts.set(address, (counts.get(address) ?? 0) + 1)
            endpoints.forEach(({ address }, index) => {
              const share = weights[index]! / total
              const off = Math.abs((counts.get(address) ?? 0) - picks * share)
              // To assert each of them takes longer than all else here.
              if (off > 1 + share * weights.length / 2) assert.fail(`${address} is off by ${off} after ${picks} picks`)
            })
          }
        }
      ),
      { seed: 6, numRuns: 30 }
    )
  })

  it("continues where it was after an update, and picks new endpoints soon", () => {
    const balancer = makeBalancer(Balancer.weighted)
    const pick = picker(balancer)
    const picked: Array<string> = []
    for (let i = 0; i < 10; i++) {
      balancer.update([endpoint(0, { weight: 3 }), endpoint(1), endpoint(2)])
      picked.push(pick())
    }
    assert.strictEqual(names(picked).join(""), "aabcaaabca")
    balancer.update(endpointsOf(4))
    assert.include(names(Array.from({ length: 4 }, () => pick())), "d")
  })

  it("starves no endpoint while the list changes between picks", () => {
    const balancer = makeBalancer(Balancer.weighted)
    const all = endpointsOf(3)
    const lists = [all, [...all].reverse(), [], all.slice(0, 2), [all[1]!, all[2]!, all[0]!]]
    const pick = picker(balancer)
    const counts = new Map<string, number>()
    for (let i = 0; i < 500; i++) {
      const list = lists[i % lists.length]!
      balancer.update(list)
      if (list.length === 0) continue
      const address = pick()
      counts.set(address, (counts.get(address) ?? 0) + 1)
    }
    for (const { address } of all) assert.isAtLeast(counts.get(address) ?? 0, 70)
  })

  it("uses a new weight at once", () => {
    const balancer = makeBalancer(Balancer.weighted)
    const pick = picker(balancer)
    balancer.update([endpoint(0, { weight: 100 }), endpoint(1, { weight: 0.1 })])
    countPicks(100, () => pick())
    balancer.update([endpoint(0, { weight: 100 }), endpoint(1, { weight: 100 })])
    assert.closeTo(countPicks(100, () => pick()).get(endpoint(1).address)!, 50, 1)
  })

  it("gives an endpoint that starts slowly its first turn, and then a share by the weight in its view, as that grows", () => {
    const endpoints = endpointsOf(4)
    const views = viewsOf(endpoints)
    views[3]!.weight = 0.1
    const balancer = makeBalancer(Balancer.weighted)
    balancer.update(endpoints, views)
    const pick = picker(balancer)
    const count = (times: number) => countPicks(times, () => pick()).get(endpoints[3]!.address) ?? 0
    assert.strictEqual(count(4), 1)
    assert.closeTo(count(310), 10, 1)
    views[3]!.weight = 0.5
    assert.closeTo(count(350), 50, 1)
    views[3]!.weight = 1
    assert.closeTo(count(400), 100, 1)
  })

  it("picks evenly while all of them start slowly", () => {
    const endpoints = endpointsOf(4)
    const balancer = makeBalancer(Balancer.weighted)
    balancer.update(endpoints, viewsOf(endpoints, { weight: 0.001 }))
    const pick = picker(balancer)
    for (const count of countPicks(400, () => pick()).values()) assert.closeTo(count, 100, 12)
  })

  it("passes over excluded endpoints, which then lose their turns and get no more than their shares", () => {
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.constantFrom(1, 2, 5, 1000), fc.boolean()), { minLength: 1, maxLength: 10 }),
        (rows) => {
          const endpoints = rows.map(([weight], index) => endpoint(index, { weight }))
          const avoid = addressesOf(endpoints.filter((_, index) => rows[index]![1]))
          const free = endpoints.filter(({ address }) => !avoid.has(address))
          const balancer = makeBalancer(Balancer.weighted)
          balancer.update(endpoints)
          const pick = picker(balancer)
          countPicks(7, () => pick())
          if (free.length === 0) {
            assert.strictEqual(whyNone(balancer, { avoid }), "every endpoint was tried, is in backoff or is ejected")
          }
          const shares = (list: typeof endpoints, counts: ReadonlyMap<string, number>, picks: number) => {
            const total = list.reduce((sum, { weight }) => sum + weight!, 0)
            for (const { address, weight } of list) {
              const share = weight! / total
              assert.closeTo(counts.get(address) ?? 0, picks * share, 2 + share * list.length)
            }
          }
          if (free.length > 0) shares(free, countPicks(1000, () => pick({ avoid })), 1000)
          shares(endpoints, countPicks(1000, () => pick()), 1000)
        }
      ),
      { seed: 6, numRuns: 50 }
    )
  })

  it("has nothing to pick without endpoints", () => {
    assert.strictEqual(whyNone(makeBalancer(Balancer.weighted)), "no endpoints")
  })
})
