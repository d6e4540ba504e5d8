/**
 * Several connections to one endpoint: calls are spread over them, and each comes and goes by itself.
 */
import { describe, it } from "@effect/vitest"
import { Deferred, Effect, Fiber, Logger, References, type Scope } from "effect"
import { Balancer, Connection, Endpoint, HandlerMap, Listener, Resolver, Server } from "effect-call"
import { TestNetwork } from "effect-call/testing"
import { TestClock } from "effect/testing"
import * as assert from "node:assert/strict"
import { makeLog } from "../support/log.ts"
import { meteredInMemory, type Metrics } from "../support/metrics.ts"
import { bytesOf, component, eachNetwork } from "../support/networks.ts"
import {
  ask,
  askSlowly,
  connectToListed,
  counted,
  echo,
  elapse,
  type Replica,
  settle,
  startInMemory,
  startOn,
  until
} from "./support.ts"

const onNetwork = Effect.provide(TestNetwork.layer)
const kibibyte = 1024

const fork = <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.forkChild(effect, { startImmediately: true })

const startAll = (...names: ReadonlyArray<string>) => Effect.forEach(names, startInMemory)

interface Named {
  readonly endpoint: Endpoint.Endpoint
}

/** One endpoint with several servers behind it: its dials go to them in turn, as they may where servers share a port. */
const behind = (servers: ReadonlyArray<Named>, address = "test://shared") => {
  let dials = 0
  return counted({ address, dial: Effect.suspend(() => servers[dials++ % servers.length]!.endpoint.dial) })
}

/** So that the first dial goes to one server and all later ones to the other. */
const firstAndRest = (first: Named, rest: Named) => [first, ...Array<Named>(20).fill(rest)]

const connectTo = (endpoint: Endpoint.Endpoint, connectionsPerEndpoint: number, options?: Connection.ClientOptions) =>
  Connection.make(Resolver.constant(endpoint), { connectionsPerEndpoint, backoff: { jitter: 0 }, ...options })

/** Calls until there is a connection to each of the servers. */
const openAll = Effect.fnUntraced(function*(connection: Connection.Connection, servers: ReadonlyArray<Replica>) {
  while (servers.some(({ open }) => open === 0)) {
    yield* ask(connection)
    yield* settle
  }
})

/** How many of so many calls each server has answered, by their names. */
const tally = Effect.fnUntraced(function*(connection: Connection.Connection, calls: number) {
  const answers = yield* Effect.replicateEffect(ask(connection), calls)
  const counts: Record<string, number> = {}
  for (const answer of answers.toSorted()) counts[answer] = (counts[answer] ?? 0) + 1
  return counts
})

/** One call of `hold` on each of the servers. */
const holdOnAll = Effect.fnUntraced(function*(connection: Connection.Connection, servers: ReadonlyArray<Replica>) {
  const calls = yield* Effect.replicateEffect(fork(Effect.result(askSlowly(connection))), servers.length)
  yield* until(() => servers.every(({ holding }) => holding === 1))
  return calls
})

const stateOf = (connection: Connection.Connection) =>
  Effect.map(connection.state, ({ endpoints }) => {
    assert.equal(endpoints.length, 1)
    return endpoints[0]!
  })

/** Breaks the connections to a server, and refuses new ones. */
const takeDown = Effect.fnUntraced(function*(server: Replica) {
  yield* TestNetwork.fault(server.name, { dial: "refuse", cutAfter: { toClient: 0 } })
  yield* until(() => server.open === 0)
})

describe("calls", () => {
  eachNetwork((network) => {
    it.live("go over as many connections as are asked for, in turn", () =>
      Effect.gen(function*() {
        let accepted = 0
        // Answers with the number of its connection.
        const { endpoint } = yield* network.serve(() => {
          const number = bytesOf(String(++accepted))
          return HandlerMap.set(HandlerMap.empty, component, "who", () => Effect.succeed(number))
        })
        const connection = yield* connectTo(endpoint, 4)
        const seen = new Set<string>()
        while (seen.size < 4) seen.add(yield* ask(connection))
        assert.deepEqual(yield* tally(connection, 40), { 1: 10, 2: 10, 3: 10, 4: 10 })
        assert.equal(accepted, 4)
      }))

    it.live("go over one connection where nothing is said", () =>
      Effect.gen(function*() {
        const a = yield* startOn(network)("a")
        const connection = yield* Connection.make(Resolver.constant(a.endpoint))
        for (let i = 0; i < 3; i++) {
          yield* Effect.replicateEffect(ask(connection), 20, { concurrency: "unbounded" })
        }
        assert.equal(a.accepted, 1)
      }))
  })

  it.live.skipIf(process.platform !== "linux")(
    "are answered by servers that share a port",
    () =>
      Effect.gen(function*() {
        const accepted = [0, 0]
        const listen = (addr: string, server: number) =>
          Effect.gen(function*() {
            const listener = yield* Listener.tcp(addr, () => {
              const answer = bytesOf(`${server}/${++accepted[server]!}`)
              return HandlerMap.set(HandlerMap.empty, component, "who", () => Effect.succeed(answer))
            }, { reusePort: true })
            yield* Effect.forkScoped(Server.serve(listener, { shutdownGrace: 0 }), { startImmediately: true })
            return listener.address
          })
        const address = yield* listen("127.0.0.1:0", 0)
        yield* listen(address.slice("tcp://".length), 1)
        const connection = yield* connectTo(yield* Endpoint.parse(address), 16)
        const seen = new Set<string>()
        while (seen.size < 16) seen.add(yield* ask(connection))
        // Which of them got how many is the system's to say.
        assert.equal(accepted[0]! + accepted[1]!, 16)
      })
  )

  it.effect("go over them in turn also where the balancer takes its time to pick, and with a balancer of their own", () =>
    Effect.gen(function*() {
      const servers = yield* startAll("a", "b", "c")
      const pensive = Balancer.make(([first]) => Effect.as(settle, first!))
      const connection = yield* connectTo(behind(servers), 3, { balancer: pensive })
      yield* openAll(connection, servers)
      assert.deepEqual(yield* tally(connection, 12), { a: 4, b: 4, c: 4 })
      const balancer = yield* Balancer.sharded
      const answers = yield* Effect.replicateEffect(ask(connection, { balancer, shardKey: 7n }), 6)
      assert.deepEqual(answers.toSorted(), ["a", "a", "b", "b", "c", "c"])
    }).pipe(onNetwork))

  it.effect("go over those with the fewest calls in flight, and in turn over these", () =>
    Effect.gen(function*() {
      const servers = yield* startAll("a", "b", "c", "d")
      const connection = yield* connectTo(behind(servers), 4)
      yield* openAll(connection, servers)
      // Two of them have one call more than the others.
      const calls = yield* Effect.replicateEffect(fork(askSlowly(connection)), 2)
      yield* until(() => servers.filter(({ holding }) => holding === 1).length === 2)
      const idle = servers.filter(({ holding }) => holding === 0)
      assert.deepEqual(yield* tally(connection, 10), { [idle[0]!.name]: 5, [idle[1]!.name]: 5 })
      // Now all have as many, and then twice as many.
      yield* Effect.replicateEffect(fork(askSlowly(connection)), 2)
      yield* until(() => servers.every(({ holding }) => holding === 1))
      assert.deepEqual(yield* tally(connection, 8), { a: 2, b: 2, c: 2, d: 2 })
      yield* Effect.replicateEffect(fork(askSlowly(connection)), 4)
      yield* until(() => servers.every(({ holding }) => holding === 2))
      for (const { gate } of servers) yield* gate.open
      yield* Fiber.joinAll(calls)
    }).pipe(onNetwork))

  it.effect("go over those that are left as evenly as before, when one of them is stuck", () =>
    Effect.gen(function*() {
      const servers = yield* startAll("a", "b", "c")
      const connection = yield* connectTo(behind(servers), 3)
      yield* openAll(connection, servers)
      yield* TestNetwork.fault("b", { blackHole: true })
      const answers = yield* Effect.replicateEffect(fork(ask(connection)), 30)
      yield* until(() => servers[0]!.answered + servers[2]!.answered >= 20)
      yield* settle
      // Those that had gone there wait; nobody else does.
      const stuck = answers.filter((call) => call.pollUnsafe() === undefined).length
      assert.equal(stuck, 10)
      assert.deepEqual(yield* tally(connection, 20), { a: 10, c: 10 })
      yield* TestNetwork.heal("b")
      yield* Fiber.joinAll(answers)
    }).pipe(onNetwork))

  it.effect("are balanced over endpoints as ever, each of which has its own connections", () =>
    Effect.gen(function*() {
      const servers = yield* startAll("a", "b", "c", "d")
      const [one, other] = [behind(servers.slice(0, 2), "test://one"), behind(servers.slice(2), "test://other")]
      const connection = yield* Connection.make(Resolver.constant(one, other), { connectionsPerEndpoint: 2 })
      yield* openAll(connection, servers)
      assert.deepEqual(yield* tally(connection, 16), { a: 4, b: 4, c: 4, d: 4 })
      assert.deepEqual([one.dials, other.dials], [2, 2])
    }).pipe(onNetwork))
})

describe("a connection that is missing", () => {
  it.effect("is not dialed by the first call, which dials one, whoever else calls meanwhile", () =>
    Effect.gen(function*() {
      const a = yield* startInMemory("a")
      const endpoint = counted(a.endpoint)
      const connection = yield* connectTo(endpoint, 4)
      assert.equal(endpoint.dials, 0)
      yield* Effect.replicateEffect(ask(connection), 100, { concurrency: "unbounded" })
      yield* settle
      assert.equal(endpoint.dials, 1)
    }).pipe(onNetwork))

  it.effect("is dialed beside a later call, which does not wait for it, one with each call", () =>
    Effect.gen(function*() {
      const servers = yield* startAll("a", "b", "c")
      for (const name of ["b", "c"]) yield* TestNetwork.fault(name, { dial: "hang" })
      const endpoint = behind(servers)
      const connection = yield* connectTo(endpoint, 3)
      for (const dials of [1, 2, 3, 3, 3]) {
        assert.equal(yield* ask(connection), "a")
        yield* settle
        assert.equal(endpoint.dials, dials)
      }
      // Whichever comes first is used first.
      yield* TestNetwork.heal("c")
      yield* until(() => servers[2]!.open === 1)
      yield* settle
      assert.deepEqual(yield* tally(connection, 8), { a: 4, c: 4 })
      yield* TestNetwork.heal("b")
      yield* until(() => servers[1]!.open === 1)
      yield* settle
      assert.deepEqual(yield* tally(connection, 9), { a: 3, b: 3, c: 3 })
      assert.equal(endpoint.dials, 3)
    }).pipe(onNetwork))

  it.effect("is dialed by nobody's call: it comes though all who have called are interrupted", () =>
    Effect.gen(function*() {
      const servers = yield* startAll("a", "b")
      yield* TestNetwork.fault("b", { dial: "hang" })
      const endpoint = behind(servers)
      const connection = yield* connectTo(endpoint, 2)
      yield* ask(connection)
      const call = yield* fork(askSlowly(connection))
      yield* until(() => servers[0]!.holding === 1)
      assert.equal(endpoint.dials, 2)
      yield* Fiber.interrupt(call)
      yield* TestNetwork.heal("b")
      yield* until(() => servers[1]!.open === 1)
      yield* settle
      assert.deepEqual(yield* tally(connection, 4), { a: 2, b: 2 })
      assert.equal(endpoint.dials, 2)
    }).pipe(onNetwork))

  it.effect("goes on being dialed when those are interrupted who have come to wait for it", () =>
    Effect.gen(function*() {
      const servers = yield* startAll("a", "b")
      yield* TestNetwork.fault("b", { dial: "hang" })
      const endpoint = behind(servers)
      const connection = yield* connectTo(endpoint, 2)
      yield* Effect.replicateEffect(ask(connection), 2)
      yield* takeDown(servers[0]!)
      yield* settle
      const call = yield* fork(ask(connection))
      yield* settle
      assert.equal(call.pollUnsafe(), undefined)
      yield* Fiber.interrupt(call)
      assert.equal((yield* stateOf(connection)).state, "Dialing")
      yield* TestNetwork.heal("b")
      yield* until(() => servers[1]!.open === 1)
      assert.equal(yield* ask(connection), "b")
      assert.equal(servers[1]!.accepted, 1)
    }).pipe(onNetwork))

  it.effect("that cannot be dialed costs no call, and is tried again after a backoff that grows", () =>
    Effect.gen(function*() {
      const servers = yield* startAll("a", "b")
      yield* TestNetwork.fault("b", { dial: "refuse" })
      const endpoint = behind(firstAndRest(servers[0]!, servers[1]!))
      const connection = yield* connectTo(endpoint, 2)
      const dials: Array<number> = []
      for (let millis = 0; millis < 300; millis += 10) {
        assert.equal(yield* ask(connection), "a")
        yield* settle
        dials.push(endpoint.dials)
        const { inBackoff, lastFailure, state } = yield* stateOf(connection)
        assert.deepEqual([state, inBackoff], ["Active", false])
        if (endpoint.dials > 1) assert.match(lastFailure!, /connection refused/)
        yield* TestClock.adjust(10)
      }
      // It is dialed at 10, 60, 140 and 268 ms.
      assert.deepEqual([0, 1, 5, 6, 13, 14, 26, 27, 29].map((i) => dials[i]), [1, 2, 2, 3, 3, 4, 4, 5, 5])
      yield* TestNetwork.heal("b")
      yield* TestClock.adjust("1 second")
      yield* openAll(connection, servers)
      assert.equal((yield* stateOf(connection)).lastFailure, undefined)
    }).pipe(onNetwork))

  it.effect("whose dial takes too long costs no call", () =>
    Effect.gen(function*() {
      const servers = yield* startAll("a", "b")
      yield* TestNetwork.fault("b", { blackHole: true })
      const endpoint = behind(firstAndRest(servers[0]!, servers[1]!))
      const connection = yield* connectTo(endpoint, 2, { dialTimeout: "1 second" })
      for (let i = 0; i < 5; i++) {
        assert.equal(yield* ask(connection), "a")
        yield* settle
        yield* TestClock.adjust("400 millis")
      }
      assert.equal(servers[0]!.answered, 5)
      assert.match((yield* stateOf(connection)).lastFailure!, /within 1s/)
    }).pipe(onNetwork))
})

describe("a connection that is lost", () => {
  it.effect("costs the calls in flight on it and no others, and calls go on over the rest", () =>
    Effect.gen(function*() {
      const servers = yield* startAll("a", "b", "c")
      const connection = yield* connectTo(behind(servers), 3)
      yield* openAll(connection, servers)
      const calls = yield* holdOnAll(connection, servers)
      yield* takeDown(servers[1]!)
      for (let i = 0; i < 12; i++) assert.match(yield* ask(connection), /^[ac]$/)
      for (const { gate } of servers) yield* gate.open
      const results = yield* Effect.forEach(calls, (call) => Fiber.join(call))
      const outcomes = results.map((result) => {
        if (result._tag === "Success") return result.success
        const error = result.failure
        return error._tag === "CommunicationError" ? `${error.reason._tag} ${error.maybeExecuted}` : error._tag
      })
      assert.deepEqual(outcomes.toSorted(), ["Lost true", "a", "c"])
    }).pipe(onNetwork))

  it.effect("is dialed again with the next call, which does not wait for it", () =>
    Effect.gen(function*() {
      const servers = yield* startAll("a", "b", "c")
      const endpoint = behind(servers)
      const connection = yield* connectTo(endpoint, 3)
      yield* openAll(connection, servers)
      yield* TestNetwork.fault("a", { cutAfter: { toClient: 0 } })
      yield* until(() => servers[0]!.open === 0)
      yield* TestNetwork.heal("a")
      yield* settle
      assert.equal(endpoint.dials, 3)
      assert.match(yield* ask(connection), /^[bc]$/)
      assert.equal(endpoint.dials, 4)
      yield* settle
      assert.deepEqual(yield* tally(connection, 12), { a: 4, b: 4, c: 4 })
      assert.equal((yield* stateOf(connection)).lastFailure, undefined)
    }).pipe(onNetwork))

  it.effect("with requests that had not left yet has them sent over another", () =>
    Effect.gen(function*() {
      const servers = yield* startAll("a", "b")
      const connection = yield* connectTo(behind(servers), 2)
      yield* openAll(connection, servers)
      yield* TestNetwork.fault("a", { blackHole: "toServer" })
      // What the socket has been given, and waits with; b answers the other.
      const large = yield* Effect.forEach(
        [1, 2],
        () => fork(Effect.result(connection.call(echo, new Uint8Array(512 * kibibyte))))
      )
      yield* settle
      const queued = yield* Effect.replicateEffect(fork(ask(connection)), 10)
      yield* settle
      assert.equal(queued.filter((call) => call.pollUnsafe() === undefined).length, 5)
      yield* TestNetwork.fault("a", { blackHole: "toServer", cutAfter: { toClient: 0 } })
      assert.deepEqual(yield* Effect.forEach(queued, (call) => Fiber.join(call)), Array(10).fill("b"))
      const results = yield* Effect.forEach(large, (call) => Fiber.join(call))
      assert.deepEqual(results.map(({ _tag }) => _tag).toSorted(), ["Failure", "Success"])
    }).pipe(onNetwork))
})

describe("a request that had not left", () => {
  it.effect("is not given up though each connection is lost that it is then queued on", () =>
    Effect.gen(function*() {
      const servers = yield* startAll("a", "b", "c")
      const connection = yield* connectTo(behind(servers), 2)
      yield* openAll(connection, servers.slice(0, 2))
      for (const name of ["a", "b"]) yield* TestNetwork.fault(name, { blackHole: "toServer" })
      yield* Effect.replicateEffect(fork(Effect.exit(connection.call(echo, new Uint8Array(512 * kibibyte)))), 2)
      yield* settle
      const call = yield* fork(ask(connection))
      yield* settle
      for (const name of ["a", "b"]) {
        yield* TestNetwork.fault(name, { blackHole: "toServer", dial: "hang", cutAfter: { toClient: 0 } })
        yield* settle
      }
      assert.equal(yield* Fiber.join(call), "c")
    }).pipe(onNetwork))
})

describe("an endpoint with none of its connections left", () => {
  it.effect("is dialed once for all who wait for it", () =>
    Effect.gen(function*() {
      const servers = yield* startAll("a", "b", "c")
      const endpoint = behind(servers)
      const connection = yield* connectTo(endpoint, 3)
      yield* openAll(connection, servers)
      for (const { name } of servers) yield* TestNetwork.fault(name, { cutAfter: { toClient: 0 } })
      yield* until(() => servers.every(({ open }) => open === 0))
      assert.equal((yield* stateOf(connection)).state, "Idle")
      for (const { name } of servers) yield* TestNetwork.heal(name)
      yield* settle
      const before = endpoint.dials
      const answers = yield* Effect.replicateEffect(ask(connection), 50, { concurrency: "unbounded" })
      assert.equal(new Set(answers).size, 1)
      assert.equal(endpoint.dials, before + 1)
    }).pipe(onNetwork))

  it.effect("is one try for a call, however many connections it should have, and is then left alone", () =>
    Effect.gen(function*() {
      const [a, b] = yield* startAll("a", "b")
      const endpoint = counted(a!.endpoint)
      const connection = yield* Connection.make(Resolver.constant(endpoint, b!.endpoint), {
        connectionsPerEndpoint: 3,
        backoff: { jitter: 0 }
      })
      while (a!.open < 3) {
        yield* ask(connection)
        yield* settle
      }
      yield* takeDown(a!)
      for (let i = 0; i < 20; i++) assert.equal(yield* ask(connection), "b")
      assert.equal(endpoint.dials, 4)
      const [state] = (yield* connection.state).endpoints
      assert.deepEqual([state!.state, state!.inBackoff], ["Idle", true])
      // The second backoff is longer.
      yield* TestClock.adjust(50)
      for (let i = 0; i < 20; i++) assert.equal(yield* ask(connection), "b")
      yield* TestClock.adjust(79)
      for (let i = 0; i < 20; i++) assert.equal(yield* ask(connection), "b")
      assert.equal(endpoint.dials, 5)
      yield* TestNetwork.heal("a")
      yield* TestClock.adjust(1)
      assert.deepEqual(yield* tally(connection, 20), { a: 10, b: 10 })
    }).pipe(onNetwork))

  it.effect("is in backoff at once where a dial beside the last one has just failed", () =>
    Effect.gen(function*() {
      const servers = yield* startAll("a", "b")
      yield* TestNetwork.fault("b", { dial: "refuse" })
      const endpoint = behind(servers)
      const avoided: Array<ReadonlyArray<string>> = []
      const balancer = Balancer.make(([first], { avoid }) => {
        avoided.push([...avoid])
        return Effect.succeed(first!)
      })
      const connection = yield* connectTo(endpoint, 2, { balancer })
      yield* ask(connection)
      yield* ask(connection)
      yield* settle
      assert.equal(endpoint.dials, 2)
      yield* ask(connection)
      assert.deepEqual(avoided.splice(0).flat(), [])
      yield* takeDown(servers[0]!)
      yield* settle
      const error = yield* Effect.flip(ask(connection))
      assert.deepEqual(avoided[0], [endpoint.address])
      assert.ok(error._tag === "Unreachable", error._tag)
      assert.match(error.attempts[0]!.message, /ECONNRESET/)
      assert.equal((yield* stateOf(connection)).inBackoff, true)
      assert.equal(endpoint.dials, 2)
      // It is waited for as any other backoff is.
      yield* TestNetwork.heal("a")
      const call = yield* fork(ask(connection, { waitForReady: true }))
      assert.equal(yield* elapse(call), 50)
      assert.equal(yield* Fiber.join(call), "a")
    }).pipe(onNetwork))

  it.effect("lets calls wait for the first of the dials that are underway, and fails them with the last", () =>
    Effect.gen(function*() {
      const servers = yield* startAll("a", "b", "c")
      for (const name of ["b", "c"]) yield* TestNetwork.fault(name, { dial: "hang" })
      const endpoint = behind(servers)
      const connection = yield* connectTo(endpoint, 3)
      yield* Effect.replicateEffect(ask(connection), 3)
      yield* takeDown(servers[0]!)
      yield* settle
      const calls = yield* Effect.replicateEffect(fork(Effect.result(ask(connection))), 3)
      // One that fails leaves another to wait for.
      yield* TestNetwork.fault("b", { dial: "refuse" })
      yield* settle
      assert.deepEqual(calls.map((call) => call.pollUnsafe()), [undefined, undefined, undefined])
      assert.deepEqual([(yield* stateOf(connection)).state, (yield* stateOf(connection)).inBackoff], ["Dialing", false])
      yield* Fiber.interrupt(calls[0]!)
      yield* TestNetwork.heal("c")
      for (const call of calls.slice(1)) {
        const result = yield* Fiber.join(call)
        assert.ok(result._tag === "Success" && result.success === "c")
      }
      assert.equal(endpoint.dials, 3)

      // Where all fail, so do the calls.
      yield* TestNetwork.fault("a", { dial: "hang" })
      yield* TestNetwork.fault("b", { dial: "hang" })
      yield* Effect.replicateEffect(ask(connection), 3)
      yield* takeDown(servers[2]!)
      yield* settle
      const failing = yield* fork(Effect.flip(ask(connection)))
      yield* TestNetwork.fault("a", { dial: "refuse" })
      yield* settle
      assert.equal(failing.pollUnsafe(), undefined)
      yield* TestNetwork.fault("b", { dial: "refuse" })
      assert.equal((yield* Fiber.join(failing))._tag, "Unreachable")
      assert.equal((yield* stateOf(connection)).inBackoff, true)
      assert.equal(endpoint.dials, 5)
      // They failed together, so they are one failure.
      const call = yield* fork(ask(connection, { waitForReady: true }))
      yield* TestNetwork.heal("c")
      yield* TestNetwork.heal("a")
      yield* TestNetwork.heal("b")
      assert.equal(yield* elapse(call), 50)
    }).pipe(onNetwork))
})

describe("a connection without room", () => {
  /** Two connections, the first of which takes no more. */
  const half = Effect.gen(function*() {
    const servers = yield* startAll("a", "b")
    const connection = yield* connectTo(behind(servers), 2)
    yield* openAll(connection, servers)
    yield* TestNetwork.fault("a", { blackHole: "toServer" })
    for (let i = 0; i < 8; i++) {
      yield* fork(Effect.exit(connection.call(echo, new Uint8Array(512 * kibibyte))))
      yield* settle
    }
    return { connection, servers }
  })

  it.effect("has its calls go over another that has some", () =>
    Effect.gen(function*() {
      const { connection } = yield* half
      assert.deepEqual(yield* tally(connection, 20), { b: 20 })
    }).pipe(onNetwork))

  it.effect("like all others lets calls wait, which go on over whichever has some first", () =>
    Effect.gen(function*() {
      const { connection } = yield* half
      yield* TestNetwork.fault("b", { blackHole: "toServer" })
      for (let i = 0; i < 8; i++) {
        yield* fork(Effect.exit(connection.call(echo, new Uint8Array(512 * kibibyte))))
        yield* settle
      }
      const calls = yield* Effect.replicateEffect(fork(ask(connection)), 6)
      yield* settle
      assert.ok(calls.every((call) => call.pollUnsafe() === undefined))
      yield* TestNetwork.heal("b")
      assert.deepEqual(yield* Effect.forEach(calls, (call) => Fiber.join(call)), Array(6).fill("b"))
    }).pipe(onNetwork))

  it.effect("lets calls wait that go on over one that has been dialed beside them", () =>
    Effect.gen(function*() {
      const servers = yield* startAll("a", "b")
      yield* TestNetwork.fault("b", { dial: "hang" })
      const connection = yield* connectTo(behind(servers), 2)
      yield* ask(connection)
      yield* TestNetwork.fault("a", { blackHole: "toServer" })
      for (let i = 0; i < 8; i++) {
        yield* fork(Effect.exit(connection.call(echo, new Uint8Array(512 * kibibyte))))
        yield* settle
      }
      const call = yield* fork(ask(connection))
      yield* settle
      assert.equal(call.pollUnsafe(), undefined)
      yield* TestNetwork.heal("b")
      assert.equal(yield* Fiber.join(call), "b")
    }).pipe(onNetwork))
})

describe("an endpoint that is listed no longer", () => {
  const three = Effect.gen(function*() {
    const servers = yield* startAll("a", "b", "c")
    const other = yield* startInMemory("other")
    const endpoint = behind(servers)
    const listed = yield* connectToListed([{ endpoint }], { connectionsPerEndpoint: 3 })
    yield* openAll(listed.connection, servers)
    return { ...listed, servers, other, endpoint }
  })

  it.effect("drains all its connections: each closes with its last call", () =>
    Effect.gen(function*() {
      const { connection, list, other, servers } = yield* three
      const calls = yield* holdOnAll(connection, servers)
      yield* list(other)
      assert.equal(yield* ask(connection), "other")
      for (const [i, { gate }] of servers.entries()) {
        const [state] = (yield* connection.state).endpoints
        assert.deepEqual([state!.state, state!.callsInFlight], ["Draining", 3 - i])
        assert.deepEqual(servers.map(({ open }) => open), servers.map((_, j) => j < i ? 0 : 1))
        yield* gate.open
        yield* until(() => servers[i]!.open === 0)
      }
      const results = yield* Effect.forEach(calls, (call) => Fiber.join(call))
      assert.ok(results.every(({ _tag }) => _tag === "Success"))
      assert.equal((yield* connection.state).endpoints.length, 1)
    }).pipe(onNetwork))

  it.effect("closes those at once that have no calls", () =>
    Effect.gen(function*() {
      const { connection, list, other, servers } = yield* three
      const call = yield* fork(askSlowly(connection))
      yield* until(() => servers.some(({ holding }) => holding === 1))
      yield* list(other)
      yield* until(() => servers.filter(({ open }) => open === 1).length === 1)
      const busy = servers.find(({ open }) => open === 1)!
      yield* busy.gate.open
      assert.equal(yield* Fiber.join(call), busy.name)
      yield* until(() => busy.open === 0)
    }).pipe(onNetwork))

  it.effect("and then again has those that still drain used again, and the others dialed", () =>
    Effect.gen(function*() {
      const { connection, endpoint, list, other, servers } = yield* three
      const call = yield* fork(askSlowly(connection))
      yield* until(() => servers.some(({ holding }) => holding === 1))
      const busy = servers.find(({ holding }) => holding === 1)!
      yield* list(other)
      yield* until(() => servers.filter(({ open }) => open === 1).length === 1)
      yield* list({ endpoint })
      assert.equal((yield* stateOf(connection)).state, "Active")
      assert.equal(yield* ask(connection), busy.name)
      while (servers.reduce((sum, { open }) => sum + open, 0) < 3) {
        yield* ask(connection)
        yield* settle
      }
      assert.equal(endpoint.dials, 5)
      yield* busy.gate.open
      assert.equal(yield* Fiber.join(call), busy.name)
    }).pipe(onNetwork))

  it.effect("gives up the dials that are underway beside its calls", () =>
    Effect.gen(function*() {
      const [a, other] = yield* startAll("a", "other")
      const calledOff = yield* Deferred.make<void>()
      let dials = 0
      const endpoint: Endpoint.Endpoint = {
        address: "test://shared",
        dial: Effect.suspend(() =>
          dials++ === 0
            ? a!.endpoint.dial
            : Effect.onInterrupt(Effect.never, () => Deferred.succeed(calledOff, undefined))
        )
      }
      const { connection, list } = yield* connectToListed([{ endpoint }], { connectionsPerEndpoint: 2 })
      yield* ask(connection)
      yield* ask(connection)
      assert.equal(dials, 2)
      yield* list(other!)
      yield* Deferred.await(calledOff)
      assert.equal((yield* connection.state).endpoints.length, 1)
    }).pipe(onNetwork))

  it.effect("lets calls that wait for room on its connections go elsewhere", () =>
    Effect.gen(function*() {
      const { connection, list, other, servers } = yield* three
      for (const { name } of servers) yield* TestNetwork.fault(name, { blackHole: "toServer" })
      for (let i = 0; i < 16; i++) {
        yield* fork(Effect.exit(connection.call(echo, new Uint8Array(512 * kibibyte))))
        yield* settle
      }
      const call = yield* fork(ask(connection))
      yield* settle
      assert.equal(call.pollUnsafe(), undefined)
      yield* list(other)
      assert.equal(yield* Fiber.join(call), "other")
    }).pipe(onNetwork))
})

describe("close", () => {
  eachNetwork((network) => {
    it.live("closes all connections, and ends the calls on each of them", () =>
      Effect.gen(function*() {
        const a = yield* startOn(network)("a")
        const connection = yield* connectTo(a.endpoint, 3)
        while (a.open < 3) yield* ask(connection)
        const calls = yield* Effect.replicateEffect(fork(Effect.flip(askSlowly(connection))), 6)
        yield* until(() => a.holding === 6)
        yield* connection.close
        for (const call of calls) {
          const error = yield* Fiber.join(call)
          assert.ok(error._tag === "CommunicationError", error._tag)
          assert.equal(error.reason._tag, "Closed")
        }
        yield* until(() => a.open === 0 && a.interrupted === 6)
        assert.deepEqual(yield* connection.state, { closed: true, endpoints: [] })
      }))
  })

  it.effect("waits for what a dial beside its calls has to clean up", () =>
    Effect.gen(function*() {
      const a = yield* startInMemory("a")
      const cleaning = yield* Deferred.make<void>()
      const release = yield* Deferred.make<void>()
      let dials = 0
      const connection = yield* connectTo({
        address: "test://shared",
        dial: Effect.suspend(() =>
          dials++ === 0 ?
            a.endpoint.dial :
            Effect.onInterrupt(
              Effect.never,
              () => Effect.andThen(Deferred.succeed(cleaning, undefined), Deferred.await(release))
            )
        )
      }, 2)
      yield* ask(connection)
      yield* ask(connection)
      const closing = yield* fork(connection.close)
      yield* Deferred.await(cleaning)
      yield* settle
      assert.equal(closing.pollUnsafe(), undefined)
      yield* Deferred.succeed(release, undefined)
      yield* Fiber.join(closing)
      yield* until(() => a.open === 0)
    }).pipe(onNetwork))

  it.effect("by a logger that hears of a dial that a call has started ends that call as closed", () =>
    Effect.gen(function*() {
      const a = yield* startInMemory("a")
      let dialed = 0
      let closing: Effect.Effect<void> = Effect.void
      const closes = Logger.layer([Logger.make(({ message }) => {
        if (String(message) === "an endpoint is dialed" && ++dialed === 2) Effect.runFork(closing)
      })])
      yield* Effect.gen(function*() {
        const connection = yield* connectTo(a.endpoint, 2)
        closing = connection.close
        yield* ask(connection)
        const error = yield* Effect.flip(ask(connection))
        assert.ok(error._tag === "CommunicationError", error._tag)
        assert.equal(error.reason._tag, "Closed")
      }).pipe(Effect.provide(closes), Effect.provideService(References.MinimumLogLevel, "Debug"))
      yield* until(() => a.open === 0)
    }).pipe(onNetwork))
})

describe("the state", () => {
  it.effect("of an endpoint is Active when any of its connections is, with the calls in flight on all of them", () =>
    Effect.gen(function*() {
      const servers = yield* startAll("a", "b", "c")
      const endpoint = behind(servers)
      const connection = yield* connectTo(endpoint, 3)
      const now = Effect.map(stateOf(connection), ({ callsInFlight, state }) => [state, callsInFlight])
      assert.deepEqual(yield* now, ["Idle", 0])
      yield* openAll(connection, servers)
      yield* holdOnAll(connection, servers)
      assert.deepEqual(yield* now, ["Active", 3])
      yield* takeDown(servers[0]!)
      yield* settle
      assert.deepEqual(yield* now, ["Active", 2])
      yield* takeDown(servers[1]!)
      yield* settle
      assert.deepEqual(yield* now, ["Active", 1])
      yield* takeDown(servers[2]!)
      yield* settle
      assert.deepEqual(yield* now, ["Idle", 0])
      assert.match((yield* stateOf(connection)).lastFailure!, /ECONNRESET/)
    }).pipe(onNetwork))
})

describe("the metrics", () => {
  const statesOf = ({ series }: Metrics): ReadonlyArray<string> =>
    series("rpc.client.connection.count")
      .filter(({ value }) => value !== 0)
      .map(({ attributes, value }) => `${value} ${attributes["rpc.connection.state"]}`)

  it.effect(
    "count each connection by its state, and the calls of all of them together",
    meteredInMemory((metrics) =>
      Effect.gen(function*() {
        const servers = yield* startAll("a", "b", "c")
        const other = yield* startInMemory("other")
        const { connection, list } = yield* connectToListed([{ endpoint: behind(servers) }], {
          connectionsPerEndpoint: 3,
          balancer: Balancer.make((endpoints) => Effect.succeed(endpoints[0]!))
        })
        yield* ask(connection)
        assert.deepEqual(statesOf(metrics), ["1 active"])
        yield* TestNetwork.fault("b", { dial: "hang" })
        yield* ask(connection)
        yield* settle
        assert.deepEqual(statesOf(metrics), ["1 dialing", "1 active"])
        yield* TestNetwork.heal("b")
        yield* openAll(connection, servers)
        assert.deepEqual(statesOf(metrics), ["3 active"])
        yield* holdOnAll(connection, servers)
        assert.deepEqual(metrics.values("rpc.client.active_requests"), [3])
        yield* takeDown(servers[0]!)
        yield* settle
        assert.deepEqual(statesOf(metrics), ["1 idle", "2 active"])
        // That goes to a, in its turn.
        yield* ask(connection)
        yield* settle
        assert.deepEqual(metrics.values("rpc.client.dial.failures"), [1])
        assert.deepEqual(statesOf(metrics), ["1 idle", "2 active"])
        yield* list(other)
        assert.deepEqual(statesOf(metrics), ["2 draining"])
        yield* servers[1]!.gate.open
        yield* servers[2]!.gate.open
        yield* until(() => servers.every(({ open }) => open === 0))
        yield* settle
        assert.deepEqual(statesOf(metrics), [])
        assert.deepEqual(metrics.values("rpc.client.active_requests"), [])
      })
    )
  )
})

describe("the log", () => {
  type Log = ReturnType<typeof makeLog>

  const logged = <A, E>(test: (log: Log) => Effect.Effect<A, E, TestNetwork.TestNetwork | Scope.Scope>) => () => {
    const log = makeLog()
    return test(log).pipe(
      Effect.provide([TestNetwork.layer, log.layer]),
      Effect.provideService(References.MinimumLogLevel, "Debug")
    )
  }

  const warnings = ({ lines }: Log) => lines.filter(({ level }) => level === "Warn").map(({ message }) => message)

  /** A server with three connections. */
  const three = Effect.gen(function*() {
    const a = yield* startInMemory("a")
    const connection = yield* connectTo(a.endpoint, 3)
    while (a.open < 3) {
      yield* ask(connection)
      yield* settle
    }
    return { a, connection }
  })

  it.effect(
    "has one warning when a server goes with all its connections, and none while it stays away",
    logged((log) =>
      Effect.gen(function*() {
        const { a, connection } = yield* three
        for (let outage = 1; outage <= 2; outage++) {
          yield* takeDown(a)
          for (let i = 0; i < 3; i++) {
            assert.equal((yield* Effect.flip(ask(connection)))._tag, "Unreachable")
            yield* TestClock.adjust("10 seconds")
          }
          assert.deepEqual(warnings(log), Array(outage).fill("a connection was lost"))
          yield* TestNetwork.heal("a")
          while (a.open < 3) {
            yield* ask(connection)
            yield* settle
          }
        }
      })
    )
  )

  it.effect(
    "has a warning for each connection that is lost and comes back",
    logged((log) =>
      Effect.gen(function*() {
        const servers = yield* startAll("a", "b")
        const connection = yield* connectTo(behind(firstAndRest(servers[0]!, servers[1]!)), 2)
        for (let loss = 1; loss <= 3; loss++) {
          yield* openAll(connection, loss === 1 ? servers : servers.slice(1))
          yield* TestNetwork.fault("b", { cutAfter: { toClient: 0 } })
          yield* until(() => servers[1]!.open === 0)
          yield* TestNetwork.heal("b")
          yield* settle
          assert.equal(warnings(log).length, loss)
        }
      })
    )
  )

  it.effect(
    "has a warning when the others are lost, long after one that could not be dialed again",
    logged((log) =>
      Effect.gen(function*() {
        const servers = yield* startAll("a", "b")
        const connection = yield* connectTo(behind(firstAndRest(servers[0]!, servers[1]!)), 2)
        yield* openAll(connection, servers)
        yield* takeDown(servers[1]!)
        for (let i = 0; i < 3; i++) {
          yield* ask(connection)
          yield* settle
          yield* TestClock.adjust("10 seconds")
        }
        assert.equal(warnings(log).length, 1)
        yield* takeDown(servers[0]!)
        yield* settle
        assert.deepEqual(warnings(log), ["a connection was lost", "a connection was lost"])
      })
    )
  )

  it.effect(
    "has one warning when a connection cannot be dialed beside others, and one more when those are lost",
    logged((log) =>
      Effect.gen(function*() {
        const servers = yield* startAll("a", "b")
        yield* TestNetwork.fault("b", { dial: "refuse" })
        const connection = yield* connectTo(behind(firstAndRest(servers[0]!, servers[1]!)), 2)
        for (let i = 0; i < 5; i++) {
          yield* ask(connection)
          yield* settle
          yield* TestClock.adjust("10 seconds")
        }
        assert.deepEqual(warnings(log), ["an endpoint could not be dialed"])
        yield* takeDown(servers[0]!)
        assert.deepEqual(warnings(log), ["an endpoint could not be dialed", "a connection was lost"])
      })
    )
  )

  it.effect(
    "says at debug what becomes of each connection, and once that the endpoint is gone",
    logged((log) =>
      Effect.gen(function*() {
        const { connection } = yield* three
        yield* connection.close
        const ofEndpoint = log.lines.filter(({ annotations }) => annotations.endpoint === "memory://a")
        assert.deepEqual(ofEndpoint.map(({ level, message }) => `${level}: ${message}`), [
          "Debug: an endpoint is dialed",
          "Debug: an endpoint is connected",
          "Debug: an endpoint is dialed",
          "Debug: an endpoint is connected",
          "Debug: an endpoint is dialed",
          "Debug: an endpoint is connected",
          "Debug: an endpoint is gone"
        ])
      })
    )
  )
})
