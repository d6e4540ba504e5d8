/**
 * What the options of both ends change: sizes, and where the balancer comes from.
 */
import { describe, it } from "@effect/vitest"
import { Cause, Effect, Exit, Fiber, Latch, Layer, Schedule } from "effect"
import { Balancer, type CallError, Connection, HandlerMap, MethodKey, Resolver } from "effect-call"
import * as assert from "node:assert/strict"
import { bytesOf, component, connect, eachNetwork, echo, handlers, memory, tcp, textOf } from "../support/networks.ts"

const make = MethodKey.make(component, "make")
const nothing = new Uint8Array()

const isFilledWith = (bytes: Uint8Array, value: number) => bytes.every((byte) => byte === value)

describe("writeFlattenLimit", () => {
  const size = 50_000
  const writeFlattenLimit = size + 1

  it.live("of a client: smaller arguments may be changed as soon as the call has suspended", () =>
    Effect.gen(function*() {
      const { endpoint } = yield* tcp.serve(handlers)
      const connection = yield* connect([endpoint], { writeFlattenLimit })
      // On a connection that is being dialed, and on one that is open.
      for (const value of [1, 2]) {
        const args = new Uint8Array(size).fill(value)
        const calling = yield* Effect.forkChild(connection.call(echo, args), { startImmediately: true })
        args.fill(0xee)
        assert.ok(isFilledWith(yield* Fiber.join(calling), value))
      }
    }).pipe(Effect.scoped))

  it.live("of a server: a handler may use the buffer of a smaller result again", () =>
    Effect.gen(function*() {
      const buffer = new Uint8Array(size)
      const { endpoint } = yield* tcp.serve(
        HandlerMap.set(handlers, component, "make", ([n = 0]) => Effect.succeed(buffer.fill(n))),
        { writeFlattenLimit }
      )
      const connection = yield* connect([endpoint])
      const results = yield* Effect.forEach(
        [1, 2, 3, 4, 5],
        (n) => Effect.map(connection.call(make, Uint8Array.of(n)), (result) => isFilledWith(result, n)),
        { concurrency: "unbounded" }
      )
      assert.deepEqual(results, [true, true, true, true, true])
    }).pipe(Effect.scoped))
})

describe("maxMessageSize", () => {
  const maxMessageSize = 2000
  const making = HandlerMap.set(
    handlers,
    component,
    "make",
    (args) => Effect.succeed(new Uint8Array(Number(textOf(args))))
  )

  const isTooLarge = (error: CallError.CallError, maybeExecuted: boolean, endpoint: string, message: string) => {
    assert.ok(error._tag === "CommunicationError", error.message)
    assert.deepEqual(
      [error.reason._tag, error.maybeExecuted, error.endpoint, error.message],
      ["TooLarge", maybeExecuted, endpoint, message]
    )
  }
  const retry = Schedule.recurs(3)

  eachNetwork((network) => {
    it.live("of a client: a larger result fails its call, once, and concurrent calls go on", () =>
      Effect.gen(function*() {
        let calls = 0
        const gate = yield* Latch.make(false)
        const { endpoint } = yield* network.serve(making.pipe(
          HandlerMap.set(component, "make", (args) => {
            calls++
            return Effect.succeed(new Uint8Array(Number(textOf(args))))
          }),
          HandlerMap.set(component, "wait", (args) => Effect.as(gate.await, args))
        ))
        const connection = yield* connect([endpoint], { maxMessageSize })
        const concurrent = yield* Effect.forkChild(
          Effect.forEach(
            Array.from({ length: 50 }, (_, i) => bytesOf(`${i}`)),
            (args) => connection.call(MethodKey.make(component, "wait"), args),
            { concurrency: 50 }
          ),
          { startImmediately: true }
        )
        assert.equal((yield* connection.call(make, bytesOf("2000"))).length, 2000)
        isTooLarge(
          yield* Effect.flip(connection.call(MethodKey.idempotent(make), bytesOf("2001"), { retry })),
          true,
          endpoint.address,
          "the result of test/Echo.make is 2001 bytes, expected at most 2000"
        )
        assert.equal(calls, 2)
        // In many pieces, and with those of others behind it.
        const [large, next] = yield* Effect.all(
          [Effect.flip(connection.call(make, bytesOf("3000000"))), connection.call(echo, bytesOf("next"))],
          { concurrency: 2 }
        )
        isTooLarge(
          large,
          true,
          endpoint.address,
          "the result of test/Echo.make is 3000000 bytes, expected at most 2000"
        )
        assert.equal(textOf(next), "next")
        yield* gate.open
        assert.deepEqual((yield* Fiber.join(concurrent)).map(textOf), Array.from({ length: 50 }, (_, i) => `${i}`))
        assert.equal((yield* connection.state).endpoints[0]!.lastFailure, undefined)
      }).pipe(Effect.scoped))

    it.live("of a client: a larger error fails its call, and the next one goes over the same connection", () =>
      Effect.gen(function*() {
        const { endpoint } = yield* network.serve(
          HandlerMap.set(making, component, "make", () => Effect.fail(new Error("x".repeat(2000))))
        )
        const connection = yield* connect([endpoint], { maxMessageSize })
        isTooLarge(
          yield* Effect.flip(connection.call(make, nothing)),
          true,
          endpoint.address,
          "the call of test/Echo.make failed, with an error of 4044 bytes, expected at most 2000"
        )
        assert.equal(textOf(yield* connection.call(echo, bytesOf("next"))), "next")
        assert.equal((yield* connection.state).endpoints[0]!.lastFailure, undefined)
      }).pipe(Effect.scoped))

    it.live("of a server: larger arguments fail their call, once, no handler sees them, and concurrent calls go on", () =>
      Effect.gen(function*() {
        let executed = 0
        const gate = yield* Latch.make(false)
        const { endpoint } = yield* network.serve(
          making.pipe(
            HandlerMap.set(component, "make", (args) => {
              executed++
              return Effect.succeed(args)
            }),
            HandlerMap.set(component, "wait", (args) => Effect.as(gate.await, args))
          ),
          { maxMessageSize }
        )
        const connection = yield* connect([endpoint])
        const concurrent = yield* Effect.forkChild(
          connection.call(MethodKey.make(component, "wait"), bytesOf("concurrent")),
          { startImmediately: true }
        )
        assert.equal((yield* connection.call(make, new Uint8Array(2000 - 49))).length, 2000 - 49)
        for (const size of [2000 - 48, 3_000_000]) {
          const [large, next] = yield* Effect.all(
            [
              Effect.flip(connection.call(MethodKey.idempotent(make), new Uint8Array(size), { retry })),
              connection.call(echo, bytesOf("next"))
            ],
            { concurrency: 2 }
          )
          isTooLarge(
            large,
            false,
            endpoint.address,
            `${endpoint.address} refused a call of test/Echo.make: the arguments are ${size} bytes, expected at most 1951`
          )
          assert.equal(textOf(next), "next")
        }
        assert.equal(executed, 1)
        yield* gate.open
        assert.equal(textOf(yield* Fiber.join(concurrent)), "concurrent")
        assert.equal((yield* connection.state).endpoints[0]!.lastFailure, undefined)
      }).pipe(Effect.scoped))
  })
})

describe("balancer", () => {
  it.effect("of a layer's options comes before the ambient factory's", () =>
    Effect.gen(function*() {
      const asked: Array<string> = []
      const noting = (name: string) =>
        Balancer.make(([first]) => {
          asked.push(name)
          return Effect.succeed(first!)
        })
      const { endpoint } = yield* memory.serve(handlers)
      const call = Connection.Connection.use((connection) => connection.call(echo, nothing))
      const ambient = Layer.merge(Resolver.layer(Resolver.constant(endpoint)), Balancer.layer(noting("ambient")))
      yield* call.pipe(Effect.provide(Connection.layer().pipe(Layer.provide(ambient))))
      yield* call.pipe(Effect.provide(Connection.layer({ balancer: noting("own") }).pipe(Layer.provide(ambient))))
      assert.deepEqual(asked, ["ambient", "own"])
    }).pipe(Effect.scoped))
})

describe("the options of a call", () => {
  const invalid: ReadonlyArray<readonly [Connection.CallOptions, RegExp]> = [
    [{ timeout: "soon" as never }, /^option timeout: expected a duration, got soon$/],
    [{ timeout: NaN }, /^option timeout: expected a duration, got NaN$/],
    [{ retry: 3 as never }, /^option retry: expected a Schedule, got 3$/]
  ]
  for (const [options, expected] of invalid) {
    it.effect(`are a defect that names what is wrong: ${expected.source}`, () =>
      Effect.gen(function*() {
        const { endpoint } = yield* memory.serve(handlers)
        const connection = yield* connect([endpoint])
        const exit = yield* Effect.exit(connection.call(echo, nothing, options))
        assert.ok(Exit.isFailure(exit) && Cause.hasDies(exit.cause))
        const defect = Cause.squash(exit.cause)
        assert.ok(defect instanceof RangeError)
        assert.match(defect.message, expected)
      }).pipe(Effect.scoped))
  }
})
