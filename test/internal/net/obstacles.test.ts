import { describe, it } from "@effect/vitest"
import * as assert from "node:assert/strict"
import { Obstacles } from "../../../src/internal/net/obstacles.ts"

describe("the obstacles of a dial", () => {
  it("are the last one of each address, as the end of a sentence", () => {
    const obstacles = new Obstacles()
    assert.equal(obstacles.text, "")
    obstacles.set("a", "a has not answered")
    obstacles.set("b", "b has not answered")
    obstacles.set("a", new Error("a was reset"))
    assert.equal(obstacles.text, " (up to now: a was reset; b has not answered)")
    obstacles.clear()
    assert.equal(obstacles.text, "")
  })
})
