import { describe, it } from "@effect/vitest"
import * as assert from "node:assert/strict"
import { Latencies, Meter } from "./meter.ts"

/** In ms, from a tenth of a microsecond to four minutes, a bit more from one to the next. */
const range: ReadonlyArray<number> = Array.from({ length: 800 }, (_, i) => 1e-4 * 1.0275 ** i).filter((ms) =>
  ms < 240_000
)

/** Latencies are counted in eighths of a microsecond, so that what is read off may be half of that away. */
const finestMicros = 1 / 16

const assertClose = (micros: number, exactMicros: number) => {
  const off = Math.abs(micros - exactMicros)
  assert.ok(off <= Math.max(0.02 * exactMicros, finestMicros), `${micros} µs was read off for ${exactMicros} µs`)
}

const latenciesOf = (millis: Iterable<number>): Latencies => {
  const latencies = new Latencies()
  for (const each of millis) latencies.add(each)
  return latencies
}

/** The one that this share of them does not exceed, by looking at all of them. */
const exactMicros = (millis: ReadonlyArray<number>, share: number): number =>
  ([...millis].sort((a, b) => a - b)[Math.ceil(millis.length * share) - 1] ?? NaN) * 1000

describe("the latencies of calls", () => {
  it("are read off with 2 % of error at most, from 4 µs to minutes, and with an eighth of a microsecond below", () => {
    for (const millis of range) assertClose(latenciesOf([millis]).percentile(1), millis * 1000)
  })

  it("have percentiles that are off by 2 % at most", () => {
    const samples = {
      "all over the range": range,
      "mostly short ones, some very long": range.flatMap((ms) => ms < 1 ? Array.from({ length: 50 }, () => ms) : [ms]),
      "all close together": Array.from({ length: 1000 }, (_, i) => 1 + i / 10_000),
      "in falling order": range.toReversed(),
      "a single one": [0.05]
    }
    for (const millis of Object.values(samples)) {
      const latencies = latenciesOf(millis)
      assert.equal(latencies.total, millis.length)
      for (const share of [0.001, 0.5, 0.9, 0.99, 0.999, 1]) {
        assertClose(latencies.percentile(share), exactMicros(millis, share))
      }
    }
  })

  it("are never read off in another order than they were in", () => {
    const readOff = range.map((millis) => latenciesOf([millis]).percentile(1))
    assert.deepEqual(readOff, readOff.toSorted((a, b) => a - b))
  })

  it("may be nothing, or a time longer than any test waits", () => {
    assertClose(latenciesOf([0]).percentile(1), 0)
    for (const millis of [1e6, 1e12, Infinity]) assert.ok(latenciesOf([millis]).percentile(1) > 240e6)
  })

  it("have no percentiles where there were no calls", () => {
    for (const share of [0, 0.5, 1]) assert.equal(new Latencies().percentile(share), NaN)
  })

  it("say the same in another process, which gets the counts and the number of calls", () => {
    const there = latenciesOf(range)
    const here = new Latencies(structuredClone(there.counts), there.total)
    for (const share of [0.5, 0.99, 1]) assert.equal(here.percentile(share), there.percentile(share))
  })
})

describe("a meter", () => {
  it("notes how long a call has taken, and gives the time at which the next one is made", () => {
    const meter = new Meter(60)
    const before = performance.now()
    const now = meter.answered(before - 5)
    assert.ok(now >= before && now <= performance.now())
    assert.equal(meter.latencies.total, 1)
    assertClose(meter.latencies.percentile(1), (now - before + 5) * 1000)
  })

  it("is over with the first answer after its time, which still counts", () => {
    const meter = new Meter(0)
    assert.equal(meter.isOver, false)
    meter.answered(performance.now())
    assert.equal(meter.isOver, true)
    assert.equal(meter.latencies.total, 1)
    const longer = new Meter(60)
    longer.answered(performance.now())
    assert.equal(longer.isOver, false)
  })
})
