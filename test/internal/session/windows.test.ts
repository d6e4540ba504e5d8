import { describe, it } from "@effect/vitest"
import * as fc from "fast-check"
import * as assert from "node:assert/strict"
import { type Window, Windows } from "../../../src/internal/session/windows.ts"

const kib = 1024
const mib = 1024 * kib

/** Takes a whole window at once. Returns what is granted. */
const takeAll = (window: Window, keepsUp: boolean) => window.taken(window.size, keepsUp)

describe("the windows of a connection", () => {
  it("begin with 64 KiB, or with the largest where that is smaller", () => {
    assert.deepEqual([mib, 64 * kib, 10 * kib].map((largest) => new Windows(largest, 16 * mib).first), [
      64 * kib,
      64 * kib,
      10 * kib
    ])
  })

  it("grow up to the largest while the consumers wait for the peer, and never over 2^31 - 1", () => {
    const windows = new Windows(300 * kib, 16 * mib)
    const window = windows.add()
    assert.equal(takeAll(window, true), 128 * kib)
    assert.equal(takeAll(window, false), 128 * kib)
    assert.equal(takeAll(window, true), 256 * kib)
    assert.equal(takeAll(window, true), 300 * kib)
    assert.equal(takeAll(window, true), 300 * kib)
    assert.deepEqual([window.size, windows.total], [300 * kib, 300 * kib])
    const huge = new Windows(2 ** 40, 2 ** 50).add(2 ** 31 - 2)
    takeAll(huge, true)
    assert.equal(huge.size, 2 ** 31 - 1)
  })

  it("grant when half was taken, and all of what was taken", () => {
    const window = new Windows(64 * kib, 16 * mib).add()
    assert.equal(window.taken(32 * kib - 1, true), 0)
    assert.equal(window.taken(1, true), 32 * kib)
    assert.equal(window.taken(mib, true), mib)
  })

  it("grow to about the same size where they are many, and not over the budget", () => {
    const windows = new Windows(mib, 16 * mib)
    const all = Array.from({ length: 64 }, () => windows.add())
    for (let i = 0; i < 30; i++) for (const window of all) takeAll(window, true)
    const sizes = all.map(({ size }) => size)
    assert.equal(Math.max(...sizes), 256 * kib)
    assert.ok(Math.min(...sizes) >= 128 * kib, String(sizes))
    assert.ok(windows.total <= 16 * mib)
  })

  it("shrink to 4 KiB at least while they are over the budget together, by granting less than was taken", () => {
    const windows = new Windows(mib, mib)
    const idle = Array.from({ length: 17 }, () => windows.add())
    const busy = windows.add()
    assert.equal(windows.total, mib + 128 * kib)
    const grants = Array.from({ length: 5 }, () => takeAll(busy, true))
    assert.deepEqual(grants, [32, 16, 8, 4, 4].map((size) => size * kib))
    assert.equal(busy.size, 4 * kib)
    idle.slice(0, 4).forEach((window) => window.remove())
    takeAll(busy, true)
    assert.equal(busy.size, 8 * kib)
  })

  it("shrink no more than is needed", () => {
    const windows = new Windows(mib, 100 * kib)
    const [one, other] = [windows.add(), windows.add()]
    assert.equal(takeAll(one, true), 64 * kib - 28 * kib)
    assert.equal(takeAll(other, true), 64 * kib)
    assert.equal(windows.total, 100 * kib)
  })

  it("shrink to the largest where the first credit was larger", () => {
    const window = new Windows(1000, 16 * mib).add(16_384)
    const grants = Array.from({ length: 6 }, () => takeAll(window, true))
    assert.deepEqual(grants, [8192, 4096, 2048, 1024, 1000, 1000])
  })

  it("give their share back once, and grant nothing after that", () => {
    const windows = new Windows(mib, 16 * mib)
    const [one] = [windows.add(), windows.add()]
    one.remove()
    one.remove()
    assert.equal(windows.total, 64 * kib)
    assert.deepEqual([takeAll(one, true), one.open(), windows.total], [0, 0, 64 * kib])
  })

  it("hold for any streams: credit is never more than the window, a consumer that takes all leaves credit to its peer", () => {
    const step = fc.record({
      stream: fc.nat(9),
      action: fc.constantFrom("send", "send", "take", "take", "takeAll", "replace"),
      size: fc.oneof(fc.nat(100), fc.nat(10_000), fc.nat(300_000)),
      keepsUp: fc.boolean()
    })
    fc.assert(
      fc.property(
        fc.oneof(fc.integer({ min: 1, max: 10_000 }), fc.integer({ min: 1, max: mib })),
        fc.integer({ min: 1, max: 4 * mib }),
        fc.array(step, { maxLength: 300 }),
        (largest, budget, steps) => {
          const windows = new Windows(largest, budget)
          const begin = () => {
            const credit = Math.min(16_384, windows.first)
            const window = windows.add(credit)
            return { window, credit: credit + window.open(), waiting: 0 }
          }
          const streams = Array.from({ length: 10 }, begin)
          for (const { action, keepsUp, size, stream } of steps) {
            const one = streams[stream]!
            if (action === "replace") {
              one.window.remove()
              streams[stream] = begin()
            } else if (action === "send") {
              // It may overdraw.
              if (one.credit > 0) {
                one.credit -= size
                one.waiting += size
              }
            } else {
              const bytes = action === "takeAll" ? one.waiting : Math.min(size, one.waiting)
              const before = windows.total
              one.waiting -= bytes
              const granted = one.window.taken(bytes, keepsUp)
              assert.ok(granted >= 0)
              one.credit += granted
              if (windows.total > before) assert.ok(windows.total <= budget)
              if (one.waiting === 0) assert.ok(one.credit * 2 >= one.window.size, `${one.credit} of ${one.window.size}`)
            }
            for (const { credit, window } of streams) {
              assert.ok(credit <= window.size)
              assert.ok(window.size <= largest && window.size >= Math.min(largest, 4096))
            }
            assert.equal(windows.total, streams.reduce((sum, { window }) => sum + window.size, 0))
          }
          for (const { window } of streams) window.remove()
          assert.equal(windows.total, 0)
        }
      ),
      { seed: 17, numRuns: 200 }
    )
  })
})
