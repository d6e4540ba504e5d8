import { assert, describe, it } from "@effect/vitest"
import { Cause, Effect, Exit } from "effect"
import { Balancer } from "effect-call"
import * as fc from "fast-check"
import { isImmediate } from "../../../src/internal/balancer/immediate.ts"
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

type Endpoints = Parameters<Balancer.Balancer["update"]>[0]

const shared = (one: ReadonlySet<string>, other: ReadonlySet<string>) =>
  [...one].filter((address) => other.has(address)).length

/** The addresses of a client's subset. */
const subsetOf = (client: string, size: number, endpoints: Endpoints): ReadonlySet<string> => {
  const balancer = makeBalancer(Balancer.subset(size, { client }))
  balancer.update(endpoints)
  const pick = picker(balancer)
  return new Set(Array.from({ length: size }, () => pick()))
}

describe("subset", () => {
  it("uses as many endpoints as configured, the same ones in any order of the list", () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 30 }), fc.integer({ min: 1, max: 60 }), fc.string({ minLength: 1 }), (
        size,
        count,
        client
      ) => {
        const endpoints = endpointsOf(count)
        const chosen = subsetOf(client, size, endpoints)
        assert.strictEqual(chosen.size, Math.min(size, count))
        assert.deepStrictEqual([...subsetOf(client, size, [...endpoints].reverse())].sort(), [...chosen].sort())
      }),
      { seed: 6, numRuns: 50 }
    )
  })

  it("puts about as many clients on each endpoint", () => {
    const endpoints = endpointsOf(100)
    const counts = new Map<string, number>()
    for (let client = 0; client < 1000; client++) {
      for (const address of subsetOf(`web-${client}`, 10, endpoints)) {
        counts.set(address, (counts.get(address) ?? 0) + 1)
      }
    }
    assert.strictEqual(counts.size, 100)
    // 100 ± 10, and no more than four times that.
    for (const count of counts.values()) assert.closeTo(count, 100, 40)
    const deviation = Math.sqrt([...counts.values()].reduce((sum, count) => sum + (count - 100) ** 2, 0) / 100)
    assert.closeTo(deviation, 9.5, 3)
  })

  it("changes only the subsets of an endpoint that leaves, by one endpoint each", () => {
    const endpoints = endpointsOf(50)
    const gone = endpoints[7]!.address
    let changed = 0
    for (let client = 0; client < 300; client++) {
      const before = subsetOf(`web-${client}`, 5, endpoints)
      const after = subsetOf(`web-${client}`, 5, endpoints.toSpliced(7, 1))
      if (before.has(gone)) changed++
      assert.strictEqual(shared(before, after), before.has(gone) ? 4 : 5)
    }
    // Of 300 clients, a tenth.
    assert.closeTo(changed, 30, 20)
  })

  it("balances over them with the given balancer, which is given their views", () => {
    const endpoints = endpointsOf(20)
    const views = viewsOf(endpoints)
    const balancer = makeBalancer(Balancer.subset(2, { client: "c" }, Balancer.leastPending))
    balancer.update(endpoints, views)
    const pick = picker(balancer)
    const [one = "", other = ""] = countPicks(100, () => pick()).keys()
    views.find(({ endpoint }) => endpoint.address === one)!.callsPending = 1
    assert.deepStrictEqual([...countPicks(50, () => pick()).keys()], [other])
  })

  it("uses as many other endpoints while the whole subset is excluded", () => {
    const endpoints = endpointsOf(20)
    const balancer = makeBalancer(Balancer.subset(4, { client: "c" }))
    balancer.update(endpoints, viewsOf(endpoints))
    const pick = picker(balancer)
    const own = new Set(countPicks(20, () => pick()).keys())
    const standIns = new Set(countPicks(20, () => pick({ avoid: own })).keys())
    assert.strictEqual(standIns.size, 4)
    assert.strictEqual(shared(standIns, own), 0)
    assert.deepStrictEqual(new Set(countPicks(20, () => pick({ avoid: own })).keys()), standIns)
    assert.deepStrictEqual(new Set(countPicks(20, () => pick()).keys()), own)
    const both = new Set([...own, ...standIns])
    const third = new Set(countPicks(20, () => pick({ avoid: both })).keys())
    assert.strictEqual(third.size, 4)
    assert.strictEqual(shared(third, both), 0)
    assert.strictEqual(
      whyNone(balancer, { avoid: addressesOf(endpoints) }),
      "every endpoint was tried, is in backoff or is ejected"
    )
  })

  it("prefers endpoints of a lower priority number", () => {
    const endpoints = Array.from({ length: 20 }, (_, index) => endpoint(index, { priority: index < 5 ? 0 : 1 }))
    const first = addressesOf(endpoints.slice(0, 5))
    for (const client of ["a", "b", "c"]) {
      assert.strictEqual(shared(subsetOf(client, 5, endpoints), first), 5)
    }
    assert.strictEqual(shared(subsetOf("a", 8, endpoints), first), 5)
  })

  it("picks immediately only where the inner balancer does", () => {
    assert.isTrue(isImmediate(makeBalancer(Balancer.subset(2, { client: "c" }))))
    const first = Balancer.make((list, { avoid }) =>
      Effect.sync(() => list.find(({ address }) => !avoid.has(address))!)
    )
    const balancer = makeBalancer(Balancer.subset(2, { client: "c" }, first))
    assert.isFalse(isImmediate(balancer))
    balancer.update(endpointsOf(4))
    assert.strictEqual(countPicks(10, picker(balancer).bind(undefined, {})).size, 1)
  })

  it("has nothing to pick without endpoints", () => {
    assert.strictEqual(whyNone(makeBalancer(Balancer.subset(3, { client: "c" }))), "no endpoints")
  })

  it.effect("is a defect with a size below 1, or a client without a name", () =>
    Effect.gen(function*() {
      const defect = (make: Effect.Effect<unknown>) =>
        Effect.map(Effect.exit(make), (exit) => Exit.isFailure(exit) ? Cause.pretty(exit.cause) : "none")
      assert.include(
        yield* defect(Balancer.subset(0, { client: "c" })),
        "option size: expected a whole number, 1 or more, got 0"
      )
      assert.include(yield* defect(Balancer.subset(1.5, { client: "c" })), "option size")
      assert.include(
        yield* defect(Balancer.subset(1, { client: "" })),
        "option client: expected the name of the client"
      )
    }))
})
