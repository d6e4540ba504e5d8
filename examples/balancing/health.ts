/**
 * Servers that report when they are ready. A client does not call a server that is still warming up, and an HTTP probe
 * of that server gets the same status.
 *
 * Run it with `npx node examples/balancing/health.ts`.
 */
import { NodeHttpServer, NodeRuntime } from "@effect/platform-node"
import { Console, Effect, Layer, Stream } from "effect"
import { Connection, Endpoint, HandlerMap, Health, Resolver } from "effect-call"
import { HttpClient, HttpRouter } from "effect/http"
import * as assert from "node:assert/strict"
import { askOver, Names, namesHandlers, serve } from "../support/names.ts"

/** A server that answers with its name, and reports the Health in its context. */
const startServer = Effect.fnUntraced(function*(name: string) {
  const handlers = HandlerMap.merge(yield* namesHandlers(name), yield* Health.handlers)
  return yield* Endpoint.parse(yield* serve("127.0.0.1:0", handlers))
})

/** What a readiness probe of Kubernetes asks. It is answered 200 if the server is ready, and 503 if it is not. */
const Probe = HttpRouter.serve(HttpRouter.add("GET", "/ready", Health.readiness), {
  disableListenLog: true,
  disableLogger: true
}).pipe(Layer.provideMerge(NodeHttpServer.layerTest))

const program = Effect.gen(function*() {
  const warm = yield* Effect.provide(startServer("warm"), Health.layer("Serving"))
  // This server, the probe and the code below share one Health, as they do in a process of one server.
  const cold = yield* startServer("cold")

  const connection = yield* Connection.make(Resolver.constant(warm, cold), { eager: true, health: Names.name })
  /** Waits until this many servers are connected and say that they are ready. */
  const ready = (count: number) =>
    connection.changes.pipe(
      Stream.filter(({ endpoints }) =>
        endpoints.filter(({ isServing, state }) => state === "Active" && isServing).length === count
      ),
      Stream.runHead
    )
  const probe = Effect.map(HttpClient.get("/ready"), ({ status }) => status)

  yield* ready(1)
  const early = yield* askOver(connection, 6)
  const before = yield* probe
  yield* Console.log(`one warms up:   ${early.join(" ")}; the probe gets ${before}`)
  assert.deepEqual([new Set(early), before], [new Set(["warm"]), 503])

  // A real server would do this once it has filled its cache, for example.
  yield* Health.set("Serving")
  yield* ready(2)
  const late = yield* askOver(connection, 6)
  const after = yield* probe
  yield* Console.log(`both are ready: ${late.toSorted().join(" ")}; the probe gets ${after}`)
  assert.deepEqual([new Set(late), after], [new Set(["warm", "cold"]), 200])
})

program.pipe(
  Effect.scoped,
  Effect.provide(Probe.pipe(Layer.provideMerge(Health.layer("NotServing")))),
  Effect.timeout("20 seconds"),
  NodeRuntime.runMain
)
