/**
 * The telemetry of the shop from end to end: its services as processes, which export by OTLP and are scraped as by
 * Prometheus.
 *
 * It takes some seconds: five processes start, and are told to stop, since that is when an exporter sends what it has.
 */
import * as NodeServices from "@effect/platform-node/NodeServices"
import { describe, it } from "@effect/vitest"
import { ConfigProvider, Effect, Layer, Schedule } from "effect"
import { FetchHttpClient, HttpClient } from "effect/http"
import * as assert from "node:assert/strict"
import { hostname } from "node:os"
import { isDeepStrictEqual } from "node:util"
import { Front, Stock } from "../../examples/shop/services/clients.ts"
import { Network } from "../../examples/shop/services/network.ts"
import { telemetry } from "../../examples/shop/services/telemetry.ts"
import { type Histogram, makeOtlpReceiver, type Span } from "../../examples/support/otlpReceiver.ts"
import { startShop } from "../../examples/support/shop.ts"

/** A customer that exports its spans, too. */
const customer = (settings: Readonly<Record<string, string>>) =>
  Layer.merge(Front.layerConfig, Stock.layerConfig).pipe(
    Layer.provide(Network.sockets),
    Layer.provideMerge(telemetry("customer")),
    Layer.provide(ConfigProvider.layer(ConfigProvider.fromEnvRecord(settings)))
  )

/** A span and what came of it. */
interface Node {
  readonly span: string
  readonly children: ReadonlyArray<Node>
}

const nodeOf = (span: Span, all: ReadonlyArray<Span>): Node => ({
  span: `${span.resource["service.name"]}: ${span.kind} ${span.name}`,
  children: all.filter(({ parentSpanId }) => parentSpanId === span.spanId).map((child) => nodeOf(child, all))
})

const sizeOf = ({ children }: Node): number => children.map(sizeOf).reduce((a, b) => a + b, 1)

const node = (span: string, ...children: ReadonlyArray<Node>): Node => ({ span, children })

/** A call from one service to another, with what it led to. */
const call = (from: string, method: string, to: string, ...children: ReadonlyArray<Node>) =>
  node(`${from}: client ${method}`, node(`${to}: server ${method}`, ...children))

/** How many calls a process has made and served, by side, method, and what they failed with, if they did. */
type Counts = Readonly<Record<string, number>>

const countsOf = (
  series: ReadonlyArray<{ readonly side: string; readonly attributes: Readonly<Record<string, string>>; count: number }>
): Counts => {
  const counts: Record<string, number> = {}
  for (const { attributes, count, side } of series) {
    const { error_type, rpc_method, rpc_service, rpc_system_name } = attributes
    assert.equal(rpc_system_name, "effect_call")
    const key = `${side} ${rpc_service}/${rpc_method}${error_type === undefined ? "" : ` ${error_type}`}`
    // One series for each replica that is called.
    counts[key] = (counts[key] ?? 0) + count
  }
  return counts
}

/** The counts in what Prometheus is told. */
const scrapedCounts = (text: string): Counts =>
  countsOf(
    [...text.matchAll(/^rpc_(client|server)_call_duration_count\{(.*)\} (\d+)$/gm)].map(([, side, labels, count]) => ({
      side: side!,
      attributes: Object.fromEntries([...labels!.matchAll(/(\w+)="([^"]*)"/g)].map(([, name, value]) => [name, value])),
      count: Number(count)
    }))
  )

/** The counts in what was exported. */
const exportedCounts = (histograms: ReadonlyArray<Histogram>): Counts =>
  countsOf(
    histograms.flatMap(({ attributes, count, name, unit }) => {
      const side = /^rpc\.(client|server)\.call\.duration$/.exec(name)?.[1]
      if (side === undefined) return []
      assert.equal(unit, "s")
      const underscored = Object.entries(attributes).map(([name, value]) => [name.replaceAll(".", "_"), value] as const)
      return [{ side, attributes: Object.fromEntries(underscored), count }]
    })
  )

describe("the telemetry of the shop", () => {
  it.live("one trace spans its services, and histograms count its calls", () =>
    Effect.gen(function*() {
      const receiver = yield* makeOtlpReceiver
      const exporting = { OTEL_EXPORTER_OTLP_ENDPOINT: receiver.address }
      const { front, north, orders, settings, south } = yield* startShop({ ...exporting, SHOP_PROMETHEUS_PORT: "0" })
      const orderCount = 4

      // Tea is in the south, and bread in the north.
      yield* Effect.gen(function*() {
        const { Buy } = yield* Front
        const { Put } = yield* Stock
        yield* Put({ item: "tea", count: 10 })
        yield* Put({ item: "bread", count: 10 })
        const basket = { customer: "Ada", lines: [{ item: "tea", count: 1 }, { item: "bread", count: 1 }] } as const
        yield* Effect.replicateEffect(Effect.withSpan(Buy(basket), "order"), orderCount)
        yield* Effect.withSpan(Effect.flip(Buy({ customer: "Bob", lines: [{ item: "tea", count: 99 }] })), "too much")
      }).pipe(Effect.provide(customer({ ...settings, ...exporting })))

      const expected: ReadonlyArray<readonly [typeof front, Counts]> = [
        [front, {
          "server shop/Front/Buy": orderCount,
          "server shop/Front/Buy OutOfStock": 1,
          "client shop/Orders/Place": orderCount,
          "client shop/Orders/Place OutOfStock": 1
        }],
        [orders, {
          "server shop/Orders/Place": orderCount,
          "server shop/Orders/Place OutOfStock": 1,
          "client shop/Stock/Take": 2 * orderCount,
          "client shop/Stock/Take OutOfStock": 1
        }],
        [north, { "server shop/Stock/Put": 1, "server shop/Stock/Take": orderCount }],
        [south, {
          "server shop/Stock/Put": 1,
          "server shop/Stock/Take": orderCount,
          "server shop/Stock/Take OutOfStock": 1
        }]
      ]

      for (const [{ log }, counts] of expected) {
        const port = /Listening on http:\/\/\S+:(\d+)/.exec(log.join("\n"))?.[1]
        const scrape = HttpClient.get(`http://127.0.0.1:${port}/metrics`).pipe(
          Effect.flatMap((response) => response.text),
          Effect.map(scrapedCounts)
        )
        // A call is counted at about the time when its answer arrives.
        const found = yield* Effect.repeat(scrape, {
          until: (found) => isDeepStrictEqual(found, counts),
          schedule: Schedule.spaced("20 millis").pipe(Schedule.upTo({ times: 100 }))
        })
        assert.deepEqual(found, counts)
      }

      // What they have to export they export before they end.
      yield* Effect.forEach(expected, ([{ process }]) => process.kill(), { concurrency: "unbounded" })
      assert.deepEqual(receiver.problems, [])

      for (const [{ process }, counts] of expected) {
        const histograms = receiver.histograms.get(`${hostname()}:${process.pid}`)
        assert.deepEqual(exportedCounts(histograms ?? []), counts)
      }

      // Every span that there is, from those without a parent on.
      const traces = receiver.spans
        .filter(({ parentSpanId }) => parentSpanId === undefined)
        .map((root) => nodeOf(root, receiver.spans.filter(({ traceId }) => traceId === root.traceId)))
      assert.equal(traces.map(sizeOf).reduce((a, b) => a + b), receiver.spans.length)
      const put = call("customer", "shop/Stock/Put", "shop-stock")
      const take = call("shop-orders", "shop/Stock/Take", "shop-stock")
      const order = (name: string, ...takes: ReadonlyArray<Node>) => {
        const place = call("shop-front", "shop/Orders/Place", "shop-orders", ...takes)
        return node(`customer: internal ${name}`, call("customer", "shop/Front/Buy", "shop-front", place))
      }
      assert.deepEqual(traces, [
        put,
        put,
        ...Array.from({ length: orderCount }, () => order("order", take, take)),
        order("too much", take)
      ])
    }).pipe(
      Effect.scoped,
      Effect.provide([NodeServices.layer, FetchHttpClient.layer])
    ), 60_000)
})
