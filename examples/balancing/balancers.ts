/**
 * How four balancers distribute calls over three replicas, of which one is slow: in turn, by pending calls, by expected
 * latency, and by zone.
 *
 * Run it with `npx node examples/balancing/balancers.ts`.
 */
import { NodeRuntime } from "@effect/platform-node"
import { Console, Effect, Exit, Scope } from "effect"
import { Balancer, Component, Connection, Endpoint, Resolver } from "effect-call"
import * as assert from "node:assert/strict"
import { Names, namesHandlers, serve } from "../support/names.ts"

/** Starts a server that answers with its name after `millis` milliseconds. */
const startServer = Effect.fnUntraced(function*(name: string, zone: string, millis: number) {
  const address = yield* serve("127.0.0.1:0", yield* namesHandlers(name, Effect.sleep(millis)))
  return Endpoint.withAttributes(yield* Endpoint.parse(address), { zone })
})

/** Makes 300 calls, eight at a time, prints how many each server answered, and returns these numbers. */
const show = Effect.fnUntraced(function*(title: string, connection: Connection.Connection) {
  const names = yield* Effect.provideService(Component.client(Names), Connection.Connection, connection)
  const answers = yield* Effect.all(Array.from({ length: 300 }, () => names.Name()), { concurrency: 8 })
  const count = (name: string) => answers.filter((answer) => answer === name).length
  const counts = { "near": count("near"), "near-slow": count("near-slow"), "far": count("far") }
  const shown = Object.entries(counts).map(([name, count]) => `${name} ${String(count).padStart(3)}`)
  yield* Console.log(`${title.padEnd(34)} ${shown.join("   ")}`)
  return counts
})

const program = Effect.gen(function*() {
  // The servers of the north have their own Scope, so that they can stop before the other server.
  const north = yield* Scope.fork(yield* Effect.scope)
  const replicas = Resolver.constant(
    yield* Scope.provide(startServer("near", "north", 2), north),
    yield* Scope.provide(startServer("near-slow", "north", 40), north),
    yield* startServer("far", "south", 2)
  )

  const inTurn = yield* Connection.make(replicas, { balancer: Balancer.roundRobin })
  const turns = yield* show("roundRobin", inTurn)
  assert.equal(turns["near-slow"], 100)

  // The slow server has the most pending calls, so it gets few new ones.
  const byPending = yield* Connection.make(replicas, { balancer: Balancer.leastPending })
  const pending = yield* show("leastPending", byPending)
  assert.ok(pending["near-slow"] < 60)

  // The balancer knows how long the answers of the slow server took.
  const byLatency = yield* Connection.make(replicas, { balancer: Balancer.peakEwma })
  const latency = yield* show("peakEwma", byLatency)
  assert.ok(latency["near-slow"] < 60)

  const byZone = yield* Connection.make(replicas, { balancer: Balancer.zoneAware("north", Balancer.leastPending) })
  const zone = yield* show("zoneAware(\"north\", leastPending)", byZone)
  assert.equal(zone.far, 0)

  yield* Scope.close(north, Exit.void)
  const rest = yield* show("  without servers in the north", byZone)
  assert.equal(rest.far, 300)
})

program.pipe(Effect.timeout("20 seconds"), Effect.scoped, NodeRuntime.runMain)
