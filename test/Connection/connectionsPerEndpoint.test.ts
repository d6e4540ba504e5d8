/** Several connections to one endpoint: calls are spread over them, and each is dialed and closed by itself. */
import { describe, it } from "@effect/vitest"
import { Deferred, Effect, Fiber, Logger, References } from "effect"
import { Balancer, Connection, Endpoint, HandlerMap, Listener, Resolver, Server } from "effect-call"
import { TestNetwork } from "effect-call/testing"
import { TestClock } from "effect/testing"
import * as assert from "node:assert/strict"
import { bytesOf, component, eachNetwork } from "../support/networks.ts"
import {
  behind,
  connectTo,
  firstAndRest,
  fork,
  onNetwork,
  openAll,
  startAll,
  stateOf,
  takeDown,
  tally
} from "./severalConnections.ts"
import { ask, askSlowly, counted, settle, startInMemory, startOn, until } from "./support.ts"

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

  it.effect("go over them in turn also with an asynchronous balancer, and with a balancer of their own", () =>
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

  it.effect("go over the other connections evenly when one of them is stuck", () =>
    Effect.gen(function*() {
      const servers = yield* startAll("a", "b", "c")
      const connection = yield* connectTo(behind(servers), 3)
      yield* openAll(connection, servers)
      yield* TestNetwork.fault("b", { blackHole: true })
      const answers = yield* Effect.replicateEffect(fork(ask(connection)), 30)
      yield* until(() => servers[0]!.answered + servers[2]!.answered >= 20)
      yield* settle
      // The calls that had gone there wait; no other call does.
      const stuck = answers.filter((call) => call.pollUnsafe() === undefined).length
      assert.equal(stuck, 10)
      assert.deepEqual(yield* tally(connection, 20), { a: 10, c: 10 })
      yield* TestNetwork.heal("b")
      yield* Fiber.joinAll(answers)
    }).pipe(onNetwork))

  it.effect("are balanced over endpoints as with one connection, each of which has its own connections", () =>
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
  it.effect("is not dialed by the first call, which dials one, with any number of concurrent calls", () =>
    Effect.gen(function*() {
      const a = yield* startInMemory("a")
      const endpoint = counted(a.endpoint)
      const connection = yield* connectTo(endpoint, 4)
      assert.equal(endpoint.dials, 0)
      yield* Effect.replicateEffect(ask(connection), 100, { concurrency: "unbounded" })
      yield* settle
      assert.equal(endpoint.dials, 1)
    }).pipe(onNetwork))

  it.effect("is dialed with a later call, which does not wait for it, one with each call", () =>
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
      // The connection that comes first is used first.
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

  it.effect("is not bound to a call: it is connected although all callers are interrupted", () =>
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

  it.effect("waits for the cleanup of a dial that no call waits for", () =>
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
