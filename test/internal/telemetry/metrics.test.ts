import { describe, it } from "@effect/vitest"
import { Effect, Layer } from "effect"
import { MethodKey } from "effect-call"
import { HttpClient, HttpClientResponse } from "effect/http"
import { OtlpMetrics, OtlpSerialization, PrometheusMetrics } from "effect/observability"
import { TestClock } from "effect/testing"
import * as assert from "node:assert/strict"
import { clientMetrics, type ClientSource, maxUnused, serverMetrics } from "../../../src/internal/telemetry/metrics.ts"
import { boundaries, makeRegistry } from "./support.ts"

const get = MethodKey.make("test/Store", "get")

const peer = (state: ClientSource["state"] = "Active", callsInFlight = 0): ClientSource => ({
  state,
  callsInFlight,
  streams: 0
})

const makeClient = () => {
  const registry = makeRegistry()
  return { ...registry, metrics: clientMetrics(registry.context), endpoints: clientMetrics(registry.context).endpoints }
}

const makeServer = () => {
  const registry = makeRegistry()
  return { ...registry, servers: serverMetrics(registry.context) }
}

describe("an endpoint", () => {
  it("is named by its host and port", () => {
    const { endpoints, series } = makeClient()
    endpoints.acquire("tcp://[::1]:80", peer())
    assert.equal(series(undefined, { "server.address": "::1", "server.port": "80" }).length, 9)
  })

  it("has no port where its address has none", () => {
    const { endpoints, series } = makeClient()
    endpoints.acquire("unix:///run/a.sock", peer())
    assert.equal(series("rpc.client.active_requests", { "server.address": "/run/a.sock" }).length, 1)
    assert.ok(series().every(({ attributes }) => !("server.port" in attributes)))
  })

  it("has its calls counted by method and outcome", () => {
    const { endpoints, histograms } = makeClient()
    const stats = endpoints.acquire("tcp://a:80", peer())
    stats.calls.method(get).record(0.1, undefined)
    stats.calls.method(get).record(0.1, "Lost")
    const attributes = {
      "rpc.system.name": "effect_call",
      "rpc.service": "test/Store",
      "rpc.method": "get",
      "server.address": "a",
      "server.port": "80",
      unit: "seconds"
    }
    assert.deepEqual(histograms("rpc.client.call.duration").map(({ attributes }) => attributes), [
      attributes,
      { ...attributes, "error.type": "Lost" }
    ])
  })

  it("has its bytes counted by their direction, and its failed dials", () => {
    const { endpoints, series } = makeClient()
    const stats = endpoints.acquire("memory://a", peer())
    stats.sent += 3_000_000_000
    stats.received += 5
    stats.dialFailures++
    const ofA = { "server.address": "memory://a" }
    const network = (direction: string) => ({ ...ofA, "network.io.direction": direction, unit: "bytes" })
    assert.deepEqual(series("rpc.client.network.io").map(({ attributes, state }) => [attributes, state]), [
      [network("transmit"), { count: 3_000_000_000, incremental: true }],
      [network("receive"), { count: 5, incremental: true }]
    ])
    assert.deepEqual(series("rpc.client.dial.failures").map(({ attributes, state }) => [attributes, state]), [
      [ofA, { count: 1, incremental: true }]
    ])
  })

  it("shows how many calls are in flight, and in which states its connections are, as they are when that is read", () => {
    const { endpoints, series, values } = makeClient()
    let state: ClientSource["state"] = "Idle"
    let callsInFlight = 0
    endpoints.acquire("memory://a", {
      streams: 0,
      get state() {
        return state
      },
      get callsInFlight() {
        return callsInFlight
      }
    })
    const states = () =>
      Object.fromEntries(
        series("rpc.client.connection.count").map((
          { attributes, value }
        ) => [attributes["rpc.connection.state"], value])
      )
    assert.deepEqual(states(), { idle: 1, dialing: 0, active: 0, draining: 0 })
    state = "Dialing"
    assert.deepEqual(states(), { idle: 0, dialing: 1, active: 0, draining: 0 })
    state = "Active"
    callsInFlight = 7
    assert.deepEqual(states(), { idle: 0, dialing: 0, active: 1, draining: 0 })
    assert.deepEqual(values("rpc.client.active_requests"), [7])
    state = "Draining"
    assert.deepEqual(states(), { idle: 0, dialing: 0, active: 0, draining: 1 })
    state = "Gone"
    assert.deepEqual(states(), { idle: 0, dialing: 0, active: 0, draining: 0 })
  })

  it("is one for two Connections: they count together, and their gauges are summed up", () => {
    const { context, endpoints, series, values } = makeClient()
    const first = endpoints.acquire("tcp://a:80", peer("Active", 2))
    const second = clientMetrics(context).endpoints.acquire("tcp://a:80", peer("Dialing", 3))
    first.calls.method(get).record(0.1, undefined)
    second.calls.method(get).record(0.1, undefined)
    first.sent += 1
    second.sent += 2
    assert.deepEqual(values("rpc.client.call.duration"), [2])
    assert.deepEqual(values("rpc.client.network.io", { "network.io.direction": "transmit" }), [3])
    assert.deepEqual(values("rpc.client.active_requests"), [5])
    assert.deepEqual(series("rpc.client.connection.count").map(({ value }) => value), [0, 1, 1, 0])
  })

  it("is the same with TLS and without, since it is shown as the same", () => {
    const { endpoints, values } = makeClient()
    endpoints.acquire("tcp://a:80", peer()).sent += 1
    endpoints.acquire("mtls://tcp4://a:80", peer()).sent += 2
    assert.deepEqual(values("rpc.client.network.io", { "network.io.direction": "transmit" }), [3])
  })

  it("is another at another port", () => {
    const { endpoints, values } = makeClient()
    endpoints.acquire("tcp://a:80", peer("Active", 1))
    endpoints.acquire("tcp://a:81", peer("Active", 2))
    assert.deepEqual(values("rpc.client.active_requests"), [1, 2])
  })
})

describe("an endpoint that Connections release", () => {
  it("shows the others' calls and connections as long as one has it", () => {
    const { endpoints, values } = makeClient()
    const [one, another] = [peer("Active", 2), peer("Active", 3)]
    const stats = endpoints.acquire("memory://a", one)
    endpoints.acquire("memory://a", another)
    endpoints.release(stats, one)
    assert.deepEqual(values("rpc.client.active_requests"), [3])
    assert.deepEqual(values("rpc.client.connection.count", { "rpc.connection.state": "active" }), [1])
  })

  it("shows neither when the last has, but still what was counted", () => {
    const { endpoints, series } = makeClient()
    const only = peer()
    const stats = endpoints.acquire("memory://a", only)
    stats.calls.method(get).record(0.1, undefined)
    endpoints.release(stats, only)
    assert.deepEqual(
      new Set(series(undefined, { "server.address": "memory://a" }).map(({ name }) => name)),
      new Set([
        "rpc.client.network.io",
        "rpc.client.dial.failures",
        "rpc.client.call.duration"
      ])
    )
  })

  it("may be released twice by one of them, and is still the other's", () => {
    const { endpoints, values } = makeClient()
    const [one, another] = [peer("Active", 2), peer("Active", 3)]
    const stats = endpoints.acquire("memory://a", one)
    endpoints.acquire("memory://a", another)
    endpoints.release(stats, one)
    endpoints.release(stats, one)
    assert.deepEqual(values("rpc.client.active_requests"), [3])
  })

  it("still counts calls that end later", () => {
    const { endpoints, values } = makeClient()
    const only = peer()
    const stats = endpoints.acquire("memory://a", only)
    endpoints.release(stats, only)
    stats.calls.method(get).record(0.1, "Closed")
    assert.deepEqual(values("rpc.client.call.duration"), [1])
  })

  it("goes on counting when it is used again, and has its gauges back", () => {
    const { endpoints, values } = makeClient()
    const [before, after] = [peer("Active", 1), peer("Active", 2)]
    const stats = endpoints.acquire("memory://a", before)
    stats.calls.method(get).record(0.1, undefined)
    endpoints.release(stats, before)
    endpoints.acquire("memory://a", after).calls.method(get).record(0.1, undefined)
    assert.deepEqual(values("rpc.client.call.duration"), [2])
    assert.deepEqual(values("rpc.client.active_requests"), [2])
  })
})

describe("endpoints that no Connection has any more", () => {
  /** Uses and leaves endpoints, one after the other. */
  const visit = ({ endpoints }: ReturnType<typeof makeClient>, ...names: ReadonlyArray<string>) => {
    for (const name of names) {
      const source = peer()
      const stats = endpoints.acquire(`memory://${name}`, source)
      stats.calls.method(get).record(0.1, undefined)
      endpoints.release(stats, source)
    }
  }
  const numbered = (count: number) => Array.from({ length: count }, (_, i) => `${i}`)
  const remembered = ({ series }: ReturnType<typeof makeClient>) =>
    series("rpc.client.call.duration").map(({ attributes }) => attributes["server.address"]!.slice("memory://".length))

  it("are forgotten, the first that was left first, but for the last 64", () => {
    const client = makeClient()
    visit(client, ...numbered(70))
    assert.equal(maxUnused, 64)
    assert.deepEqual(remembered(client), numbered(70).slice(6))
    // Nothing else of them is left either: two of bytes, one of dials, one of calls; and the resolver's two.
    assert.equal(client.series().length, 64 * 4 + 2)
  })

  it("count as newly left when they were used in between", () => {
    const client = makeClient()
    visit(client, ...numbered(64), "0", "a", "b")
    assert.ok(remembered(client).includes("0"))
    assert.ok(!remembered(client).includes("1"))
  })

  it("do not take the place of one that a Connection has", () => {
    const client = makeClient()
    visit(client, "used")
    client.endpoints.acquire("memory://used", peer())
    visit(client, ...numbered(70))
    assert.ok(remembered(client).includes("used"))
    assert.equal(remembered(client).length, 65)
  })

  it("start from nothing when they were forgotten", () => {
    const client = makeClient()
    visit(client, "a", ...numbered(64), "a")
    assert.deepEqual(client.values("rpc.client.call.duration", { "server.address": "memory://a" }), [1])
  })

  it("change nothing of a newer endpoint when they are released a second time", () => {
    const client = makeClient()
    const { endpoints, values } = client
    const source = peer()
    const old = endpoints.acquire("memory://a", source)
    endpoints.release(old, source)
    visit(client, ...numbered(64))
    endpoints.acquire("memory://a", peer()).dialFailures += 1
    endpoints.release(old, source)
    visit(client, ...numbered(70))
    endpoints.acquire("memory://a", peer()).dialFailures += 1
    assert.deepEqual(values("rpc.client.dial.failures", { "server.address": "memory://a" }), [2])
  })

  it("do not show a call that ends after they were forgotten, or change what a new endpoint counts", () => {
    const client = makeClient()
    const { endpoints, values } = client
    const source = peer()
    const old = endpoints.acquire("memory://a", source)
    endpoints.release(old, source)
    visit(client, ...numbered(64))
    endpoints.acquire("memory://a", peer()).calls.method(get).record(0.1, undefined)
    old.calls.method(get).record(0.1, undefined)
    assert.deepEqual(values("rpc.client.call.duration", { "server.address": "memory://a" }), [1])
  })
})

describe("a client", () => {
  it("has calls that never had an endpoint counted without one", () => {
    const { histograms, metrics } = makeClient()
    metrics.unreachable.method(get).record(0.1, "Unreachable")
    assert.deepEqual(histograms("rpc.client.call.duration").map(({ attributes }) => attributes), [{
      "rpc.system.name": "effect_call",
      "rpc.service": "test/Store",
      "rpc.method": "get",
      "error.type": "Unreachable",
      unit: "seconds"
    }])
  })

  it("has what its resolvers do counted", () => {
    const { metrics, values } = makeClient()
    metrics.resolverUpdates += 3
    metrics.resolverFailures++
    assert.deepEqual(values("rpc.client.resolver.updates"), [3])
    assert.deepEqual(values("rpc.client.resolver.failures"), [1])
  })
})

describe("a server", () => {
  it("is named by its host and port, and has its calls counted by method and outcome", () => {
    const { histograms, servers } = makeServer()
    const stats = servers.acquire("mtls://tcp://127.0.0.1:80", { callsInFlight: 0, streams: 0, connections: 0 })
    stats.calls.method(get).record(0.1, "defect")
    assert.deepEqual(histograms("rpc.server.call.duration").map(({ attributes }) => attributes), [{
      "rpc.system.name": "effect_call",
      "rpc.service": "test/Store",
      "rpc.method": "get",
      "server.address": "127.0.0.1",
      "server.port": "80",
      "error.type": "defect",
      unit: "seconds"
    }])
  })

  it("has calls of methods that it does not have counted without a component", () => {
    const { histograms, servers } = makeServer()
    servers.acquire("memory://a", { callsInFlight: 0, streams: 0, connections: 0 }).calls.other.record(0.1, "unknown")
    const { attributes } = histograms("rpc.server.call.duration")[0]!
    assert.equal(attributes["rpc.method"], "_OTHER")
    assert.equal("rpc.service" in attributes, false)
  })

  it("has no address where it has no listener, and is one with others that have none", () => {
    const { series, servers, values } = makeServer()
    servers.acquire(undefined, { callsInFlight: 1, streams: 0, connections: 1 })
    servers.acquire(undefined, { callsInFlight: 2, streams: 0, connections: 1 })
    assert.deepEqual(series("rpc.server.active_requests").map(({ attributes, value }) => [attributes, value]), [[
      {},
      3
    ]])
    assert.deepEqual(values("rpc.server.connection.count"), [2])
  })

  it("has its bytes counted by their direction", () => {
    const { servers, values } = makeServer()
    const stats = servers.acquire("memory://a", { callsInFlight: 0, streams: 0, connections: 0 })
    stats.sent += 1
    stats.received += 2
    assert.deepEqual(values("rpc.server.network.io", { "network.io.direction": "transmit" }), [1])
    assert.deepEqual(values("rpc.server.network.io", { "network.io.direction": "receive" }), [2])
  })

  it("keeps its counters when it stops, and loses its gauges", () => {
    const { series, servers } = makeServer()
    const source = { callsInFlight: 0, streams: 0, connections: 0 }
    const stats = servers.acquire("memory://a", source)
    stats.calls.method(get).record(0.1, undefined)
    servers.release(stats, source)
    assert.deepEqual(series().map(({ name }) => name), [
      "rpc.server.network.io",
      "rpc.server.network.io",
      "rpc.server.call.duration"
    ])
  })

  it("is forgotten when 64 others have stopped after it", () => {
    const { servers, values } = makeServer()
    for (let i = 0; i < 65; i++) {
      const source = { callsInFlight: 0, streams: 0, connections: 0 }
      servers.release(servers.acquire(`tcp://a:${i}`, source), source)
    }
    assert.deepEqual(values("rpc.server.network.io", { "server.port": "0" }), [])
    assert.equal(values("rpc.server.network.io").length, 128)
  })
})

describe("the ambient attributes", () => {
  it("are part of every series", () => {
    const { context, series } = makeRegistry({ tenant: "a" })
    const metrics = clientMetrics(context)
    metrics.endpoints.acquire("memory://a", peer()).calls.method(get).record(0.1, undefined)
    metrics.unreachable.method(get).record(0.1, undefined)
    assert.equal(series(undefined, { tenant: "a" }).length, series().length)
    assert.equal(series().length, 13)
  })

  it("keep what is counted under others apart, in one registry", () => {
    const a = makeRegistry({ tenant: "a" })
    const b = makeRegistry({ tenant: "b" }, a.registry)
    clientMetrics(a.context).endpoints.acquire("memory://a", peer()).dialFailures += 1
    clientMetrics(b.context).endpoints.acquire("memory://a", peer()).dialFailures += 2
    assert.deepEqual(a.values("rpc.client.dial.failures", { tenant: "a" }), [1])
    assert.deepEqual(a.values("rpc.client.dial.failures", { tenant: "b" }), [2])
  })

  it("are the same where their entries are, in any order", () => {
    const a = makeRegistry({ tenant: "a", zone: "1" })
    const b = makeRegistry({ zone: "1", tenant: "a" }, a.registry)
    clientMetrics(a.context).endpoints.acquire("memory://a", peer()).dialFailures += 1
    clientMetrics(b.context).endpoints.acquire("memory://a", peer()).dialFailures += 2
    assert.deepEqual(a.values("rpc.client.dial.failures"), [3])
  })
})

describe("a registry", () => {
  it("shows nothing of what is counted in another", () => {
    const [a, b] = [makeRegistry(), makeRegistry()]
    clientMetrics(a.context).endpoints.acquire("memory://a", peer()).dialFailures += 1
    clientMetrics(b.context).endpoints.acquire("memory://a", peer()).dialFailures += 2
    assert.deepEqual([a.values("rpc.client.dial.failures"), b.values("rpc.client.dial.failures")], [[1], [2]])
  })
})

describe("exporters", () => {
  it.effect("write what Prometheus reads", () => {
    const { context, endpoints } = makeClient()
    const stats = endpoints.acquire("tcp://a:80", peer("Active", 3))
    stats.calls.method(get).record(0.02, undefined)
    stats.calls.method(get).record(11, undefined)
    stats.sent += 5
    return Effect.gen(function*() {
      const lines = (yield* PrometheusMetrics.format()).split("\n")
      const server = "server_address=\"a\",server_port=\"80\""
      const call = `${server},rpc_system_name="effect_call",rpc_service="test/Store",rpc_method="get"`
      assert.deepEqual(lines.filter((line) => line.includes("rpc_client_call_duration")), [
        "# HELP rpc_client_call_duration How long calls took, until their caller had the outcome",
        "# TYPE rpc_client_call_duration histogram",
        ...boundaries.map((each) => `rpc_client_call_duration_bucket{${call},le="${each}"} ${each < 0.02 ? 0 : 1}`),
        `rpc_client_call_duration_bucket{${call},le="+Inf"} 2`,
        `rpc_client_call_duration_sum{${call}} 11.02`,
        `rpc_client_call_duration_count{${call}} 2`
      ])
      assert.ok(lines.includes(`rpc_client_network_io{${server},network_io_direction="transmit"} 5`))
      assert.ok(lines.includes(`rpc_client_active_requests{${server}} 3`))
    }).pipe(Effect.provideContext(context))
  })

  it.effect("send the units that OpenTelemetry has, and the buckets each by itself", () => {
    const { context, endpoints } = makeClient()
    const stats = endpoints.acquire("tcp://a:80", peer("Active", 3))
    for (const seconds of [0.02, 0.02, 11]) stats.calls.method(get).record(seconds, undefined)
    return Effect.gen(function*() {
      const sent: Array<OtlpMetrics.MetricsData> = []
      const http = HttpClient.make((request) =>
        Effect.sync(() => {
          const { body } = request
          assert.ok(body._tag === "Uint8Array", body._tag)
          sent.push(JSON.parse(new TextDecoder().decode(body.body)))
          return HttpClientResponse.fromWeb(request, new Response())
        })
      )
      yield* OtlpMetrics.layer({
        url: "http://collector",
        resource: { serviceName: "test" },
        exportInterval: "1 second"
      }).pipe(
        Layer.provide([Layer.succeed(HttpClient.HttpClient, http), OtlpSerialization.layerJson]),
        Layer.build
      )
      yield* TestClock.adjust("1 second")
      const metrics = sent[0]!.resourceMetrics[0]!.scopeMetrics[0]!.metrics
      const find = (name: string) => metrics.find((metric) => metric.name === name)!
      assert.deepEqual(
        ["rpc.client.call.duration", "rpc.client.network.io", "rpc.client.active_requests"].map((name) =>
          find(name).unit
        ),
        ["s", "By", "1"]
      )
      assert.equal(find("rpc.client.network.io").sum!.isMonotonic, true)
      const [point] = find("rpc.client.call.duration").histogram!.dataPoints
      assert.deepEqual(point!.explicitBounds, boundaries)
      assert.deepEqual(point!.bucketCounts, [0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1])
      assert.deepEqual([point!.count, point!.min, point!.max], [3, 0.02, 11])
    }).pipe(Effect.provideContext(context))
  })
})
