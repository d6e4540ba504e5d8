/**
 * Two custom balancers. The first picks the first endpoint that is up. The second prefers the endpoints of the client's
 * own zone, and shows how to write a balancer with state. Applications use `Balancer.zoneAware` for zones, because it
 * also considers the zone's capacity.
 *
 * Run it with `npx node examples/balancing/custom-balancer.ts`.
 */
import { NodeRuntime } from "@effect/platform-node"
import { Console, Effect, Exit, Scope } from "effect"
import { Balancer, CallError, Connection, Endpoint, Resolver } from "effect-call"
import * as assert from "node:assert/strict"
import { askOver, namesHandlers, serve } from "../support/names.ts"

/**
 * A balancer without state is a function. Its arguments are the current endpoints, and the excluded ones, for example
 * the endpoints that the call has already tried. It returns one of the endpoints, or fails with Unreachable.
 */
const firstThatIsUp = Balancer.make((endpoints, { avoid }) => {
  const first = endpoints.find(({ address }) => !avoid.has(address))
  return first === undefined
    ? Effect.fail(new CallError.Unreachable({ message: "none of the endpoints is up", attempts: [] }))
    : Effect.succeed(first)
})

/**
 * A balancer with state is an object, and an Effect creates it, because each Connection needs its own. This balancer
 * picks the endpoints of its own zone in turn. When none of them is eligible, it picks the other endpoints.
 */
const zoneFirst = (zone: string): Effect.Effect<Balancer.Balancer> =>
  Effect.gen(function*() {
    const near = yield* Balancer.roundRobin
    const far = yield* Balancer.roundRobin
    return {
      update: (endpoints) => {
        near.update(endpoints.filter((endpoint) => endpoint.zone === zone))
        far.update(endpoints.filter((endpoint) => endpoint.zone !== zone))
      },
      pick: (options) => Effect.catch(near.pick(options), () => far.pick(options))
    }
  })

// ---- The servers. Each answers with its name.

const startServer = Effect.fnUntraced(function*(name: string, zone: string) {
  const address = yield* serve("127.0.0.1:0", yield* namesHandlers(name))
  return Endpoint.withAttributes(yield* Endpoint.parse(address), { zone })
})

const program = Effect.gen(function*() {
  // The servers of the north have their own Scope, so that they can stop before the other server.
  const north = yield* Scope.fork(yield* Effect.scope)
  const replicas = Resolver.constant(
    yield* Scope.provide(startServer("north-1", "north"), north),
    yield* Scope.provide(startServer("north-2", "north"), north),
    yield* startServer("south", "south")
  )
  const first = yield* Connection.make(replicas, { balancer: firstThatIsUp })
  const zone = yield* Connection.make(replicas, { balancer: zoneFirst("north") })
  const show = (title: string, names: ReadonlyArray<string>) => Console.log(`${title.padEnd(26)} ${names.join(" ")}`)

  const byOrder = yield* askOver(first, 4)
  yield* show("the first that is up:", byOrder)
  assert.deepEqual(byOrder, ["north-1", "north-1", "north-1", "north-1"])

  const byZone = yield* askOver(zone, 4)
  yield* show("the own zone first:", byZone)
  assert.deepEqual(byZone, ["north-1", "north-2", "north-1", "north-2"])

  yield* Scope.close(north, Exit.void)
  const rest = yield* askOver(zone, 4)
  yield* show("when the north is down:", rest)
  assert.deepEqual(rest, ["south", "south", "south", "south"])
})

program.pipe(Effect.timeout("20 seconds"), Effect.scoped, NodeRuntime.runMain)
