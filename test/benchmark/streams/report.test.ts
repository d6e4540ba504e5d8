import { describe, it } from "@effect/vitest"
import * as assert from "node:assert/strict"
import { figuresOf, type Snapshot, type StreamFigures } from "./pair.ts"
import { type Cell, streamHeadline, streamMarkdown, streamRow, streamText, targetOf } from "./report.ts"
import { allCells, cellsOf } from "./table.ts"

const cell: Cell = { itemBytes: 16, chunk: 1, streams: 64 }
const peaks = { client: 90e6, server: 80e6 }

const round = (rate: number, clientMicros = 1): StreamFigures => ({
  rate,
  clientMicros,
  serverMicros: 2 * clientMicros
})

/** A process that was asked so many seconds after it started. */
const snapshot = (seconds: number, items: number, cpuSeconds: number): Snapshot => ({
  items,
  streams: 0,
  large: 0,
  micros: cpuSeconds * 1e6,
  now: seconds * 1000,
  memory: { heapUsed: 0, external: 0, rss: 0 },
  peakRss: 0,
  problem: undefined
})

describe("what was between two moments", () => {
  it("is counted by each process's own time", () => {
    const before = { client: snapshot(10, 500, 1), server: snapshot(20, 0, 0) }
    // 4 000 items in 2 s, with half a second of CPU; the server was asked half a second later, and used all its time.
    const after = { client: snapshot(12, 4500, 1.5), server: snapshot(22.5, 9000, 2.5) }
    assert.deepEqual(figuresOf(before, after), { rate: 2000, clientMicros: 125, serverMicros: 500 })
  })
})

describe("a row of streams", () => {
  it("has the medians of the rounds", () => {
    const row = streamRow("raw-credit", cell, [round(100, 3), round(300, 1), round(200, 9)], undefined, peaks)
    assert.equal(row.itemsPerSecond, 200)
    assert.deepEqual([row.clientCpuUs, row.serverCpuUs], [3, 6])
    assert.deepEqual([row.clientPeakRssBytes, row.serverPeakRssBytes], [90e6, 80e6])
    assert.equal(row.ratioToRaw, null)
  })

  it("has the median of the ratios in each round, to what the baseline had in the same", () => {
    const rounds = [round(60), round(900), round(100)]
    const row = streamRow("raw-credit", cell, rounds, [round(100), round(1000), round(400)], peaks)
    assert.equal(row.ratioToRaw, 0.6)
  })
})

describe("the targets of streams", () => {
  it("are there for each cell that is measured, and higher for bytes", () => {
    for (const cell of cellsOf("cells", allCells)) {
      const [bytes, typed] = ["bytes", "typed"].map((system) => targetOf(system, cell))
      assert.ok(bytes !== undefined && typed !== undefined && bytes > typed)
      assert.equal(targetOf("grpc-js", cell), undefined)
    }
  })
})

describe("the table of streams", () => {
  const baseline = [round(6e6)]
  const rows = [
    streamRow("raw", cell, baseline, baseline, peaks),
    streamRow("effect-rpc", cell, [round(24_000, 40)], baseline, peaks),
    streamRow("raw", { ...cell, itemBytes: 4096, chunk: 16 }, [round(1e5)], [round(1e5)], peaks)
  ]

  it("has a part for each cell, named by what its streams are", () => {
    const text = streamText(rows)
    assert.match(text, /^16 B, chunks of 1, 64 streams\n\nsystem +items\/s .*\nraw +6 000 000 +1\.00 .*\neffect-rpc /)
    assert.match(text, /\n\n4 KiB, chunks of 16, 64 streams\n\nsystem .*\nraw +100 000 +1\.00 +410 /)
  })

  it("has as many digits of small ratios as say something", () => {
    assert.match(streamText(rows), /effect-rpc +24 000 +0\.0040 +0 +40\.000 +80\.000 +90, 80$/m)
  })

  it("is padded on a page", () => {
    const lines = streamMarkdown(rows).split("\n\n")[1]?.split("\n") ?? []
    assert.equal(lines.length, 4)
    assert.equal(new Set(lines.map((line) => line.length)).size, 1)
    assert.match(lines[3] ?? "", /^\| `effect-rpc` \| 24 000 +\| 0\.0040 \|/)
  })

  it("is one line for each system on the page of all benchmarks", () => {
    const lines = streamHeadline(rows).split("\n")
    assert.equal(lines.length, 4)
    assert.match(lines[0] ?? "", /\| 64 × 1 × 16 B +\| 64 × 16 × 4 KiB +\|$/)
    assert.match(lines[2] ?? "", /^\| `raw` +\| 6\.00 M \(1\.00\) +\| 100 k \(1\.00\)/)
    assert.match(lines[3] ?? "", /^\| `effect-rpc` +\| 24\.0 k \(0\.0040\) +\| –/)
  })
})
