/**
 * Servers that report when they are ready. A client does not call a server that is still warming up, and an HTTP probe
 * of that server gets the same status.
 *
 * Run it with `node examples/health.ts`.
 */
import { NodeHttpServer, NodeRuntime } from "@effect/platform-node"
import { Console, Effect, Layer, Stream } from "effect"
import { Connection, Endpoint, HandlerMap, Health, Listener, MethodKey, Resolver, Server } from "effect-call"
import { HttpClient, HttpRouter } from "effect/http"
import * as assert from "node:assert/strict"

const component = "example/Names"
const name = MethodKey.make(component, "name")

/** A server that answers with its name, and reports the Health in its context. */
const startServer = Effect.fnUntraced(function*(serverName: string) {
  const names = HandlerMap.set(
    HandlerMap.empty,
    component,
    "name",
    () => Effect.succeed(new TextEncoder().encode(serverName))
  )
  const listener = yield* Listener.tcp("127.0.0.1:0", HandlerMap.merge(names, yield* Health.handlers))
  yield* Effect.forkScoped(Server.serve(listener))
  return yield* Endpoint.parse(listener.address)
})

/** The endpoint for a readiness probe of Kubernetes. It answers 200 if the server is ready, and 503 if it is not. */
const Probe = HttpRouter.serve(HttpRouter.add("GET", "/ready", Health.readiness), { disableListenLog: true }).pipe(
  Layer.provideMerge(NodeHttpServer.layerTest)
)

const program = Effect.gen(function*() {
  const warm = yield* Effect.provide(startServer("warm"), Health.layer())
  // The whole process shares this Health: its server, the probe and the code below.
  const cold = yield* startServer("cold")

  const connection = yield* Connection.make(Resolver.constant(warm, cold), { eager: true, health: component })
  const serving = (count: number) =>
    connection.changes.pipe(
      Stream.filter(({ endpoints }) =>
        endpoints.filter(({ isServing, state }) => state === "Active" && isServing).length === count
      ),
      Stream.runHead
    )
  const askSixTimes = Effect.replicateEffect(
    Effect.map(connection.call(name, new Uint8Array()), (answer) => new TextDecoder().decode(answer)),
    6
  )
  const probe = Effect.map(HttpClient.get("/ready"), ({ status }) => status)

  yield* serving(1)
  const early = yield* askSixTimes
  const before = yield* probe
  yield* Console.log(`while one warms up: ${early.join(" ")}; its probe is answered ${before}`)
  assert.deepEqual([new Set(early), before], [new Set(["warm"]), 503])

  // A real server would do this once it has filled its cache, for example.
  yield* Health.set("Serving")
  yield* serving(2)
  const late = yield* askSixTimes
  const after = yield* probe
  yield* Console.log(`once it is ready:   ${late.join(" ")}; its probe is answered ${after}`)
  assert.deepEqual([new Set(late), after], [new Set(["warm", "cold"]), 200])
})

program.pipe(
  Effect.scoped,
  Effect.provide(Probe.pipe(Layer.provideMerge(Health.layer("NotServing")))),
  Effect.timeout("10 seconds"),
  NodeRuntime.runMain
)
