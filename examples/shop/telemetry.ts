/**
 * Telemetry as a layer: the application around which it is put does not know of it.
 *
 * - `OTEL_EXPORTER_OTLP_ENDPOINT`, such as `http://localhost:4318`: where traces, metrics and logs are sent, by OTLP over HTTP.
 * - `SHOP_PROMETHEUS_PORT`: the port on which Prometheus finds the metrics, at `/metrics`.
 *
 * What is not set is off.
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
          // The instance tells replicas apart, whose metrics would be taken for one series otherwise.
          resource: { serviceName, attributes: { "service.instance.id": `${hostname()}:${process.pid}` } }
        })
    })),
    Layer.unwrap,
    Layer.provide(FetchHttpClient.layer)
  )

/** With 0, the system picks a port. */
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
