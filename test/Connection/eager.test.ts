/** Connections that are opened ahead of need, so that no call waits for a dial. */
import { describe, it } from "@effect/vitest"
import { Effect, Fiber, Logger, References, SubscriptionRef } from "effect"
import { Balancer, Connection, Endpoint, Resolver } from "effect-call"
import { TestNetwork } from "effect-call/testing"
import { TestClock } from "effect/testing"
import * as assert from "node:assert/strict"
import { byHand } from "../support/byHand.ts"
import { eachNetwork } from "../support/networks.ts"
import {
  ask,
  connectToListed,
  counted,
  type Replica,
  settle,
  startInMemory,
  startOn,
  until,
  untilState
} from "./support.ts"

const onNetwork = Effect.provide(TestNetwork.layer)
const options: Connection.ClientOptions = { eager: true, backoff: { jitter: 0 } }

const states = (connection: Connection.Connection) =>
  Effect.map(connection.state, ({ endpoints }) => endpoints.map(({ state }) => state))

const isOpen = (...replicas: ReadonlyArray<Replica>) => until(() => replicas.every(({ open }) => open === 1))

describe("a Connection that is eager", () => {
  eachNetwork((network) => {
    it.live("connects to all of its endpoints without a call", () =>
      Effect.gen(function*() {
        const replicas = yield* Effect.forEach(["a", "b", "c"], startOn(network))
        const connection = yield* Connection.make(
          Resolver.constant(...replicas.map(({ endpoint }) => endpoint)),
          options
        )
        yield* untilState(connection, ({ endpoints }) => endpoints.every(({ state }) => state === "Active"))
        assert.deepEqual(replicas.map(({ accepted }) => accepted), [1, 1, 1])
      }))
  })

  it.effect("connects to an endpoint as soon as it is listed", () =>
    Effect.gen(function*() {
      const [a, b] = [yield* startInMemory("a"), yield* startInMemory("b")]
      const { endpoints } = yield* connectToListed([a], options)
      yield* isOpen(a)
      yield* SubscriptionRef.set(endpoints, [a.endpoint, b.endpoint])
      yield* isOpen(b)
    }).pipe(onNetwork))

  it.effect("opens as many connections to an endpoint as there are to be", () =>
    Effect.gen(function*() {
      const a = yield* startInMemory("a")
      yield* Connection.make(Resolver.constant(a.endpoint), { ...options, connectionsPerEndpoint: 3 })
      yield* until(() => a.open === 3)
      yield* settle
      assert.equal(a.accepted, 3)
    }).pipe(onNetwork))

  it.effect("connects again by itself when a connection is lost", () =>
    Effect.gen(function*() {
      const a = yield* startInMemory("a")
      yield* Connection.make(Resolver.constant(a.endpoint), options)
      yield* isOpen(a)
      yield* TestNetwork.fault("a", { cutAfter: { toClient: 0 } })
      yield* until(() => a.open === 0)
      yield* TestNetwork.heal("a")
      yield* TestClock.adjust("1 second")
      yield* isOpen(a)
      assert.equal(a.accepted >= 2, true)
    }).pipe(onNetwork))

  it.effect("tries an endpoint that is down again whenever its backoff is over, and not before", () =>
    Effect.gen(function*() {
      const down = counted({
        address: "test://down",
        dial: Effect.fail(new Endpoint.DialError({ message: "no server listens" }))
      })
      yield* Connection.make(Resolver.constant(down), options)
      yield* settle
      assert.equal(down.dials, 1)
      yield* TestClock.adjust("49 millis")
      yield* settle
      assert.equal(down.dials, 1)
      yield* TestClock.adjust("1 millis")
      yield* settle
      assert.equal(down.dials, 2)
      yield* TestClock.adjust("80 millis")
      yield* settle
      assert.equal(down.dials, 3)
    }).pipe(onNetwork))

  it.effect("does not dial again and again in one turn where there is no backoff", () =>
    Effect.gen(function*() {
      const down = counted({
        address: "test://down",
        dial: Effect.fail(new Endpoint.DialError({ message: "no server listens" }))
      })
      yield* Connection.make(Resolver.constant(down), { eager: true, backoff: { initial: 0, max: 0 } })
      yield* settle
      assert.equal(down.dials, 1)
      yield* TestClock.adjust("1 millis")
      yield* settle
      assert.equal(down.dials, 2)
    }).pipe(onNetwork))

  it.effect("does not dial again and again a server that closes each connection as soon as it is open", () =>
    Effect.gen(function*() {
      const a = yield* byHand("a")
      let accepted = 0
      const closing = Effect.map(a.accepted(), ({ socket }) => {
        accepted++
        // When it has been sent the version message.
        setImmediate(() => socket.destroy())
      })
      yield* Effect.forkChild(Effect.forever(closing), { startImmediately: true })
      yield* Connection.make(Resolver.constant(a.endpoint), options)
      yield* settle
      yield* settle
      assert.equal(accepted, 2)
      yield* TestClock.adjust("1 second")
      yield* until(() => accepted > 2)
    }).pipe(onNetwork))

  it.effect("stops dialing an endpoint that is listed no longer", () =>
    Effect.gen(function*() {
      const a = yield* startInMemory("a")
      const down = counted({
        address: "test://down",
        dial: Effect.fail(new Endpoint.DialError({ message: "no server listens" }))
      })
      const { endpoints } = yield* connectToListed([a, { endpoint: down }], options)
      yield* settle
      yield* SubscriptionRef.set(endpoints, [a.endpoint])
      yield* settle
      const { dials } = down
      yield* TestClock.adjust("1 minute")
      yield* settle
      assert.equal(down.dials, dials)
    }).pipe(onNetwork))

  it.effect("gives up its dials when it is closed by a logger that hears of the first", () =>
    Effect.gen(function*() {
      const heard: Array<string> = []
      let close = Effect.void
      const logger = Logger.make(({ message }) => {
        heard.push(String(message))
        if (heard.at(-1) === "an endpoint is dialed") Effect.runFork(close)
      })
      const hanging = { address: "test://hanging", dial: Effect.never }
      const endpoints = yield* SubscriptionRef.make<ReadonlyArray<Endpoint.Endpoint>>([])
      const connection = yield* Connection.make(Resolver.fromSubscriptionRef(endpoints), {
        ...options,
        connectionsPerEndpoint: 3
      }).pipe(
        Effect.provide(Logger.layer([logger])),
        Effect.provideService(References.MinimumLogLevel, "All")
      )
      yield* settle
      close = connection.close
      yield* SubscriptionRef.set(endpoints, [hanging])
      yield* settle
      assert.deepEqual(heard, [
        "the resolver has changed the endpoints",
        "an endpoint is dialed",
        "an endpoint is dialed",
        "an endpoint is dialed",
        "an endpoint is gone"
      ])
    }).pipe(onNetwork))

  it.effect("dials no more when it is closed", () =>
    Effect.gen(function*() {
      const down = counted({
        address: "test://down",
        dial: Effect.fail(new Endpoint.DialError({ message: "no server listens" }))
      })
      const connection = yield* Connection.make(Resolver.constant(down), options)
      yield* settle
      yield* connection.close
      yield* TestClock.adjust("1 minute")
      yield* settle
      assert.equal(down.dials, 1)
    }).pipe(onNetwork))

  it.effect("sends no call to an endpoint whose dial hangs, while another is connected", () =>
    Effect.gen(function*() {
      const a = yield* startInMemory("a")
      const hanging = { endpoint: { address: "test://hanging", dial: Effect.never } }
      const { connection } = yield* connectToListed([hanging, a], options)
      yield* untilState(connection, ({ endpoints }) => endpoints[1]?.state === "Active")
      assert.deepEqual(yield* states(connection), ["Dialing", "Active"])
      assert.deepEqual(yield* Effect.replicateEffect(ask(connection), 5), ["a", "a", "a", "a", "a"])
    }).pipe(onNetwork))

  it.effect("shards calls that have no key over endpoints that are connected", () =>
    Effect.gen(function*() {
      const a = yield* startInMemory("a")
      const hanging = { endpoint: { address: "test://hanging", dial: Effect.never } }
      const { connection } = yield* connectToListed([hanging, a], { ...options, balancer: Balancer.sharded })
      yield* untilState(connection, ({ endpoints }) => endpoints[1]?.state === "Active")
      assert.deepEqual(yield* Effect.replicateEffect(ask(connection), 10), Array.from({ length: 10 }, () => "a"))
    }).pipe(onNetwork))

  it.effect("takes calls that wait for a dial that hangs to the first endpoint that is connected", () =>
    Effect.gen(function*() {
      const a = yield* startInMemory("a")
      const hanging = { endpoint: { address: "test://hanging", dial: Effect.never } }
      const { connection } = yield* connectToListed([hanging, a], options)
      assert.equal(yield* ask(connection), "a")
    }).pipe(onNetwork))

  it.effect("lets calls wait for the first connection where none is open yet", () =>
    Effect.gen(function*() {
      const a = yield* startInMemory("a")
      const { connection } = yield* connectToListed([a], options)
      assert.equal(yield* ask(connection), "a")
      assert.equal(a.accepted, 1)
    }).pipe(onNetwork))

  it.effect("goes on dialing when the callers that wait for it have gone", () =>
    Effect.gen(function*() {
      let dials = 0
      const hanging = {
        address: "test://hanging",
        dial: Effect.suspend(() => {
          dials++
          return Effect.never
        })
      }
      const connection = yield* Connection.make(Resolver.constant(hanging), options)
      const call = yield* Effect.forkChild(ask(connection), { startImmediately: true })
      yield* settle
      yield* Fiber.interrupt(call)
      assert.deepEqual([dials, yield* states(connection)], [1, ["Dialing"]])
    }).pipe(onNetwork))
})

describe("a Connection that is not eager", () => {
  it.effect("dials nothing before a call", () =>
    Effect.gen(function*() {
      const a = yield* startInMemory("a")
      const { connection } = yield* connectToListed([a])
      yield* settle
      assert.deepEqual([a.accepted, yield* states(connection)], [0, ["Idle"]])
    }).pipe(onNetwork))
})
