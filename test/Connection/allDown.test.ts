/** All endpoints are down: when calls fail, and how much is done for it, as counted and not as timed. */
import { describe, it } from "@effect/vitest"
import { Effect, Fiber, Logger } from "effect"
import { Balancer, CallError, Connection, Endpoint, Resolver } from "effect-call"
import { TestClock } from "effect/testing"
import * as assert from "node:assert/strict"
import { ask, settle, turn } from "./support.ts"

interface Counts {
  dials: number
  /**
   * How often the address of an endpoint has been read, as a balancer does to see whether it is excluded.
   */
  looks: number
}

/** Endpoints that cannot be dialed, which turns out in a later turn, as with a socket. */
const downOf = (count: number) => {
  const counts: Counts = { dials: 0, looks: 0 }
  const endpoints = Array.from({ length: count }, (_, index): Endpoint.Endpoint => ({
    get address() {
      counts.looks++
      return `test://${index}`
    },
    dial: Effect.suspend(() => {
      counts.dials++
      return Effect.andThen(turn, Effect.fail(new Endpoint.DialError({ message: `${index} is down` })))
    })
  }))
  return { counts, endpoints }
}

const callAll = (connection: Connection.Connection, callers: number) =>
  Effect.all(Array.from({ length: callers }, () => Effect.flip(ask(connection))), { concurrency: "unbounded" })

const quiet = Effect.provide(Logger.layer([]))

const attemptsOf = (error: CallError.CallError) => {
  assert.ok(error._tag === "Unreachable", error._tag)
  return error.attempts
}

const connectTo = (endpoints: ReadonlyArray<Endpoint.Endpoint>, options?: Connection.ClientOptions) =>
  Connection.make(Resolver.constant(...endpoints), options)

describe("where all endpoints are down", () => {
  for (
    const [name, balancer] of Object.entries({
      roundRobin: Balancer.roundRobin,
      leastPending: Balancer.leastPending,
      weighted: Balancer.weighted,
      consistentHash: Balancer.consistentHash,
      "one of a user's own": Balancer.make((endpoints, { avoid }) =>
        Effect.suspend(() => {
          const endpoint = endpoints.find(({ address }) => !avoid.has(address))
          return endpoint === undefined
            ? Effect.fail(new CallError.Unreachable({ message: "none", attempts: [] }))
            : Effect.succeed(endpoint)
        })
      )
    })
  ) {
    it.live(`a call fails when each endpoint has failed once since it began, even if another call has dialed it, with ${name}`, () =>
      Effect.gen(function*() {
        const { counts, endpoints } = downOf(40)
        // With no backoff nothing but this keeps calls from dialing again and again.
        const connection = yield* connectTo(endpoints, { balancer, backoff: { initial: 0 } })
        const errors = yield* callAll(connection, 30)
        assert.equal(counts.dials, 40)
        for (const error of errors) {
          assert.equal(new Set(attemptsOf(error).map(({ endpoint }) => endpoint)).size, 40)
          for (const { endpoint, message } of attemptsOf(error)) {
            assert.equal(message, `${endpoint.slice("test://".length)} is down`)
          }
        }
        // What failed before a call began says nothing about now.
        yield* callAll(connection, 1)
        assert.equal(counts.dials, 80)
      }).pipe(Effect.scoped, quiet))
  }

  it.effect("a call does not dial what has failed since it began, though its backoff is over", () =>
    Effect.gen(function*() {
      const { counts, endpoints: [a] } = downOf(1)
      let fail = () => {}
      const slow: Endpoint.Endpoint = {
        address: "test://slow",
        dial: Effect.callback((resume) => {
          fail = () => resume(Effect.fail(new Endpoint.DialError({ message: "slow" })))
        })
      }
      const connection = yield* connectTo([slow, a!], { backoff: { initial: "1 second", jitter: 0 } })
      const first = yield* Effect.forkChild(Effect.flip(ask(connection)), { startImmediately: true })
      // This one goes to the other, whose dial fails, and then waits for the slow one, too.
      const second = yield* Effect.forkChild(Effect.flip(ask(connection)), { startImmediately: true })
      yield* settle
      assert.equal(counts.dials, 1)
      yield* TestClock.adjust("3 seconds")
      fail()
      for (const call of [first, second]) assert.equal(attemptsOf(yield* Fiber.join(call)).length, 2)
      assert.equal(counts.dials, 1)
      // A later call does.
      yield* Effect.flip(ask(connection))
      assert.equal(counts.dials, 2)
    }))

  it.effect("a call's error names each of them, also where the balancer of an earlier call was so slow that it knew of fewer", () =>
    Effect.gen(function*() {
      const { endpoints } = downOf(2)
      const connection = yield* connectTo(endpoints, { backoff: { initial: "1 minute", jitter: 0 } })
      const none = Effect.fail(new CallError.Unreachable({ message: "none", attempts: [] }))
      const only = (index: number) =>
        Balancer.make((endpoints, { avoid }) => {
          const endpoint = endpoints[index]!
          return avoid.has(endpoint.address) ? none : Effect.succeed(endpoint)
        })
      yield* Effect.flip(ask(connection, { balancer: yield* only(0) }))
      // It is told of the first one, and takes its time.
      const slow = yield* Balancer.make(() => Effect.andThen(Effect.sleep("1 second"), none))
      const first = yield* Effect.forkChild(Effect.flip(ask(connection, { balancer: slow })), {
        startImmediately: true
      })
      // Meanwhile another call dials the second one, and waits.
      const waiting = { balancer: yield* only(1), waitForReady: true }
      yield* Effect.forkChild(ask(connection, waiting), { startImmediately: true })
      yield* settle
      yield* TestClock.adjust("1 second")
      const told = Effect.map(Effect.flip(ask(connection)), (error) => attemptsOf(error).map(({ message }) => message))
      assert.deepEqual(attemptsOf(yield* Fiber.join(first)).map(({ message }) => message), ["0 is down"])
      assert.deepEqual((yield* told).toSorted(), ["0 is down", "1 is down"])
    }).pipe(quiet))

  it.live("what is looked at grows with the endpoints and the calls, not with their product", () =>
    Effect.gen(function*() {
      const looksOf = Effect.fnUntraced(function*(count: number, callers: number) {
        const { counts, endpoints } = downOf(count)
        const connection = yield* connectTo(endpoints, { backoff: { initial: "1 minute" } })
        counts.looks = 0
        const errors = yield* callAll(connection, callers)
        const failing = counts.looks
        // And so it is for calls that fail at once, since all are in backoff.
        yield* callAll(connection, callers)
        return { failing, atOnce: counts.looks - failing, errors }
      })
      const few = yield* looksOf(200, 1)
      const many = yield* looksOf(200, 200)
      const more = yield* looksOf(800, 200)
      // One call over 200 endpoints, and 200 calls over 200 and 800.
      assert.ok(few.failing <= 10 * 200, `${few.failing} looks`)
      assert.ok(many.failing <= 40 * (200 + 200), `${many.failing} looks`)
      assert.ok(more.failing - many.failing <= 10 * (800 - 200), `${more.failing} looks after ${many.failing}`)
      for (const { atOnce } of [many, more]) assert.equal(atOnce, 200 * few.atOnce)
      assert.ok(few.atOnce <= 40, `${few.atOnce} looks`)
      // Calls that have met the same failures share what is said of them.
      assert.equal(new Set(more.errors).size, 1)
    }).pipe(Effect.scoped, quiet))
})
