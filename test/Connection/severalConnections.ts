/** An endpoint with several servers behind it, and a client that has several connections to it. */
import { Effect } from "effect"
import { Connection, type Endpoint, Resolver } from "effect-call"
import { TestNetwork } from "effect-call/testing"
import * as assert from "node:assert/strict"
import { ask, askSlowly, counted, type Replica, settle, startInMemory, until } from "./support.ts"

export const onNetwork = Effect.provide(TestNetwork.layer)

export const fork = <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.forkChild(effect, { startImmediately: true })
export const startAll = (...names: ReadonlyArray<string>) => Effect.forEach(names, startInMemory)

interface Named {
  readonly endpoint: Endpoint.Endpoint
}

/**
 * One endpoint with several servers behind it: its dials go to them in turn, as they may where servers share a port.
 */
export const behind = (servers: ReadonlyArray<Named>, address = "test://shared") => {
  let dials = 0
  return counted({ address, dial: Effect.suspend(() => servers[dials++ % servers.length]!.endpoint.dial) })
}

/** So that the first dial goes to one server and all later ones to the other. */
export const firstAndRest = (first: Named, rest: Named) => [first, ...Array<Named>(20).fill(rest)]

export const connectTo = (
  endpoint: Endpoint.Endpoint,
  connectionsPerEndpoint: number,
  options?: Connection.ClientOptions
) => Connection.make(Resolver.constant(endpoint), { connectionsPerEndpoint, backoff: { jitter: 0 }, ...options })

/** Calls until there is a connection to each of the servers. */
export const openAll = Effect.fnUntraced(function*(connection: Connection.Connection, servers: ReadonlyArray<Replica>) {
  while (servers.some(({ open }) => open === 0)) {
    yield* ask(connection)
    yield* settle
  }
})

/** How many of so many calls each server has answered, by their names. */
export const tally = Effect.fnUntraced(function*(connection: Connection.Connection, calls: number) {
  const answers = yield* Effect.replicateEffect(ask(connection), calls)
  const counts: Record<string, number> = {}
  for (const answer of answers.toSorted()) counts[answer] = (counts[answer] ?? 0) + 1
  return counts
})

/** One call of `hold` on each of the servers. */
export const holdOnAll = Effect.fnUntraced(
  function*(connection: Connection.Connection, servers: ReadonlyArray<Replica>) {
    const calls = yield* Effect.replicateEffect(fork(Effect.result(askSlowly(connection))), servers.length)
    yield* until(() => servers.every(({ holding }) => holding === 1))
    return calls
  }
)

export const stateOf = (connection: Connection.Connection) =>
  Effect.map(connection.state, ({ endpoints }) => {
    assert.equal(endpoints.length, 1)
    return endpoints[0]!
  })

/** Breaks the connections to a server, and refuses new ones. */
export const takeDown = Effect.fnUntraced(function*(server: Replica) {
  yield* TestNetwork.fault(server.name, { dial: "refuse", cutAfter: { toClient: 0 } })
  yield* until(() => server.open === 0)
})
