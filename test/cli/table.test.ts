/** The table of `effect-call watch`, from what is known to lines. */
import { describe, it } from "@effect/vitest"
import type { Connection } from "effect-call"
import * as assert from "node:assert/strict"
import { jsonOf, linesOf, type Snapshot } from "../../src/cli/table.ts"
import { width } from "../../src/cli/text.ts"

const endpoint = (
  address: string,
  given: Partial<Connection.EndpointState> = {}
): Connection.EndpointState => ({
  address,
  state: "Active",
  callsInFlight: 0,
  streams: 0,
  inBackoff: false,
  isEjected: false,
  isServing: true,
  latency: undefined,
  lastFailure: undefined,
  ...given
})

const snapshot = (given: Partial<Snapshot>): Snapshot => ({
  source: "dns://cart:7000",
  time: "2030-01-01T00:00:00.000Z",
  endpoints: [],
  resolverFailure: undefined,
  resolverProblem: undefined,
  calls: undefined,
  ...given
})

const made = {
  answered: 12,
  failed: 3,
  lastError: "RemoteError: no\nfunds",
  byEndpoint: new Map([["tcp://a:1", { count: 15, perSecond: 2.25 }]])
}

describe("the table", () => {
  it("has a line for each endpoint, with what keeps calls away from it", () => {
    const lines = linesOf(snapshot({
      endpoints: [
        endpoint("tcp://a:1", { callsInFlight: 12, latency: 0.5 }),
        endpoint("tcp://b:1", { isServing: false, isEjected: true, latency: 12.4 }),
        endpoint("unix:///c", { state: "Idle", inBackoff: true, latency: 2340, lastFailure: "connect ENOENT" })
      ]
    }))
    assert.deepEqual(lines, [
      "dns://cart:7000  3 endpoints, 2 active  2030-01-01T00:00:00.000Z",
      "ADDRESS    STATE                         IN FLIGHT  LATENCY  LAST FAILURE",
      "tcp://a:1  Active                               12  0.50 ms",
      "tcp://b:1  Active, not serving, ejected          0    12 ms",
      "unix:///c  Idle, backoff                         0    2.3 s  connect ENOENT"
    ])
  })

  it("has what each endpoint was called, and how that went, where calls are made", () => {
    const lines = linesOf(snapshot({ endpoints: [endpoint("tcp://a:1"), endpoint("tcp://b:1")], calls: made }))
    assert.deepEqual(lines.slice(1), [
      "ADDRESS    STATE          IN FLIGHT  LATENCY    CALLS  CALLS/S  LAST FAILURE",
      "tcp://a:1  Active                 0        -       15      2.3",
      "tcp://b:1  Active                 0        -        0      0.0",
      "12 calls answered, 3 failed, the last with RemoteError: no\\nfunds"
    ])
  })

  it("says that the resolver fails, and what it says", () => {
    const lines = linesOf(snapshot({ resolverFailure: "no \u001b[31mDNS", resolverProblem: "one is left out" }))
    assert.deepEqual(lines.slice(1, 3), ["the resolver fails: no \\u{1b}[31mDNS", "the resolver says: one is left out"])
  })

  it("is no wider and no higher than the terminal, and says what it leaves out", () => {
    const endpoints = Array.from({ length: 50 }, (_, i) => endpoint(`tcp://a:${i}`, { lastFailure: "世".repeat(100) }))
    for (const size of [{ columns: 60, rows: 8 }, { columns: 7, rows: 3 }, { columns: 200, rows: 1 }]) {
      const lines = linesOf(snapshot({ endpoints, calls: made, resolverFailure: "x".repeat(300) }), size)
      assert.ok(lines.length <= size.rows)
      for (const line of lines) assert.ok(width(line) <= size.columns, line)
    }
    const lines = linesOf(snapshot({ endpoints, calls: made }), { columns: 60, rows: 8 })
    assert.equal(lines.length, 8)
    assert.equal(lines[6], "… and 46 more")
  })

  it("lets no control characters of a peer through to the terminal", () => {
    const lines = linesOf(snapshot({
      source: "dns://\u001b[2J",
      endpoints: [endpoint("unix:///\u001b[2J", { lastFailure: "\u009b2J\r\n\u202e" })],
      calls: { ...made, lastError: "\u0007" }
    }))
    // oxlint-disable-next-line no-control-regex -- they are what must not be there
    for (const line of lines) assert.doesNotMatch(line, /[\u0000-\u001f\u007f-\u009f\u202e]/)
  })
})

describe("a state in JSON", () => {
  it("has every field in every line, and the fields of calls where calls are made", () => {
    const state = snapshot({ endpoints: [endpoint("tcp://a:1")] })
    assert.equal(
      jsonOf(state),
      "{\"time\":\"2030-01-01T00:00:00.000Z\",\"endpoints\":[{\"address\":\"tcp://a:1\",\"state\":\"Active\",\"callsInFlight\":0,"
        + "\"streams\":0,\"inBackoff\":false,\"isEjected\":false,\"isServing\":true,\"latency\":null,\"lastFailure\":null}],\"resolverFailure\":null,\"resolverProblem\":null}"
    )
    const withCalls = JSON.parse(jsonOf({ ...state, calls: made }))
    assert.equal(withCalls.endpoints[0].calls, 15)
    assert.equal(withCalls.endpoints[0].callsPerSecond, 2.25)
    assert.deepEqual([withCalls.answered, withCalls.failed, withCalls.lastError], [12, 3, "RemoteError: no\nfunds"])
  })
})
