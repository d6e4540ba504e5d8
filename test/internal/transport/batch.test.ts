import { describe, it } from "@effect/vitest"
import * as assert from "node:assert/strict"
import { acquireBatch } from "../../../src/internal/transport/batch.ts"

describe("a batch", () => {
  it("is used again when it was released, as if it were new", () => {
    const batch = acquireBatch(10)
    batch.length = 10
    batch.hasDeadlines = true
    batch.release()
    assert.equal(acquireBatch(20), batch)
    assert.deepEqual([batch.length, batch.hasDeadlines, batch.bytes.length], [0, false, 262_144])
  })

  it("is never given to two at a time", () => {
    const batches = Array.from({ length: 30 }, () => acquireBatch(1))
    assert.equal(new Set(batches).size, 30)
    for (const batch of batches) batch.release()
    const again = Array.from({ length: 30 }, () => acquireBatch(1))
    assert.equal(new Set(again).size, 30)
    // Some are kept, and not all: an application that was busy once must not keep the memory.
    assert.equal(again.filter((batch) => batches.includes(batch)).length, 16)
  })

  it("takes a message that is larger than others, and is not kept then", () => {
    const batch = acquireBatch(300_000)
    assert.equal(batch.bytes.length, 300_000)
    batch.release()
    assert.notEqual(acquireBatch(300_000), batch)
  })
})
