import { beforeAll, describe, it } from "@effect/vitest"
import * as assert from "node:assert/strict"
import { once } from "node:events"
import { Worker } from "node:worker_threads"
import type { Pacing } from "./pacing.ts"

describe("fresh buffers", () => {
  let pacing: Pacing

  beforeAll(async () => {
    const worker = new Worker(new URL("pacing.ts", import.meta.url))
    // It sends nothing else.
    const [message] = (await once(worker, "message")) as [Pacing]
    pacing = message
    await worker.terminate()
  })

  it("fill the young generation by no less than three quarters of their size, and shared ones by half of that", () => {
    assert.ok(pacing.whole >= 180_000 && pacing.whole < 700_000, `${pacing.whole}`)
    assert.ok(pacing.shared >= 80_000 && pacing.shared < 400_000, `${pacing.shared}`)
  })

  it("fill it by next to nothing where they are small", () => {
    assert.ok(pacing.small <= 40_000, `${pacing.small}`)
  })

  it("fill it once, even if they are very large", () => {
    assert.ok(pacing.largest < 500_000, `${pacing.largest} µs`)
  })

  it("that are made in numbers are collected by young collections", () => {
    assert.ok(pacing.isCollected)
  })
})
