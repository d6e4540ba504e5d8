import { describe, it } from "@effect/vitest"
import * as assert from "node:assert/strict"
import { Latencies } from "./meter.ts"
import type { Figures } from "./pair.ts"
import { type Row, rowOf, text } from "./report.ts"
import { median } from "./support.ts"

/** A round of a second: so many calls, each of which took so long and used so much CPU on either side. */
const round = (calls: number, latencyMicros = 100, cpuMicros = 10): Figures => {
  const latencies = new Latencies()
  for (let i = 0; i < calls; i++) latencies.add(latencyMicros / 1000)
  return {
    calls,
    seconds: 1,
    latencies: latencies.counts,
    clientCpuMicros: calls * cpuMicros,
    serverCpuMicros: calls * cpuMicros * 2
  }
}

const peaks = (clientBytes: number, serverBytes: number) => ({
  client: { cpuMicros: 0, peakRss: clientBytes, rss: 0 },
  server: { cpuMicros: 0, peakRss: serverBytes, rss: 0 }
})

/** The ratios of a row by their names. */
const ratiosOf = (row: Row) => Object.entries(row).filter(([name]) => /ratio/i.test(name))

describe("a median", () => {
  it("is the middle one, in any order of the values", () => {
    assert.equal(median([30, 10, 20]), 20)
    assert.equal(median([10, 9, 100]), 10)
    assert.equal(median([7]), 7)
  })

  it("of an even number of values is halfway between the two in the middle", () => {
    assert.equal(median([4, 1, 2, 100]), 3)
  })

  it("of nothing is no number", () => {
    assert.equal(median([]), NaN)
  })

  it("leaves the values as they were", () => {
    const values = [3, 1, 2]
    median(values)
    assert.deepEqual(values, [3, 1, 2])
  })
})

describe("a row of the benchmark", () => {
  it("has the medians of the rounds, each figure's by itself", () => {
    const rounds = [round(100, 3000, 5), round(300, 1000, 25), round(200, 2000, 15)]
    const row = rowOf("bytes", 64, 16, rounds, peaks(5e6, 7e6), undefined, undefined)
    assert.deepEqual([row.system, row.concurrency, row.payloadBytes], ["bytes", 64, 16])
    assert.equal(row.callsPerSecond, 200)
    for (const micros of [row.p50Us, row.p99Us, row.p999Us]) assert.ok(Math.abs(micros / 2000 - 1) < 0.02)
    assert.equal(row.clientCpuUs, 15)
    assert.equal(row.serverCpuUs, 30)
    assert.deepEqual([row.clientPeakRssBytes, row.serverPeakRssBytes], [5e6, 7e6])
  })

  it("counts calls by the time that a round really took", () => {
    const row = rowOf("bytes", 1, 16, [{ ...round(100), seconds: 4 }], undefined, undefined, undefined)
    assert.equal(row.callsPerSecond, 25)
  })

  it("has the medians of what the ratios were in each round: a machine that was slow for a round was slow for both", () => {
    const baseline = [round(100), round(1000), round(400)]
    // 0.6, 0.9 and 0.25: the ratio of the medians would be 0.25.
    const row = rowOf(
      "bytes",
      64,
      16,
      [round(60), round(900), round(100)],
      peaks(6e6, 1e6),
      baseline,
      peaks(3e6, 2e6)
    )
    assert.equal(row.callsPerSecond, 100)
    assert.equal(row.ratioToRaw, 0.6)
    assert.deepEqual([row.p50Ratio, row.clientCpuRatio, row.serverCpuRatio], [1, 1, 1])
    assert.deepEqual([row.clientPeakRssRatio, row.serverPeakRssRatio], [2, 0.5])
  })

  it("is 1 everywhere compared with itself", () => {
    const rounds = [round(100, 10), round(200, 20)]
    for (const [name, ratio] of ratiosOf(rowOf("raw", 64, 16, rounds, peaks(1, 1), rounds, peaks(1, 1)))) {
      assert.equal(ratio, 1, name)
    }
  })

  it("has null for every ratio where there was no baseline", () => {
    const ratios = ratiosOf(rowOf("bytes", 64, 16, [round(100)], peaks(1, 1), undefined, undefined))
    assert.equal(ratios.length, 8)
    for (const [name, ratio] of ratios) assert.equal(ratio, null, name)
  })
})

describe("the table of rows", () => {
  const rows = [
    rowOf("raw", 64, 16, [round(1000)], peaks(5e6, 5e6), [round(1000)], peaks(5e6, 5e6)),
    rowOf("effect-rpc", 64, 16, [round(250)], peaks(10e6, 5e6), [round(1000)], peaks(5e6, 5e6))
  ]

  it("has a line for each below its heads, all of one length", () => {
    const lines = text(rows).split("\n")
    assert.equal(lines.length, 3)
    assert.equal(new Set(lines.map((line) => line.length)).size, 1)
    assert.match(lines[2] ?? "", /^effect-rpc +64 +16 +250 +×0\.25 .* 10 +×2\.00 +5 +×1\.00$/)
  })

  it("has no ratios where there was no baseline", () => {
    const alone = text([rowOf("bytes", 64, 16, [round(250)], peaks(1e6, 1e6), undefined, undefined)])
    assert.match(alone, /\b250\b/)
    assert.ok(!alone.includes("×") && !alone.includes("null"))
  })

  it("has only its heads where there are no rows", () => {
    assert.match(text([]), /^system +callers +bytes/)
  })
})
