/**
 * How four balancers distribute calls over replicas that differ: in turn, by pending calls, by expected latency, and
 * by zone.
 *
 * Run it with `node examples/balancers.ts`. The program checks what it prints.
 */
import { NodeRuntime } from "@effect/platform-node"
import { Console, Effect, Scope } from "effect"
import { Balancer, Connection, Endpoint, HandlerMap, Listener, MethodKey, Resolver, Server } from "effect-call"
import * as assert from "node:assert/strict"

const name = MethodKey.make("example/Names", "name")

/** Starts a server that answers with its name after `millis` milliseconds. The server stops when the Scope closes. */
const startServer = Effect.fnUntraced(function*(serverName: string, millis: number, zone: string) {
  const handlers = HandlerMap.empty.pipe(
    HandlerMap.set(
      "example/Names",
      "name",
      () => Effect.delay(Effect.succeed(new TextEncoder().encode(serverName)), millis)
    )
  )
  const listener = yield* Listener.tcp("127.0.0.1:0", handlers)
  yield* Effect.forkScoped(Server.serve(listener))
  return Endpoint.withAttributes(yield* Endpoint.parse(listener.address), { zone })
})

/** Makes 300 calls, eight at a time, and counts the answers of each server. */
const countAnswers = Effect.fnUntraced(function*(connection: Connection.Connection) {
  // This call has no side effects, so it can be retried when its server is lost.
  const ask = Effect.retry(connection.call(name, new Uint8Array()), {
    times: 3,
    while: ({ _tag }) => _tag === "CommunicationError"
  })
  const answers = yield* Effect.all(Array.from({ length: 300 }, () => ask), { concurrency: 8 })
  const counts = { "near-1": 0, "near-2": 0, "far-1": 0 }
  for (const answer of answers) {
    const server = new TextDecoder().decode(answer)
    assert.ok(server === "near-1" || server === "near-2" || server === "far-1")
    counts[server]++
  }
  return counts
})

const program = Effect.gen(function*() {
  // The servers of this zone have their own Scope, so that they can stop before the other server.
  const near = yield* Scope.fork(yield* Effect.scope)
  const resolver = Resolver.constant(
    yield* Scope.provide(startServer("near-1", 2, "north"), near),
    // This server is slow.
    yield* Scope.provide(startServer("near-2", 40, "north"), near),
    yield* startServer("far-1", 2, "south")
  )
  const balancing = Effect.fnUntraced(function*(balancer: Effect.Effect<Balancer.Balancer>) {
    return yield* Connection.make(resolver, { balancer })
  })
  const show = Effect.fnUntraced(function*(balancer: string, connection: Connection.Connection) {
    const counts = yield* countAnswers(connection)
    const shown = Object.entries(counts).map(([server, count]) => `${server} ${String(count).padStart(3)}`)
    yield* Console.log(`${balancer.padEnd(34)} ${shown.join("   ")}`)
    return counts
  })

  const turns = yield* show("roundRobin", yield* balancing(Balancer.roundRobin))
  assert.equal(turns["near-2"], 100)

  // The slow server has the most pending calls, so it gets few new ones.
  const pending = yield* show("leastPending", yield* balancing(Balancer.leastPending))
  assert.ok(pending["near-2"] < 60)

  // The balancer has measured the latency of the slow server, and picks it only when no other server is idle.
  const latency = yield* show("peakEwma", yield* balancing(Balancer.peakEwma))
  assert.ok(latency["near-2"] < 60)

  const zone = yield* balancing(Balancer.zoneAware("north", Balancer.leastPending))
  const own = yield* show("zoneAware(\"north\", leastPending)", zone)
  assert.equal(own["far-1"], 0)

  yield* Scope.close(near, yield* Effect.exit(Effect.void))
  const rest = yield* show("  without servers in the north", zone)
  assert.equal(rest["far-1"], 300)
})

program.pipe(Effect.scoped, NodeRuntime.runMain)
