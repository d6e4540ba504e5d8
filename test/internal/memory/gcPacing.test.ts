import { describe, it } from "@effect/vitest"
import * as assert from "node:assert/strict"
import { constants, PerformanceObserver } from "node:perf_hooks"
import { getHeapSpaceStatistics } from "node:v8"
import { noteFresh, noteFreshShared } from "../../../src/internal/memory/gcPacing.ts"

const minor = constants.NODE_PERFORMANCE_GC_MINOR

/** How much has been allocated in the young generation, where nothing was collected meanwhile. */
const youngBytes = () =>
  getHeapSpaceStatistics().find(({ space_name }) => space_name === "new_space")?.space_used_size ?? 0

const filledBy = (note: () => void): number => {
  // A collection in between makes it less: the most of several is what it is.
  return Math.max(...Array.from({ length: 5 }, () => {
    const before = youngBytes()
    note()
    return youngBytes() - before
  }))
}

describe("fresh buffers", () => {
  it("fill the young generation by no less than three quarters of their size, and shared ones by half of that", () => {
    const whole = filledBy(() => noteFresh(262_144))
    assert.ok(whole >= 180_000 && whole < 700_000, `${whole}`)
    const shared = filledBy(() => noteFreshShared(262_144))
    assert.ok(shared >= 80_000 && shared < 400_000, `${shared}`)
  })

  it("fill it by next to nothing where they are small", () => {
    assert.ok(filledBy(() => noteFresh(16)) <= 40_000)
  })

  it("fill it once, however large they are", () => {
    const start = process.threadCpuUsage()
    noteFresh(Number.MAX_SAFE_INTEGER)
    const { system, user } = process.threadCpuUsage(start)
    assert.ok(system + user < 500_000, `${system + user} µs`)
  })

  it("that are made in numbers are collected by young collections", async () => {
    const collected = new Promise<void>((resolve) => {
      const observer = new PerformanceObserver((list) => {
        // `detail` of such an entry is documented, and not typed.
        const isYoung = (entry: object) =>
          (entry as { readonly detail: { readonly kind: number } }).detail.kind === minor
        if (!list.getEntries().some(isYoung)) return
        observer.disconnect()
        resolve()
      })
      observer.observe({ entryTypes: ["gc"] })
    })
    for (let i = 0; i < 1000; i++) noteFresh(262_144)
    await collected
  })
})
