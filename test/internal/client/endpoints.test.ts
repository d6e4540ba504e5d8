import { describe, it } from "@effect/vitest"
import { Deferred, Effect, Fiber, Logger, References, SubscriptionRef } from "effect"
import { Balancer, type CallError, Connection, Resolver } from "effect-call"
import { TestNetwork } from "effect-call/testing"
import * as assert from "node:assert/strict"
import {
  ask,
  askSlowly,
  connectToListed,
  counted,
  type Replica,
  settle,
  startInMemory,
  startOn,
  turn,
  until,
  untilState
} from "../../Connection/support.ts"
import { eachNetwork } from "../../support/networks.ts"

const onNetwork = Effect.provide(TestNetwork.layer)

/** A call of `hold` that has reached its replica. */
const holdOn = Effect.fnUntraced(function*(connection: Connection.Connection, replica: Replica) {
  const before = replica.holding
  const fiber = yield* Effect.forkChild(askSlowly(connection), { startImmediately: true })
  yield* until(() => replica.holding > before)
  return fiber
})

const stateOf = (connection: Connection.Connection, replica: Replica) =>
  Effect.map(
    connection.state,
    ({ endpoints }) => endpoints.find(({ address }) => address === replica.endpoint.address)?.state
  )

const untilGone = (connection: Connection.Connection, { endpoint }: Replica) =>
  untilState(connection, ({ endpoints }) => endpoints.every(({ address }) => address !== endpoint.address))

describe("endpoints that change", () => {
  eachNetwork((network) => {
    const startReplica = startOn(network)

    it.live("new ones are used, and kept ones keep their connection", () =>
      Effect.gen(function*() {
        const [a, b, c] = yield* Effect.forEach(["a", "b", "c"], startReplica)
        const { connection, list } = yield* connectToListed([a!, b!])
        assert.deepEqual([yield* ask(connection), yield* ask(connection)], ["a", "b"])
        yield* list(b!, c!, a!)
        const answers = yield* Effect.replicateEffect(ask(connection), 6)
        assert.deepEqual(answers.toSorted(), ["a", "a", "b", "b", "c", "c"])
        assert.deepEqual([a!.accepted, b!.accepted, c!.accepted], [1, 1, 1])
      }))

    it.live("a dropped one without calls closes at once", () =>
      Effect.gen(function*() {
        const [a, b] = yield* Effect.forEach(["a", "b"], startReplica)
        const { connection, list } = yield* connectToListed([a!, b!])
        yield* Effect.all([ask(connection), ask(connection)])
        yield* list(b!)
        assert.equal(yield* stateOf(connection, a!), undefined)
        yield* until(() => a!.open === 0)
        assert.equal(b!.open, 1)
        assert.deepEqual([yield* ask(connection), yield* ask(connection)], ["b", "b"])
      }))

    it.live("a dropped one with calls gets no more, and closes when the last of them has ended", () =>
      Effect.gen(function*() {
        const [a, b] = yield* Effect.forEach(["a", "b"], startReplica)
        const { connection, list } = yield* connectToListed([a!])
        const held = [yield* holdOn(connection, a!), yield* holdOn(connection, a!)]
        yield* list(b!)
        assert.equal(yield* stateOf(connection, a!), "Draining")
        assert.deepEqual(yield* Effect.replicateEffect(ask(connection), 3), ["b", "b", "b"])
        // One of them is given up, the other one answered.
        yield* Fiber.interrupt(held[0]!)
        yield* until(() => a!.interrupted === 1)
        assert.equal(yield* stateOf(connection, a!), "Draining")
        assert.equal(a!.open, 1)
        yield* a!.gate.open
        assert.equal(yield* Fiber.join(held[1]!), "a")
        yield* untilGone(connection, a!)
        yield* until(() => a!.open === 0)
        assert.equal(a!.answered, 0)
      }))

    it.live("a dropped one is gone by the time that its last caller goes on", () =>
      Effect.gen(function*() {
        const [a, b] = yield* Effect.forEach(["a", "b"], startReplica)
        const { connection, list } = yield* connectToListed([a!])
        const held = yield* Effect.forkChild(Effect.andThen(askSlowly(connection), connection.state), {
          startImmediately: true
        })
        yield* until(() => a!.holding === 1)
        yield* list(b!)
        yield* a!.gate.open
        const { endpoints } = yield* Fiber.join(held)
        assert.deepEqual(endpoints.map(({ address }) => address), [b!.endpoint.address])
      }))

    it.live("a dropped one whose last call is given up closes too", () =>
      Effect.gen(function*() {
        const [a, b] = yield* Effect.forEach(["a", "b"], startReplica)
        const { connection, list } = yield* connectToListed([a!])
        const held = yield* holdOn(connection, a!)
        yield* list(b!)
        yield* Fiber.interrupt(held)
        assert.equal(yield* stateOf(connection, a!), undefined)
        yield* until(() => a!.open === 0 && a!.interrupted === 1)
      }))

    it.live("several generations drain at once, and each ends by itself", () =>
      Effect.gen(function*() {
        const replicas = yield* Effect.forEach(["a", "b", "c", "d"], startReplica)
        const [a, b, c, d] = replicas
        const { connection, list } = yield* connectToListed([a!])
        const held: Array<Fiber.Fiber<string, CallError.CallError>> = []
        for (const [index, replica] of replicas.entries()) {
          yield* list(replica)
          held.push(yield* holdOn(connection, replica))
          assert.equal((yield* connection.state).endpoints.length, index + 1)
        }
        assert.deepEqual((yield* connection.state).endpoints.map(({ state }) => state), [
          "Draining",
          "Draining",
          "Draining",
          "Active"
        ])
        for (const [replica, index] of [[b!, 1], [a!, 0], [c!, 2]] as const) {
          yield* replica.gate.open
          assert.equal(yield* Fiber.join(held[index]!), replica.name)
          yield* untilGone(connection, replica)
          yield* until(() => replica.open === 0)
        }
        assert.equal(yield* stateOf(connection, d!), "Active")
        yield* d!.gate.open
        assert.equal(yield* Fiber.join(held[3]!), "d")
        assert.equal(d!.open, 1)
      }))

    it.live("a draining one that is listed again is used again, over the same connection, and stays", () =>
      Effect.gen(function*() {
        const [a, b] = yield* Effect.forEach(["a", "b"], startReplica)
        const { connection, list } = yield* connectToListed([a!])
        const held = yield* holdOn(connection, a!)
        yield* list(b!)
        yield* list(b!, a!)
        assert.equal(yield* stateOf(connection, a!), "Active")
        assert.deepEqual((yield* Effect.replicateEffect(ask(connection), 2)).toSorted(), ["a", "b"])
        yield* a!.gate.open
        assert.equal(yield* Fiber.join(held), "a")
        assert.equal(yield* stateOf(connection, a!), "Active")
        assert.deepEqual((yield* Effect.replicateEffect(ask(connection), 2)).toSorted(), ["a", "b"])
        assert.deepEqual([a!.accepted, a!.open], [1, 1])
      }))

    it.live("a draining one that is listed again takes the calls of a logger that hears of it", () =>
      Effect.gen(function*() {
        const [a] = yield* Effect.forEach(["a"], startReplica)
        const answered = yield* Deferred.make<string, CallError.CallError>()
        let call: Effect.Effect<string, CallError.CallError> = Effect.never
        const calls = Logger.layer([Logger.make(({ message }) => {
          if (String(message) !== "a draining connection is used again") return
          Effect.runFork(Effect.flatMap(Effect.exit(call), (exit) => Deferred.done(answered, exit)))
        })])
        yield* Effect.gen(function*() {
          const { connection, list } = yield* connectToListed([a!])
          call = ask(connection)
          const held = yield* holdOn(connection, a!)
          yield* list()
          yield* list(a!)
          assert.equal(yield* Deferred.await(answered), "a")
          yield* a!.gate.open
          assert.equal(yield* Fiber.join(held), "a")
        }).pipe(Effect.provide(calls), Effect.provideService(References.MinimumLogLevel, "Debug"))
      }))

    it.live("closing the Connection closes draining ones, and ends their calls and handlers", () =>
      Effect.gen(function*() {
        const [a, b] = yield* Effect.forEach(["a", "b"], startReplica)
        const { connection, list } = yield* connectToListed([a!])
        const draining = yield* holdOn(connection, a!)
        yield* list(b!)
        const active = yield* holdOn(connection, b!)
        yield* connection.close
        for (const fiber of [draining, active]) {
          const error = yield* Effect.flip(Fiber.join(fiber))
          assert.ok(error._tag === "CommunicationError", error._tag)
          assert.equal(error.reason._tag, "Closed")
          assert.equal(error.maybeExecuted, true)
        }
        yield* until(() => a!.open + b!.open === 0 && a!.interrupted + b!.interrupted === 2)
        assert.deepEqual(yield* connection.state, { closed: true, endpoints: [] })
      }))

    it.live("a draining one whose connection is lost ends its calls as lost, and is forgotten", () =>
      Effect.gen(function*() {
        const [a, b] = yield* Effect.forEach(["a", "b"], startReplica)
        const { connection, list } = yield* connectToListed([a!])
        const held = yield* holdOn(connection, a!)
        yield* list(b!)
        yield* a!.stop
        const error = yield* Effect.flip(Fiber.join(held))
        assert.ok(error._tag === "CommunicationError", error._tag)
        assert.deepEqual([error.reason._tag, error.maybeExecuted], ["Lost", true])
        assert.equal(error.endpoint, a!.endpoint.address)
        assert.equal(yield* stateOf(connection, a!), undefined)
        assert.equal(yield* ask(connection), "b")
      }))
  })
})

describe("a list of endpoints", () => {
  it.effect("counts duplicate addresses once, in their order, and dials the first of them", () =>
    Effect.gen(function*() {
      const [a, b] = yield* Effect.forEach(["a", "b"], startInMemory)
      const [a1, a2, b1, b2] = [counted(a!.endpoint), counted(a!.endpoint), counted(b!.endpoint), counted(b!.endpoint)]
      const connection = yield* Connection.make(Resolver.constant(b1, a1, b2, a2, b1))
      assert.deepEqual(yield* Effect.replicateEffect(ask(connection), 4), ["b", "a", "b", "a"])
      assert.deepEqual([a1.dials, a2.dials, b1.dials, b2.dials], [1, 0, 1, 0])
      assert.deepEqual((yield* connection.state).endpoints.map(({ address }) => address), ["memory://b", "memory://a"])
      const sharded = yield* Connection.make(Resolver.constant(b1, a1, b2, a2, b1), { balancer: Balancer.sharded })
      assert.equal(yield* ask(sharded, { shardKey: 2n }), "b")
      assert.equal(yield* ask(sharded, { shardKey: 3n }), "a")
    }).pipe(onNetwork))

  it.effect("that names a kept address by another endpoint lets the next dial go there", () =>
    Effect.gen(function*() {
      const [a, b] = yield* Effect.forEach(["a", "b"], startInMemory)
      const { connection, endpoints } = yield* connectToListed([a!])
      assert.equal(yield* ask(connection), "a")
      yield* SubscriptionRef.set(endpoints, [{ address: a!.endpoint.address, dial: b!.endpoint.dial }])
      yield* settle
      assert.equal(yield* ask(connection), "a")
      yield* a!.stop
      yield* settle
      assert.equal(yield* ask(connection), "b")
    }).pipe(onNetwork))

  // A user's code runs while a list is taken over, and may end the last call of an endpoint that drains.
  for (const [when, whose] of [["update", "the balancer"], ["dial", "the dial of another endpoint"]] as const) {
    it.effect(`that lists a draining endpoint again is taken over, though ${whose} ends its last call`, () =>
      Effect.gen(function*() {
        const [a, b, c] = yield* Effect.forEach(["a", "b", "c"], startInMemory)
        const held: Array<Fiber.Fiber<string, CallError.CallError>> = []
        const strike = (now: string): void => {
          if (now === when) held.pop()?.interruptUnsafe()
        }
        const balancer = Effect.map(Balancer.roundRobin, (own): Balancer.Balancer => ({
          update: (endpoints, views) => {
            strike("update")
            own.update(endpoints, views)
          },
          pick: (options) => own.pick(options)
        }))
        const { connection, list } = yield* connectToListed([a!, b!], { balancer, eager: true })
        const call = yield* holdOn(connection, a!)
        yield* list(b!)
        assert.equal(yield* stateOf(connection, a!), "Draining")
        const striking = {
          address: c!.endpoint.address,
          dial: Effect.andThen(Effect.sync(() => strike("dial")), c!.endpoint.dial)
        }
        held.push(call)
        yield* list({ endpoint: striking }, a!, b!)
        yield* untilState(connection, ({ endpoints }) => endpoints.every(({ state }) => state === "Active"))
        assert.deepEqual((yield* Effect.replicateEffect(ask(connection), 3)).toSorted(), ["a", "b", "c"])
        // The list was taken over as a whole: so is the next one.
        yield* list(b!)
        yield* untilGone(connection, a!)
      }).pipe(onNetwork))
  }

  it.effect("that drops an endpoint while it is dialed moves the calls that wait to another, and abandons the dial", () =>
    Effect.gen(function*() {
      const [a, b] = yield* Effect.forEach(["a", "b"], startInMemory)
      yield* TestNetwork.fault("a", { blackHole: true })
      const { connection, list } = yield* connectToListed([a!])
      const calls = yield* Effect.forkChild(
        Effect.all(Array.from({ length: 10 }, () => ask(connection)), { concurrency: "unbounded" }),
        {
          startImmediately: true
        }
      )
      yield* until(() => a!.accepted === 1)
      assert.equal(yield* stateOf(connection, a!), "Dialing")
      yield* list(b!)
      assert.deepEqual(new Set(yield* Fiber.join(calls)), new Set(["b"]))
      assert.equal(yield* stateOf(connection, a!), undefined)
      // The server's end hears of it as soon as it hears anything.
      yield* TestNetwork.heal("a")
      yield* until(() => a!.open === 0)
    }).pipe(onNetwork))

  it.effect("that drops an endpoint ends its dial also when no call waits for it", () =>
    Effect.gen(function*() {
      const [a, b] = yield* Effect.forEach(["a", "b"], startInMemory)
      yield* TestNetwork.fault("a", { blackHole: true })
      const { connection, list } = yield* connectToListed([a!])
      const call = yield* Effect.forkChild(ask(connection), { startImmediately: true })
      yield* until(() => a!.accepted === 1)
      yield* Fiber.interrupt(call)
      assert.equal(yield* stateOf(connection, a!), "Dialing")
      yield* list(b!)
      assert.equal(yield* stateOf(connection, a!), undefined)
      yield* TestNetwork.heal("a")
      yield* until(() => a!.open === 0)
    }).pipe(onNetwork))

  it.effect("that becomes empty while an endpoint is dialed fails the calls that wait", () =>
    Effect.gen(function*() {
      const a = yield* startInMemory("a")
      yield* TestNetwork.fault("a", { dial: "hang" })
      const { connection, list } = yield* connectToListed([a])
      const call = yield* Effect.forkChild(Effect.flip(ask(connection)), { startImmediately: true })
      yield* turn
      yield* list()
      const error = yield* Fiber.join(call)
      assert.equal(error._tag, "Unreachable")
      assert.match(error.message, /no endpoints/)
    }).pipe(onNetwork))

  it.effect("that changes between a balancer's pick and its use costs no call", () =>
    Effect.gen(function*() {
      const [a, b] = yield* Effect.forEach(["a", "b"], startInMemory)
      const { connection, endpoints } = yield* connectToListed([a!])
      let picks = 0
      // Picks what is listed then, and the list has changed by the time it says so.
      const balancer = yield* Balancer.make((current) =>
        picks++ > 0 ? Effect.succeed(current[0]!) : SubscriptionRef.set(endpoints, [b!.endpoint]).pipe(
          Effect.andThen(settle),
          Effect.as(current[0]!)
        )
      )
      assert.equal(yield* ask(connection, { balancer }), "b")
      assert.equal(picks, 2)
    }).pipe(onNetwork))

  it.live("may change while the fiber of a call is not running", () =>
    Effect.gen(function*() {
      const [a, b] = yield* Effect.forEach(["a", "b"], startInMemory)
      const { connection, endpoints } = yield* connectToListed([a!])
      const flipping = yield* SubscriptionRef.update(
        endpoints,
        (current) => current.length === 1 ? [b!.endpoint, a!.endpoint] : [a!.endpoint]
      ).pipe(Effect.andThen(turn), Effect.forever, Effect.forkChild)
      // Fibers that give way after every few operations: between the pick and its use too, for one of them.
      const answers = yield* Effect.forEach([4, 5, 6, 7, 8, 9, 10, 11], (operations) =>
        Effect.replicateEffect(ask(connection), 25).pipe(
          Effect.provideService(References.MaxOpsBeforeYield, operations)
        ), { concurrency: "unbounded" })
      for (const answer of answers.flat()) {
        assert.match(answer, /^[ab]$/)
      }
      yield* Fiber.interrupt(flipping)
    }).pipe(onNetwork))
})

describe("no endpoints", () => {
  it.effect("fail make where they can never change", () =>
    Effect.gen(function*() {
      const error = yield* Effect.flip(Connection.make(Resolver.constant()))
      assert.ok(error._tag === "Unreachable", error._tag)
      assert.deepEqual(error.attempts, [])
      assert.match(error.message, /constant/)
    }))

  it.effect("fail calls while there are none, where they can change", () =>
    Effect.gen(function*() {
      const a = yield* startInMemory("a")
      const { connection, list } = yield* connectToListed([])
      for (
        const options of [{}, { shardKey: 5n }, { balancer: yield* Balancer.sharded }, { timeout: "1 minute" }] as const
      ) {
        const error = yield* Effect.flip(ask(connection, options))
        assert.ok(error._tag === "Unreachable", error._tag)
        assert.match(error.message, /no endpoints/)
        assert.deepEqual(error.attempts, [])
      }
      yield* list(a)
      assert.equal(yield* ask(connection), "a")
      yield* list()
      assert.equal((yield* Effect.flip(ask(connection)))._tag, "Unreachable")
    }).pipe(onNetwork))
})
