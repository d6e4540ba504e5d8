/**
 * Two balancers of one's own: the first endpoint that is up, and those of the own zone before any others. For zones
 * there is `Balancer.zoneAware`, which also looks at how much the zone can take; this one shows what a balancer with a
 * state is made of.
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
 * A balancer without a state of its own is a function: of the current endpoints, and of what a call has tried already
 * or what could not be dialed just now. It returns one of the endpoints, or fails with Unreachable.
 */
const firstThatIsUp = Balancer.make((endpoints, { avoid }) => {
  const first = endpoints.find(({ address }) => !avoid.has(address))
  return first === undefined
    ? Effect.fail(new CallError.Unreachable({ message: "none of the endpoints is up", attempts: [] }))
    : Effect.succeed(first)
})

/**
 * One with a state is an object, and an Effect that makes it, since each Connection needs its own. This one takes the
 * endpoints of the own zone in turn, and the others when none of those is left.
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

// ---- What is called: servers that answer with their names.

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

  /** Calls five times, and gives the names of the servers that answered. */
  const whoAnswers = Effect.fnUntraced(function*(connection: Connection.Connection) {
    // To ask for a name twice does no harm: a call that is lost with its server is made again.
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
  // The scope of the servers in the north is closed: they are down.
  const rest = yield* whoAnswers(zone)
  yield* show("when nobody of the own zone is up:", rest)
  assert.equal(rest, "south-1 south-1 south-1 south-1 south-1")
})

program.pipe(Effect.scoped, Effect.provide(NodeServices.layer), NodeRuntime.runMain)
