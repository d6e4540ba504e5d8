/**
 * Two custom balancers. The first picks the first endpoint that is up. The second prefers the endpoints of the client's
 * own zone, and shows how to write a balancer with state. Applications use `Balancer.zoneAware` for zones, because it
 * also considers the zone's capacity.
 *
 * Run it with `node examples/custom-balancer.ts`.
 */
import { NodeRuntime, NodeServices } from "@effect/platform-node"
import { Console, Effect, FileSystem } from "effect"
import {
  Balancer,
  CallError,
  Connection,
  Endpoint,
  HandlerMap,
  Listener,
  MethodKey,
  Resolver,
  Server
} from "effect-call"
import * as assert from "node:assert/strict"

/**
 * A balancer without state is a function. Its arguments are the current endpoints, and the excluded ones: those that
 * the call has already tried, and those in backoff after a failed dial. It returns one of the endpoints, or fails with
 * Unreachable.
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
const ownZoneFirst = (isNear: (endpoint: Endpoint.Endpoint) => boolean): Effect.Effect<Balancer.Balancer> =>
  Effect.gen(function*() {
    const near = yield* Balancer.roundRobin
    const far = yield* Balancer.roundRobin
    return {
      update: (endpoints) => {
        near.update(endpoints.filter(isNear))
        far.update(endpoints.filter((endpoint) => !isNear(endpoint)))
      },
      pick: (options) => Effect.catch(near.pick(options), () => far.pick(options))
    }
  })

// ---- The servers. Each answers with its name.

const name = MethodKey.make("example/Names", "name")

const startServer = Effect.fnUntraced(function*(path: string, serverName: string) {
  const handlers = HandlerMap.empty.pipe(
    HandlerMap.set("example/Names", "name", () => Effect.succeed(new TextEncoder().encode(serverName)))
  )
  yield* Effect.forkScoped(Server.serve(yield* Listener.unix(path, handlers)))
})

const program = Effect.gen(function*() {
  const fs = yield* FileSystem.FileSystem
  const directory = yield* fs.makeTempDirectoryScoped({ prefix: "balancer-" })
  const path = (server: string) => `${directory}/${server}.sock`
  const servers = ["north-1", "north-2", "south-1"]
  const resolver = Resolver.constant(...servers.map((server) => Endpoint.unix(path(server))))

  /** Makes five calls, and returns the names of the servers that answered. */
  const whoAnswers = Effect.fnUntraced(function*(connection: Connection.Connection) {
    // This call has no side effects, so it can be retried when its server is lost.
    const ask = Effect.retry(connection.call(name, new Uint8Array()), {
      times: 3,
      while: ({ _tag }) => _tag === "CommunicationError"
    })
    const answers = yield* Effect.replicateEffect(ask, 5)
    return answers.map((answer) => new TextDecoder().decode(answer)).join(" ")
  })
  const show = (when: string, who: string) => Console.log(`${when.padEnd(36)} ${who}`)

  const first = yield* Connection.make(resolver, { balancer: firstThatIsUp })
  const zone = yield* Connection.make(resolver, {
    balancer: ownZoneFirst(({ address }) => address.includes("/north-"))
  })

  yield* startServer(path("south-1"), "south-1")
  yield* Effect.scoped(Effect.gen(function*() {
    yield* startServer(path("north-1"), "north-1")
    yield* startServer(path("north-2"), "north-2")

    const byOrder = yield* whoAnswers(first)
    yield* show("the first that is up:", byOrder)
    assert.equal(byOrder, "north-1 north-1 north-1 north-1 north-1")

    const byZone = yield* whoAnswers(zone)
    yield* show("the own zone first:", byZone)
    assert.equal(byZone, "north-1 north-2 north-1 north-2 north-1")
  }))
  // The Scope of the servers in the north is closed, so these servers are down.
  const rest = yield* whoAnswers(zone)
  yield* show("when nobody of the own zone is up:", rest)
  assert.equal(rest, "south-1 south-1 south-1 south-1 south-1")
})

program.pipe(Effect.scoped, Effect.provide(NodeServices.layer), NodeRuntime.runMain)
