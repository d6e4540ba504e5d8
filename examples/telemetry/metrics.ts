/**
 * The metrics of calls, as Prometheus reads them. Two services run in this program, and a client makes some calls.
 *
 * Run it with `npx node examples/telemetry/metrics.ts`.
 */
import { NodeHttpServer, NodeRuntime } from "@effect/platform-node"
import { Console, Effect, Layer } from "effect"
import { HttpClient, HttpRouter } from "effect/http"
import { PrometheusMetrics } from "effect/observability"
import * as assert from "node:assert/strict"
import { OrdersClient, shop } from "./shop/services.ts"

/** The page `/metrics`, on a port that the system picks. A real program would use `NodeHttpServer.layer`. */
const Prometheus = HttpRouter.serve(PrometheusMetrics.layerHttp(), { disableListenLog: true, disableLogger: true })
  .pipe(Layer.provideMerge(NodeHttpServer.layerTest))

const program = Effect.gen(function*() {
  const { Place } = yield* OrdersClient
  yield* Effect.replicateEffect(Place({ item: "tea" }), 3)
  yield* Effect.flip(Place({ item: "coffee" }))

  const response = yield* HttpClient.get("/metrics")
  const lines = (yield* response.text).split("\n")
  yield* Console.log("kinds:")
  for (const line of lines.filter((line) => line.startsWith("# TYPE rpc_"))) yield* Console.log(`  ${line.slice(7)}`)

  yield* Console.log("\ncalls of the servers by method and outcome:")
  const counts = lines.filter((line) => line.startsWith("rpc_server_call_duration_count"))
  for (const line of counts) yield* Console.log(`  ${line}`)
  const failed = counts.filter((line) => line.includes("error_type=\"OutOfStock\""))
  assert.deepEqual([counts.length, failed.length], [4, 2])

  yield* Console.log("\nconnections that are in use:")
  const connections = lines.filter((line) => /^rpc_client_connection_count.*"active"/.test(line))
  for (const line of connections) yield* Console.log(`  ${line}`)
})

program.pipe(
  Effect.provide([shop(() => Layer.empty), Prometheus]),
  Effect.timeout("20 seconds"),
  NodeRuntime.runMain
)
