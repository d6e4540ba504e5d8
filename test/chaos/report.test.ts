import { describe, it } from "@effect/vitest"
import * as assert from "node:assert/strict"
import { countsOf, type Figures, textOf } from "./report.ts"
import { Violations } from "./violations.ts"

const memory = { heapUsed: 2 ** 20, external: 2 ** 21, rss: 2 ** 22 }

const figures: Figures = {
  seconds: 30,
  calls: 1234,
  callsPerSecond: 41.1,
  endings: { Unreachable: 4, answered: 1230 },
  streams: {
    opened: { "bytes feed": 12, "typed chat": 3 },
    itemsReceived: 400,
    bytesReceived: 2 ** 20,
    itemsMade: 50,
    bytesMade: 2 ** 19,
    mostItems: 99,
    largestItem: 2 ** 18
  },
  executions: 1231,
  faults: { kill: 2 },
  processes: 7,
  connections: 6,
  slowestCloseMillis: 12.34,
  recovery: { used: 7, first: { replica: "a", stamp: 3, millis: 8.12 }, any: undefined },
  memory: {
    start: memory,
    end: { ...memory, rss: 2 ** 23 },
    rss: { eighths: [1, 2, 3, 4, 4, 4, 4, 4].map((mebibytes) => mebibytes * 2 ** 20), growth: 0.042 }
  },
  fibers: 99,
  cpuSeconds: 3,
  maxEventLoopDelayMillis: 45.6
}

const report = (violations: Violations) => ({
  seed: 5,
  ok: violations.total === 0,
  checks: countsOf(violations),
  violations: violations.told.map(({ check, text }) => ({ check, text, journal: ["a line"] })),
  directory: violations.total === 0 ? undefined : "/somewhere",
  figures,
  exitMillis: 1.23
})

describe("the report of a soak", () => {
  it("says how calls ended, what happened to replicas, what was measured, and that nothing was found", () => {
    const text = textOf(report(new Violations()))
    assert.match(text, /^calls +count\nmade +1234\nanswered +1230\nUnreachable +4\n/)
    assert.match(text, /bytes feed +12\ntyped chat +3\nitems received +400 \(1\.0 MiB\)\n/)
    assert.match(text, /kill +2\n/)
    assert.match(text, /until the first call was served +8\.1 ms \(replica a, process 3\)/)
    assert.match(text, /RSS +4\.0 MiB → 8\.0 MiB/)
    assert.match(
      text,
      /RSS in each eighth of the run +1 2 3 4 4 4 4 4 MiB\ngrowth of the RSS over the last half +4 %\n/
    )
    assert.match(text, /calls that ended twice +0\n/)
    assert.match(text, /nothing went wrong$/)
  })

  it("says what was found, and where to look", () => {
    const violations = new Violations()
    violations.add("endedTwice", "call 7 ended once more", 7)
    const text = textOf(report(violations))
    assert.match(text, /calls that ended twice +1\n/)
    assert.match(text, /✗ calls that ended twice: call 7 ended once more\n {4}a line\n/)
    assert.match(text, /more in \/somewhere\n/)
    assert.match(text, /something went wrong; for the same faults again: --seed 5$/)
  })

  it("is there without figures where the soak has failed", () => {
    const violations = new Violations()
    violations.add("broken", "a process could not be started")
    const text = textOf({ ...report(violations), figures: undefined })
    assert.match(text, /failures of the soak itself: a process could not be started/)
    assert.ok(!text.includes("calls per second"))
  })
})
