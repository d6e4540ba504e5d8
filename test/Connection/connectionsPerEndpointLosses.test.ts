/** Several connections to one endpoint, some or all of which are lost, have no room, or are to be drained. */
import { describe, it } from "@effect/vitest"
import { Deferred, Effect, Fiber } from "effect"
import { Balancer, Connection, type Endpoint, Resolver } from "effect-call"
import { TestNetwork } from "effect-call/testing"
import { TestClock } from "effect/testing"
import * as assert from "node:assert/strict"
import {
  behind,
  connectTo,
  fork,
  holdOnAll,
  onNetwork,
  openAll,
  startAll,
  stateOf,
  takeDown,
  tally
} from "./severalConnections.ts"
import { ask, askSlowly, connectToListed, counted, echo, elapse, settle, startInMemory, until } from "./support.ts"

const kibibyte = 1024

describe("a connection that is lost", () => {
  it.effect("costs only the calls in flight on it, and calls go on over the other connections", () =>
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
        () => fork(Effect.result(connection.call(echo, new Uint8Array(250 * kibibyte))))
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
      yield* Effect.replicateEffect(fork(Effect.exit(connection.call(echo, new Uint8Array(250 * kibibyte)))), 2)
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

  it.effect("is one try for a call, however many connections it should have, and is in backoff then", () =>
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

  it.effect("is in backoff at once where another dial has failed just before the last one", () =>
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
      yield* fork(Effect.exit(connection.call(echo, new Uint8Array(250 * kibibyte))))
      yield* settle
    }
    return { connection, servers }
  })

  it.effect("has its calls go over another that has room", () =>
    Effect.gen(function*() {
      const { connection } = yield* half
      assert.deepEqual(yield* tally(connection, 20), { b: 20 })
    }).pipe(onNetwork))

  it.effect("like all others lets calls wait, which go on over the first connection that has room", () =>
    Effect.gen(function*() {
      const { connection } = yield* half
      yield* TestNetwork.fault("b", { blackHole: "toServer" })
      for (let i = 0; i < 8; i++) {
        yield* fork(Effect.exit(connection.call(echo, new Uint8Array(250 * kibibyte))))
        yield* settle
      }
      const calls = yield* Effect.replicateEffect(fork(ask(connection)), 6)
      yield* settle
      assert.ok(calls.every((call) => call.pollUnsafe() === undefined))
      yield* TestNetwork.heal("b")
      assert.deepEqual(yield* Effect.forEach(calls, (call) => Fiber.join(call)), Array(6).fill("b"))
    }).pipe(onNetwork))

  it.effect("lets calls wait, which go on over a connection that has been dialed meanwhile", () =>
    Effect.gen(function*() {
      const servers = yield* startAll("a", "b")
      yield* TestNetwork.fault("b", { dial: "hang" })
      const connection = yield* connectTo(behind(servers), 2)
      yield* ask(connection)
      yield* TestNetwork.fault("a", { blackHole: "toServer" })
      for (let i = 0; i < 8; i++) {
        yield* fork(Effect.exit(connection.call(echo, new Uint8Array(250 * kibibyte))))
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

  it.effect("and is listed again uses the connections that still drain, and dials the others", () =>
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

  it.effect("ends the dials that are made while its calls go on", () =>
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
        yield* fork(Effect.exit(connection.call(echo, new Uint8Array(250 * kibibyte))))
        yield* settle
      }
      const call = yield* fork(ask(connection))
      yield* settle
      assert.equal(call.pollUnsafe(), undefined)
      yield* list(other)
      assert.equal(yield* Fiber.join(call), "other")
    }).pipe(onNetwork))
})
