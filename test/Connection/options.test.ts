/**
 * What the options of both ends change: sizes, and where the balancer comes from.
 */
import { describe, it } from "@effect/vitest"
import { Cause, Effect, Exit, Fiber, Layer, Logger } from "effect"
import { Balancer, Connection, HandlerMap, MethodKey, Resolver } from "effect-call"
import * as assert from "node:assert/strict"
import { bytesOf, component, connect, echo, handlers, memory, tcp, textOf } from "../support/networks.ts"

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

  it.live("of a client: a larger result ends its connection with Protocol, and the next call has a new one", () =>
    Effect.gen(function*() {
      const { endpoint } = yield* tcp.serve(making)
      const connection = yield* connect([endpoint], { maxMessageSize })
      assert.equal((yield* connection.call(make, bytesOf("2000"))).length, 2000)
      const error = yield* Effect.flip(connection.call(make, bytesOf("2001")))
      assert.ok(error._tag === "CommunicationError", error.message)
      assert.equal(error.reason._tag, "Protocol")
      assert.equal(error.maybeExecuted, true)
      assert.match(error.message, /sent a message of 2001 bytes, which is over the limit of 2000$/)
      assert.equal(textOf(yield* connection.call(echo, bytesOf("next"))), "next")
    }).pipe(Effect.scoped))

  it.live("of a server: larger arguments cost the client its connection, and nobody sees them", () =>
    Effect.gen(function*() {
      let executed = 0
      const { endpoint } = yield* tcp.serve(
        HandlerMap.set(making, component, "make", (args) => {
          executed++
          return Effect.succeed(args)
        }),
        { maxMessageSize }
      )
      const connection = yield* connect([endpoint])
      assert.equal((yield* connection.call(make, new Uint8Array(2000 - 49))).length, 2000 - 49)
      const error = yield* Effect.flip(connection.call(make, new Uint8Array(2000 - 48)))
      assert.ok(error._tag === "CommunicationError", error.message)
      assert.equal(error.reason._tag, "Lost")
      assert.equal(executed, 1)
      assert.equal(textOf(yield* connection.call(echo, bytesOf("next"))), "next")
    }).pipe(Effect.scoped, Effect.provide(Logger.layer([]))))
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
