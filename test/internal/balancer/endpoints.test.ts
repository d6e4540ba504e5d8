/** What several balancers need of an update. */
import { describe, it } from "@effect/vitest"
import * as assert from "node:assert/strict"
import { changed, fullWeights, nothingKnown } from "../../../src/internal/balancer/endpoints.ts"
import { endpoint, endpointsOf, viewsOf } from "../../support/views.ts"

describe("an update", () => {
  it("changes nothing where it lists the same endpoints and views in the same order", () => {
    const endpoints = endpointsOf(3)
    const views = viewsOf(endpoints)
    const known = changed(nothingKnown, endpoints, views)
    assert.ok(known !== undefined)
    assert.equal(changed(known, endpoints.slice(), views.slice()), undefined)
    assert.equal(changed(nothingKnown, [], undefined), undefined)
  })

  it("changes something where an endpoint, its place or a view differs, or where views come or go", () => {
    const endpoints = endpointsOf(3)
    const views = viewsOf(endpoints)
    const known = { endpoints, views }
    assert.ok(changed(known, endpoints.slice(1), views.slice(1)) !== undefined)
    assert.ok(changed(known, endpoints.toReversed(), views.toReversed()) !== undefined)
    assert.ok(changed(known, endpoints, viewsOf(endpoints)) !== undefined)
    assert.ok(changed(known, endpoints, undefined) !== undefined)
    assert.ok(changed({ endpoints, views: undefined }, endpoints, views) !== undefined)
  })

  it("is copied: what the caller does to its arrays later has no effect", () => {
    const endpoints = [...endpointsOf(2)]
    const known = changed(nothingKnown, endpoints, undefined)
    endpoints.pop()
    assert.equal(known?.endpoints.length, 2)
  })
})

describe("full weights", () => {
  it("are those of the endpoints, 1 where they have none, whatever the views say", () => {
    const endpoints = [endpoint(0, { weight: 3 }), endpoint(1)]
    const known = { endpoints, views: viewsOf(endpoints, { weight: 0.5 }) }
    assert.deepEqual([...fullWeights(known)], [3, 1])
  })
})
