import { describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { MethodKey } from "effect-call"
import { PrometheusMetrics } from "effect/observability"
import * as assert from "node:assert/strict"
import { CallsByMethod, maxErrorTypes, maxMethods, Tally } from "../../../src/internal/telemetry/calls.ts"
import { SeriesSet } from "../../../src/internal/telemetry/series.ts"
import { type Attributes, boundaries, makeRegistry } from "./support.ts"

const name = "calls"
const get = MethodKey.make("test/Store", "get")
const put = MethodKey.make("test/Store", "put")

const makeCalls = (attributes: Attributes = {}) => {
  const registry = makeRegistry()
  const series = new SeriesSet(registry.context)
  const calls = new CallsByMethod({ name, description: "Calls", unit: "seconds" }, series, attributes)
  return { ...registry, calls, set: series }
}

describe("the calls of a method", () => {
  it("are shown with its component, its name, and what is known of all", () => {
    const { calls, histograms } = makeCalls({ "server.address": "a" })
    calls.method(get).record(0.2, undefined)
    assert.deepEqual(histograms(name).map(({ attributes }) => attributes), [{
      "rpc.system.name": "effect_call",
      "rpc.service": "test/Store",
      "rpc.method": "get",
      "server.address": "a",
      unit: "seconds"
    }])
  })

  it.effect("can be scraped, with any names", () => {
    const { calls, context } = makeCalls()
    const names: ReadonlyArray<unknown> = [
      404,
      undefined,
      null,
      "",
      "a\"b\\c\nd",
      "\ud800",
      {},
      ["a"],
      "x".repeat(100_000)
    ]
    // Whatever their types say. `make` would refuse some of them, and keys are plain objects.
    const key = MethodKey.make("a", "b")
    for (const [i, name] of names.entries()) {
      const named = { ...key, component: name as string, method: name as string, hex: `${i}` }
      calls.method(named).record(0.1, undefined)
    }
    return Effect.gen(function*() {
      const lines = (yield* PrometheusMetrics.format()).split("\n").filter((line) => line.startsWith("calls_count{"))
      assert.equal(lines.length, names.length)
      for (const line of lines) assert.match(line, /^calls_count\{([a-z_]+="([^"\\\n]|\\["\\n])*",?)+\} 1$/)
    }).pipe(Effect.provideContext(context))
  })

  it("are counted apart from the calls of another, in any order", () => {
    const { calls, values } = makeCalls()
    for (const key of [get, put, put, get, put]) calls.method(key).record(0.1, undefined)
    assert.deepEqual(values(name, { "rpc.method": "get" }), [2])
    assert.deepEqual(values(name, { "rpc.method": "put" }), [3])
  })

  it("are the same for two keys of the same names", () => {
    const { calls, values } = makeCalls()
    calls.method(get).record(0.1, undefined)
    calls.method(MethodKey.make("test/Store", "get")).record(0.1, undefined)
    assert.deepEqual(values(name), [2])
  })

  it("are not shown before there is one", () => {
    const { calls, series } = makeCalls()
    calls.method(get)
    assert.deepEqual(series(), [])
  })

  it("are counted by their outcome", () => {
    const { calls, histograms } = makeCalls()
    calls.method(get).record(0.1, undefined)
    calls.method(get).record(0.2, "canceled")
    calls.method(get).record(0.3, "canceled")
    calls.method(get).record(0.4, "Lost")
    assert.deepEqual(histograms(name).map(({ attributes, state }) => [attributes["error.type"], state.count]), [
      [undefined, 1],
      ["canceled", 2],
      ["Lost", 1]
    ])
  })
})

describe("the durations of calls", () => {
  const recorded = (...seconds: ReadonlyArray<number>) => {
    const { calls, histograms } = makeCalls()
    for (const each of seconds) calls.method(get).record(each, undefined)
    return histograms(name)[0]!.state
  }
  /** The boundaries that so many of the values are not above. */
  const from = (boundary: number) => boundaries.map((each) => [each, each >= boundary ? 1 : 0])

  it.each(boundaries)("count for the bucket that ends with %d s where they are just that", (boundary) => {
    assert.deepEqual(recorded(boundary).buckets, from(boundary))
  })

  it.each(boundaries.slice(0, -1))(
    "count for the bucket after the one that ends with %d s where they are longer",
    (boundary) => {
      const next = boundaries[boundaries.indexOf(boundary) + 1]!
      assert.deepEqual(recorded(boundary * 1.000_001).buckets, from(next))
    }
  )

  it("count for no bucket that has an end where they are longer than 10 s", () => {
    const { buckets, count } = recorded(10.000_001)
    assert.deepEqual(buckets, from(Infinity))
    assert.equal(count, 1)
  })

  it("count for all buckets above theirs, too", () => {
    const { buckets } = recorded(0.001, 0.02, 0.02, 3, 11)
    assert.deepEqual(buckets, boundaries.map((each) => [each, each < 0.025 ? 1 : each < 5 ? 3 : 4]))
  })

  it("are summed up, and the shortest and the longest are known", () => {
    const { count, max, min, sum } = recorded(0.5, 0.25, 20, 0.75)
    assert.deepEqual({ count, max, min, sum }, { count: 4, max: 20, min: 0.25, sum: 21.5 })
  })
})

describe("the types of errors", () => {
  it("are counted apart up to 32, and together from there on", () => {
    const { calls, histograms, values } = makeCalls()
    for (let i = 0; i < 40; i++) calls.method(get).record(0.1, `error ${i}`)
    assert.equal(maxErrorTypes, 32)
    assert.equal(histograms(name).length, 33)
    assert.deepEqual(values(name, { "error.type": "error 31" }), [1])
    assert.deepEqual(values(name, { "error.type": "error 32" }), [])
    assert.deepEqual(values(name, { "error.type": "_OTHER" }), [8])
  })

  it("that were there before go on counting", () => {
    const { calls, values } = makeCalls()
    for (let i = 0; i < 40; i++) calls.method(get).record(0.1, `error ${i}`)
    calls.method(get).record(0.1, "error 0")
    assert.deepEqual(values(name, { "error.type": "error 0" }), [2])
  })

  it("are each method's own", () => {
    const { calls, values } = makeCalls()
    for (let i = 0; i < 40; i++) calls.method(get).record(0.1, `error ${i}`)
    calls.method(put).record(0.1, "another")
    assert.deepEqual(values(name, { "error.type": "another" }), [1])
  })

  it("may be called as the others are", () => {
    const { calls, values } = makeCalls()
    for (let i = 0; i < 40; i++) calls.method(get).record(0.1, i === 0 ? "_OTHER" : `error ${i}`)
    assert.deepEqual(values(name, { "error.type": "_OTHER" }), [1 + 40 - 32])
  })
})

describe("methods", () => {
  const keys = Array.from({ length: maxMethods + 5 }, (_, i) => MethodKey.make("test/Store", `${i}`))

  it("are counted apart up to 1000, and together and without a component from there on", () => {
    const { calls, histograms, values } = makeCalls()
    for (const key of keys) calls.method(key).record(0.1, undefined)
    assert.equal(maxMethods, 1000)
    assert.equal(histograms(name).length, 1001)
    assert.deepEqual(values(name, { "rpc.method": "999" }), [1])
    const [rest] = histograms(name, { "rpc.method": "_OTHER" })
    assert.equal(rest!.state.count, 5)
    assert.equal("rpc.service" in rest!.attributes, false)
  })

  it("that were there before go on counting", () => {
    const { calls, values } = makeCalls()
    for (const key of [...keys, keys[0]!]) calls.method(key).record(0.1, undefined)
    assert.deepEqual(values(name, { "rpc.method": "0" }), [2])
  })

  it("that a server does not have are one with those past the limit", () => {
    const { calls, values } = makeCalls()
    calls.other.record(0.1, "unknown")
    for (const key of keys) calls.method(key).record(0.1, "unknown")
    assert.deepEqual(values(name, { "rpc.method": "_OTHER" }), [6])
  })
})

describe("series that were removed", () => {
  it("are not shown, and show nothing that is counted later", () => {
    const { calls, series, set } = makeCalls()
    calls.method(get).record(0.1, undefined)
    set.remove()
    calls.method(get).record(0.1, "canceled")
    calls.method(put).record(0.1, undefined)
    assert.deepEqual(series(), [])
  })
})

describe("calls that end in one turn", () => {
  it("are counted when the turn is over, by the time that is then", () => {
    const { calls, histograms } = makeCalls()
    let now = 0
    const tally = new Tally(calls, () => now)
    for (let i = 0; i < 3; i++) tally.add(get, 0, undefined)
    tally.add(put, 0, "canceled")
    now = 100_000 // a second, in ticks
    tally.count()
    now = 200_000
    tally.count()
    assert.deepEqual(
      histograms(name).map(({ attributes, state }) => [
        attributes["rpc.method"],
        attributes["error.type"],
        state.count,
        state.sum
      ]),
      [["get", undefined, 3, 3], ["put", "canceled", 1, 1]]
    )
  })

  it("are counted by their method, when they were made, and how they ended", () => {
    const { calls, histograms } = makeCalls()
    const tally = new Tally(calls, () => 300_000)
    tally.add(get, 0, undefined)
    tally.add(get, 100_000, undefined)
    tally.add(put, 100_000, undefined)
    tally.add(put, 100_000, "canceled")
    tally.count()
    assert.deepEqual(histograms(name).map(({ state }) => [state.count, state.sum]), [[2, 5], [1, 2], [1, 2]])
  })

  it("can be read before the turn is over, and are not counted again", () => {
    const { calls, values } = makeCalls()
    const tally = new Tally(calls, () => 0)
    tally.add(get, 0, undefined)
    tally.add(get, 0, undefined)
    assert.deepEqual(values(name), [2])
    tally.count()
    assert.deepEqual(values(name), [2])
  })
})
