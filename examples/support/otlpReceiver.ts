/**
 * A receiver of OTLP over HTTP, in JSON: it keeps the spans, and the histograms of each process as it has sent them
 * last.
 */
import { Effect, Schema } from "effect"
import { createServer } from "node:http"

const Attributes = Schema.Array(Schema.Struct({
  key: Schema.String,
  value: Schema.Struct({
    stringValue: Schema.optionalKey(Schema.String),
    intValue: Schema.optionalKey(Schema.Union([Schema.Finite, Schema.String]))
  })
}))

const Resource = Schema.Struct({ attributes: Attributes })

const Traces = Schema.fromJsonString(Schema.Struct({
  resourceSpans: Schema.Array(Schema.Struct({
    resource: Resource,
    scopeSpans: Schema.Array(Schema.Struct({
      spans: Schema.Array(Schema.Struct({
        traceId: Schema.String,
        spanId: Schema.String,
        parentSpanId: Schema.optionalKey(Schema.String),
        name: Schema.String,
        kind: Schema.Literals([0, 1, 2, 3, 4, 5]),
        attributes: Attributes
      }))
    }))
  }))
}))

const Metrics = Schema.fromJsonString(Schema.Struct({
  resourceMetrics: Schema.Array(Schema.Struct({
    resource: Resource,
    scopeMetrics: Schema.Array(Schema.Struct({
      metrics: Schema.Array(Schema.Struct({
        name: Schema.String,
        unit: Schema.optionalKey(Schema.String),
        histogram: Schema.optionalKey(Schema.Struct({
          dataPoints: Schema.Array(Schema.Struct({ attributes: Attributes, count: Schema.Int }))
        }))
      }))
    }))
  }))
}))

const kinds = ["unspecified", "internal", "server", "client", "producer", "consumer"] as const

type Values = Readonly<Record<string, string>>

const valuesOf = (attributes: typeof Attributes.Type): Values =>
  Object.fromEntries(attributes.map(({ key, value }) => [key, value.stringValue ?? String(value.intValue ?? "")]))

export interface Span {
  readonly traceId: string
  readonly spanId: string
  readonly parentSpanId: string | undefined
  readonly name: string
  readonly kind: typeof kinds[number]
  readonly attributes: Values
  /** The attributes of the process that has sent it. */
  readonly resource: Values
}

/** How often something was measured. */
export interface Histogram {
  readonly name: string
  readonly unit: string | undefined
  readonly attributes: Values
  readonly count: number
}

/** Starts a receiver on a port of its own. It ends with the Scope. */
export const makeOtlpReceiver = Effect.gen(function*() {
  const spans: Array<Span> = []
  const histograms = new Map<string, ReadonlyArray<Histogram>>()
  const problems: Array<unknown> = []

  const receive: Record<string, (body: string) => void> = {
    "/v1/traces": (body) => {
      for (const { resource, scopeSpans } of Schema.decodeSync(Traces)(body).resourceSpans) {
        for (const span of scopeSpans.flatMap(({ spans }) => spans)) {
          spans.push({
            ...span,
            parentSpanId: span.parentSpanId,
            kind: kinds[span.kind],
            attributes: valuesOf(span.attributes),
            resource: valuesOf(resource.attributes)
          })
        }
      }
    },
    "/v1/metrics": (body) => {
      for (const { resource, scopeMetrics } of Schema.decodeSync(Metrics)(body).resourceMetrics) {
        const metrics = scopeMetrics.flatMap(({ metrics }) => metrics)
        histograms.set(
          valuesOf(resource.attributes)["service.instance.id"] ?? "",
          metrics.flatMap(({ histogram, name, unit }) =>
            (histogram?.dataPoints ?? []).map(({ attributes, count }) => ({
              name,
              unit,
              attributes: valuesOf(attributes),
              count
            }))
          )
        )
      }
    },
    "/v1/logs": () => {}
  }

  const server = createServer((request, response) => {
    const chunks: Array<Buffer> = []
    request.on("data", (chunk: Buffer) => chunks.push(chunk)).on("end", () => {
      try {
        const take = receive[request.url ?? ""]
        if (take === undefined) throw new Error(`nothing is expected at ${request.url}`)
        take(Buffer.concat(chunks).toString("utf8"))
        response.end("{}")
      } catch (problem) {
        problems.push(problem)
        response.writeHead(400).end()
      }
    })
  })
  const address = yield* Effect.acquireRelease(
    Effect.callback<string>((resume) => {
      server.listen(0, "127.0.0.1", () => {
        const address = server.address()
        resume(Effect.succeed(`http://127.0.0.1:${typeof address === "object" ? address?.port : ""}`))
      })
    }),
    () =>
      Effect.callback<void>((resume) => {
        server.close(() => resume(Effect.void))
        server.closeAllConnections()
      })
  )
  return { address, spans, histograms, problems }
})
