import { describe, it } from "@effect/vitest"
import * as assert from "node:assert/strict"
import { viewOf } from "./flapping.ts"
import { Random } from "./random.ts"

const truth = ["a", "b", "c"]
const random = new Random(1, "views")
const views = Array.from({ length: 1000 }, () => viewOf(random, truth, ["dead"]))
const seen = new Set(views.map(({ items }) => items.join("")))

describe("a resolver that flaps", () => {
  it("lists replicas, reorders them, omits some, repeats some, lists dead ones, and lists none", () => {
    for (const view of ["abc", "cba", "b", "ca", "abcab", ""]) assert.ok(seen.has(view), view)
    assert.ok([...seen].some((view) => view.includes("dead")))
  })

  it("lists no unknown replica, and is empty only for a moment", () => {
    for (const { items, millis } of views) {
      assert.ok(items.every((item) => item === "dead" || truth.includes(item)))
      assert.ok(millis > 0 && millis <= (items.length === 0 ? 100 : 1000))
    }
  })
})
