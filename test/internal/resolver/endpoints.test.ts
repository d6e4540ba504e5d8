import { assert, describe, it } from "@effect/vitest"
import { Endpoint } from "effect-call"
import { distinct, sameEndpoints, sorted } from "../../../src/internal/resolver/endpoints.ts"

const a = Endpoint.tcp("a:80")
const b = Endpoint.tcp("b:80")
const c = Endpoint.tcp("c:80")
const heavy = Endpoint.withAttributes(a, { weight: 2 })

describe("lists of endpoints", () => {
  it("have one endpoint for each address, the first one", () => {
    assert.deepStrictEqual(distinct([b, a, heavy, b]), [b, a])
  })

  it("are sorted by address, so that a set is always the same list", () => {
    assert.deepStrictEqual(sorted([c, heavy, b, a]), [heavy, b, c])
  })

  it("are the same where their addresses and attributes are, in order", () => {
    assert.isTrue(sameEndpoints([a, b], [Endpoint.tcp("a:80"), b]))
    assert.isFalse(sameEndpoints([a, b], [b, a]))
    assert.isFalse(sameEndpoints([a], [a, b]))
    for (const attributes of [{ weight: 2 }, { zone: "z" }, { priority: 1 }]) {
      assert.isFalse(sameEndpoints([a], [Endpoint.withAttributes(a, attributes)]), JSON.stringify(attributes))
    }
  })
})
