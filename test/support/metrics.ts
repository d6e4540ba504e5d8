/** Tests whose Connections and servers count in a registry of the test's own. */
import { Effect } from "effect"
import { TestNetwork } from "effect-call/testing"
import type * as Metric from "effect/Metric"
import * as assert from "node:assert/strict"
import { type Attributes, boundaries, makeRegistry } from "../internal/telemetry/support.ts"

export type Metrics = ReturnType<typeof makeRegistry>

type Side = "client" | "server"

/** A test with a registry of its own, around its Connections and its servers. */
export const metered = <A, E, R>(test: (metrics: Metrics) => Effect.Effect<A, E, R>) => () => {
  const metrics = makeRegistry()
  return Effect.provideContext(test(metrics), metrics.context)
}

/** All calls that were counted: how many of each method, at which address, with what outcome. */
export const callsOf = ({ histograms }: Metrics, side: Side): ReadonlyArray<string> =>
  histograms(`rpc.${side}.call.duration`).map(({ attributes, state }) => {
    const address = attributes["server.address"]
    const where = address === undefined ? "" : ` at ${address}`
    return `${state.count} ${attributes["rpc.method"]}${where}: ${attributes["error.type"] ?? "ok"}`
  }).toSorted()

/** How long the calls took with these attributes, among others; they are of one method, with one outcome. */
export const durationsOf = ({ histograms }: Metrics, side: Side, some: Attributes = {}): Metric.HistogramState => {
  const found = histograms(`rpc.${side}.call.duration`, some)
  assert.equal(found.length, 1, `${found.length} series of durations`)
  return found[0]!.state
}

/** Calls that all took the same time are in the bucket of that time, and nowhere else. */
export const assertTook = (state: Metric.HistogramState, seconds: number, count = 1): void => {
  assert.deepEqual(state, {
    buckets: boundaries.map((boundary) => [boundary, boundary < seconds ? 0 : count]),
    count,
    sum: seconds * count,
    min: seconds,
    max: seconds
  })
}

/** The bytes that one side has sent and received, at all addresses together. */
export const bytesOf = ({ values }: Metrics, side: Side) => {
  const sum = (direction: string) =>
    values(`rpc.${side}.network.io`, { "network.io.direction": direction }).reduce((sum, bytes) => sum + bytes, 0)
  return { sent: sum("transmit"), received: sum("receive") }
}

/** As {@link metered}, with a network in memory. */
export const meteredInMemory = <A, E, R>(test: (metrics: Metrics) => Effect.Effect<A, E, R>) =>
  metered((metrics) => Effect.provide(test(metrics), TestNetwork.layer))
