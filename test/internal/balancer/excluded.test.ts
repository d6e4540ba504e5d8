/** Sets of excluded endpoints that list the eligible ones: a balancer picks by them as it does by a plain set. */
import { describe, it } from "@effect/vitest"
import { Effect, Exit, Option } from "effect"
import { type Balancer, Endpoint } from "effect-call"
import * as fc from "fast-check"
import * as assert from "node:assert/strict"
import { eligibleOf, type ExcludedSet } from "../../../src/internal/balancer/excluded.ts"
import { roundRobin } from "../../../src/internal/balancer/roundRobin.ts"

const endpoints = Array.from({ length: 60 }, (_, i) => Endpoint.tcp(`10.0.0.${i}:1`))

class Saying extends Set<string> implements ExcludedSet {
  *[eligibleOf]() {
    // In another order than the list, and with an address that is not listed.
    yield "tcp://10.9.9.9:1"
    for (const { address } of endpoints.toReversed()) if (!this.has(address)) yield address
  }
}

const pick = (balancer: Balancer.Balancer, avoid: ReadonlySet<string>) =>
  Option.map(Exit.getSuccess(Effect.runSyncExit(balancer.pick({ avoid }))), ({ address }) => address)

describe("round robin", () => {
  it("picks the same whether a set lists the eligible endpoints or not", () => {
    const avoided = fc.oneof(
      fc.subarray(endpoints.map(({ address }) => address)),
      fc.subarray(endpoints.map(({ address }) => address), { minLength: 55 })
    )
    fc.assert(fc.property(fc.array(avoided, { maxLength: 30 }), (rounds) => {
      const [plain, saying] = [roundRobin(), roundRobin()]
      for (const balancer of [plain, saying]) balancer.update(endpoints)
      for (const avoid of rounds) {
        assert.deepEqual(pick(saying, new Saying(avoid)), pick(plain, new Set(avoid)))
      }
    }))
  })
})
