/**
 * The trace of a call that leads to another call, over three services. Each service exports by OTLP. A receiver in this
 * program collects the spans, as an OpenTelemetry collector would.
 *
 * Run it with `npx node examples/telemetry/traces.ts`.
 */
import { NodeRuntime } from "@effect/platform-node"
import { Console, Effect, Layer } from "effect"
import { FetchHttpClient } from "effect/http"
import { Otlp } from "effect/observability"
import * as assert from "node:assert/strict"
import { makeOtlpReceiver, type Span } from "../support/otlpReceiver.ts"
import { OrdersClient, shop } from "./shop/services.ts"

/** Sends traces, metrics and logs of a service to a collector. */
const otlp = (baseUrl: string) => (serviceName: string) =>
  Otlp.layerJson({ baseUrl, resource: { serviceName } }).pipe(Layer.provide(FetchHttpClient.layer))

/**
 * Three orders, each in a span of its own. The second one fails: there is no coffee. The third one is not sampled.
 */
const orders = Effect.gen(function*() {
  const { Place } = yield* OrdersClient
  yield* Place({ item: "tea" }).pipe(Effect.withSpan("order tea"))
  yield* Effect.flip(Place({ item: "coffee" })).pipe(Effect.withSpan("order coffee"))
  yield* Place({ item: "tea" }).pipe(Effect.withSpan("order more tea", { sampled: false }))
})

/** Prints a span, and below it the spans that it led to. */
const print = (span: Span, spans: ReadonlyArray<Span>, depth = 0): Effect.Effect<void> =>
  Effect.gen(function*() {
    const error = span.attributes["error.type"]
    const service = `${span.resource["service.name"]}:`
    yield* Console.log(
      "  ".repeat(depth) + `${service} ${span.kind} ${span.name}${error === undefined ? "" : ` (${error})`}`
    )
    const children = spans.filter(({ parentSpanId }) => parentSpanId === span.spanId)
    yield* Effect.forEach(children, (child) => print(child, spans, depth + 1))
  })

const program = Effect.gen(function*() {
  const receiver = yield* makeOtlpReceiver
  // What an exporter still has it sends when its layer ends.
  yield* Effect.provide(orders, shop(otlp(receiver.address)), { local: true })
  assert.deepEqual(receiver.problems, [])

  const { spans } = receiver
  yield* Effect.forEach(spans.filter(({ parentSpanId }) => parentSpanId === undefined), (root) => print(root, spans))
  // None of the third order, from no service.
  assert.equal(spans.length, 10)

  yield* Console.log("\nthe attributes of the last client span of orders:")
  const last = spans.findLast(({ kind, resource }) => kind === "client" && resource["service.name"] === "orders")
  for (const [name, value] of Object.entries(last?.attributes ?? {})) yield* Console.log(`  ${name}: ${value}`)
})

program.pipe(Effect.timeout("20 seconds"), Effect.scoped, NodeRuntime.runMain)
