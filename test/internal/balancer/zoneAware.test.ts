import { assert, describe, it } from "@effect/vitest"
import { Cause, Effect, Exit } from "effect"
import { Balancer } from "effect-call"
import { isImmediate } from "../../../src/internal/balancer/immediate.ts"
import {
  addressesOf,
  countPicks,
  endpoint,
  endpointsOf,
  makeBalancer,
  picker,
  type TestView,
  viewsOf,
  whyNone
} from "../../support/views.ts"

/** `near` endpoints in the zone "a", and `far` ones elsewhere, one of them without a zone. */
const setUp = (near: number, far: number, inner?: Effect.Effect<Balancer.Balancer>) => {
  const endpoints = Array.from(
    { length: near + far },
    (_, index) => endpoint(index, index < near ? { zone: "a" } : index === near ? {} : { zone: "b" })
  )
  const views = viewsOf(endpoints, { latency: 10 })
  const balancer = makeBalancer(Balancer.zoneAware("a", inner))
  balancer.update(endpoints, views)
  const pick = picker(balancer)
  const own = addressesOf(endpoints.slice(0, near))
  /** Which part of the picks stays in the zone. */
  const staying = (avoid: ReadonlySet<string> = new Set(), times = 1000) => {
    let stayed = 0
    for (const [address, count] of countPicks(times, () => pick({ avoid }))) if (own.has(address)) stayed += count
    return stayed / times
  }
  return { balancer, endpoints, views, near: views.slice(0, near), far: views.slice(near), pick, staying }
}

const crowd = (views: ReadonlyArray<TestView>, callsPending: number, latency: number | undefined) => {
  for (const view of views) Object.assign(view, { callsPending, latency })
}

describe("zoneAware", () => {
  it("picks in its own zone, in turn by default", () => {
    const { endpoints, pick } = setUp(3, 5)
    const picked = Array.from({ length: 6 }, () => pick())
    assert.deepStrictEqual(picked, [0, 1, 2, 0, 1, 2].map((index) => endpoints[index]!.address))
  })

  it("gives the inner balancers the views of their endpoints", () => {
    const { endpoints, far, near, pick } = setUp(2, 2, Balancer.leastPending)
    near[0]!.callsPending = 1
    far[1]!.callsPending = 1
    assert.deepStrictEqual([...countPicks(50, () => pick()).keys()], [endpoints[1]!.address])
    const avoid = addressesOf(endpoints.slice(0, 2))
    assert.deepStrictEqual([...countPicks(50, () => pick({ avoid })).keys()], [endpoints[2]!.address])
  })

  it("stays while 71 % of the zone can be called, and below that sends away more calls the fewer endpoints are left", () => {
    const { endpoints, staying } = setUp(10, 10)
    const without = (count: number) => addressesOf(endpoints.slice(0, count))
    assert.strictEqual(staying(without(2)), 1)
    for (const gone of [3, 5, 8, 9]) assert.closeTo(staying(without(gone), 4000), 1.4 * (10 - gone) / 10, 0.03)
    assert.strictEqual(staying(without(10)), 0)
    assert.strictEqual(staying(), 1)
  })

  it("stays where the other zones are in no better state", () => {
    const { endpoints, staying } = setUp(4, 4)
    assert.strictEqual(staying(addressesOf([0, 1, 2, 4, 5, 6].map((index) => endpoints[index]!))), 1)
    assert.strictEqual(staying(addressesOf([0, 1, 2, 3, 4, 5, 6].map((index) => endpoints[index]!))), 0)
  })

  it("stays with many calls pending as long as they are answered in time", () => {
    const { far, near, staying } = setUp(3, 5)
    crowd(near, 200, 15)
    assert.strictEqual(staying(), 1)
    crowd(near, 3, 500)
    crowd(far, 0, 10)
    assert.strictEqual(staying(), 1)
  })

  it("sends calls away while they pile up and are answered late, and comes back", () => {
    const { far, near, staying } = setUp(3, 5)
    crowd(near, 20, 25)
    assert.strictEqual(staying(), 0)
    crowd(near, 8, 25)
    staying(undefined, 8)
    assert.strictEqual(staying(), 1)
    // When the others are no faster, there is no reason to go there.
    crowd(near, 20, 25)
    crowd(far, 20, 25)
    staying(undefined, 8)
    assert.strictEqual(staying(), 1)
  })

  it("does not leave for a single endpoint that has stalled", () => {
    const { near, staying } = setUp(4, 5)
    crowd(near.slice(0, 1), 500, 10_000)
    assert.strictEqual(staying(), 1)
    crowd(near.slice(0, 2), 500, 10_000)
    staying(undefined, 10)
    assert.closeTo(staying(undefined, 4000), 0.7, 0.04)
  })

  it("compares pending calls where one side has never answered", () => {
    const { far, near, staying } = setUp(3, 5)
    crowd(far, 0, undefined)
    crowd(near, 20, 25)
    assert.strictEqual(staying(), 0)
    crowd(near, 20, undefined)
    crowd(far, 0, 10)
    staying(undefined, 8)
    assert.strictEqual(staying(), 0)
  })

  it("stays in its zone although the endpoints of a later priority are excluded", () => {
    const endpoints = [
      endpoint(0, { zone: "a" }),
      ...[1, 2, 3].map((index) => endpoint(index, { zone: "a", priority: 1 })),
      endpoint(4, { zone: "b" })
    ]
    const balancer = makeBalancer(Balancer.zoneAware("a"))
    balancer.update(endpoints, viewsOf(endpoints))
    const pick = picker(balancer)
    const avoid = addressesOf(endpoints.slice(1, 4))
    assert.deepStrictEqual([...countPicks(50, () => pick({ avoid })).keys()], [endpoints[0]!.address])
  })

  it("uses all endpoints where none is in its zone, or all are", () => {
    const away = setUp(0, 3)
    assert.strictEqual(countPicks(6, () => away.pick()).size, 3)
    const home = setUp(3, 0)
    assert.strictEqual(countPicks(6, () => home.pick()).size, 3)
    assert.strictEqual(
      whyNone(home.balancer, { avoid: addressesOf(home.endpoints) }),
      "every endpoint was tried, is in backoff or is ejected"
    )
    home.balancer.update([])
    assert.strictEqual(whyNone(home.balancer), "no endpoints")
  })

  it("works without views", () => {
    const endpoints = [endpoint(0, { zone: "a" }), endpoint(1, { zone: "b" })]
    const balancer = makeBalancer(Balancer.zoneAware("a", Balancer.peakEwma))
    balancer.update(endpoints)
    const pick = picker(balancer)
    assert.deepStrictEqual([...countPicks(20, () => pick()).keys()], [endpoints[0]!.address])
    assert.strictEqual(pick({ avoid: addressesOf(endpoints.slice(0, 1)) }), endpoints[1]!.address)
  })

  it("wraps a user's balancer, which need not have an immediate pick", () => {
    const last = Balancer.make((list, { avoid }) =>
      Effect.sync(() => list.filter(({ address }) => !avoid.has(address)).at(-1)!)
    )
    const { balancer, endpoints, pick } = setUp(3, 2, last)
    assert.isFalse(isImmediate(balancer))
    assert.isTrue(isImmediate(setUp(3, 2).balancer))
    assert.strictEqual(pick(), endpoints[2]!.address)
    assert.strictEqual(pick({ avoid: addressesOf(endpoints.slice(0, 3)) }), endpoints[4]!.address)
  })

  it("has a balancer of its own in each run", () => {
    const make = Balancer.zoneAware("a")
    for (let run = 0; run < 2; run++) {
      const balancer = makeBalancer(make)
      balancer.update(endpointsOf(3, { zone: "a" }))
      assert.strictEqual(picker(balancer)(), endpoint(0).address)
    }
  })

  it.effect("is a defect with a zone that is not a string", () =>
    Effect.gen(function*() {
      const exit = yield* Effect.exit(Balancer.zoneAware(undefined as unknown as string))
      assert.isTrue(Exit.isFailure(exit))
      if (Exit.isFailure(exit)) assert.include(Cause.pretty(exit.cause), "option zone: expected the name of a zone")
    }))
})
