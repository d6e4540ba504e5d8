/**
 * Telemetry as a layer. The application does not depend on it.
 *
 * - `OTEL_EXPORTER_OTLP_ENDPOINT`, such as `http://localhost:4318`: the receiver of traces, metrics and logs, by OTLP
 *   over HTTP.
 * - `SHOP_PROMETHEUS_PORT`: the port on which Prometheus can read the metrics, at `/metrics`.
 *
 * A part whose variable is not set is off.
 */
import * as NodeHttpServer from "@effect/platform-node/NodeHttpServer"
import { Config, Effect, Layer, Option, Schema } from "effect"
import { FetchHttpClient, HttpMiddleware, HttpRouter } from "effect/http"
import { Otlp, PrometheusMetrics } from "effect/observability"
import { createServer } from "node:http"
import { hostname } from "node:os"

const otlp = (serviceName: string) =>
  Config.option(Config.URL("OTEL_EXPORTER_OTLP_ENDPOINT")).pipe(
    Effect.map(Option.match({
      onNone: () => Layer.empty,
      onSome: ({ href }) =>
        Otlp.layerJson({
          baseUrl: href,
          // The instance id distinguishes replicas. Without it, their metrics would be merged into one series.
          resource: { serviceName, attributes: { "service.instance.id": `${hostname()}:${process.pid}` } }
        })
    })),
    Layer.unwrap,
    Layer.provide(FetchHttpClient.layer)
  )

/** The port of the metrics. With 0, the system picks a free port. */
const Port = Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 65535 }))

const prometheus = Config.option(Config.schema(Port, "SHOP_PROMETHEUS_PORT")).pipe(
  Effect.map(Option.match({
    onNone: () => Layer.empty,
    onSome: (port) =>
      HttpRouter.serve(PrometheusMetrics.layerHttp(), { disableLogger: true }).pipe(
        Layer.provide(NodeHttpServer.layer(createServer, { port })),
        Layer.provide(HttpMiddleware.layerTracerDisabledForUrls(["/metrics"]))
      )
  })),
  Layer.unwrap
)

export const telemetry = (serviceName: string) => Layer.merge(otlp(serviceName), prometheus)
