/**
 * Errors that throw when they are looked at, from other parts of a user's code: endpoints, balancers, resolvers,
 * listeners, sockets and schemas.
 */
import { describe, it } from "@effect/vitest"
import { Deferred, Effect, Exit, Fiber, Layer, References, Schedule, Schema, SchemaGetter, Stream } from "effect"
import {
  Balancer,
  CallError,
  Component,
  Connection,
  type Endpoint,
  HandlerMap,
  type Listener,
  Resolver,
  Server
} from "effect-call"
import { Rpc, RpcGroup } from "effect/rpc"
import { TestClock } from "effect/testing"
import * as assert from "node:assert/strict"
import * as DuplexPair from "../../src/internal/testing/duplexPair.ts"
import { formats, open } from "../Component/support.ts"
import { hostileErrors } from "../support/hostileErrors.ts"
import { makeLog } from "../support/log.ts"
import { callsOf, metered } from "../support/metrics.ts"
import { connect, echo, handlers, hang, memory, tcp } from "../support/networks.ts"

const args = new Uint8Array([1, 2, 3])

const all = Object.entries(hostileErrors)

/** Whatever its type says, JavaScript may fail with anything. */
const failsWith = (error: unknown) => Effect.fail(error) as Effect.Effect<never, never>

describe("a call is Unreachable, with a reason,", () => {
  const endpointOf = (dial: Effect.Effect<never, never>): Endpoint.Endpoint => ({ address: "test://a", dial })

  for (const [what, make] of all) {
    it.live(
      `where a dial fails or dies with ${what}`,
      metered((metrics) =>
        Effect.gen(function*() {
          const dials = [failsWith(make()), Effect.die(make()), Effect.andThen(Effect.yieldNow, failsWith(make()))]
          for (const dial of dials) {
            const connection = yield* connect([endpointOf(dial)])
            const error = yield* Effect.flip(connection.call(echo, args))
            assert.ok(error._tag === "Unreachable")
            const [attempt, ...others] = error.attempts
            assert.ok(attempt!.message.length > 0 && attempt!.message.length < 70_000)
            assert.deepEqual(others, [])
          }
          assert.deepEqual(callsOf(metrics, "client"), [`${dials.length} echo: Unreachable`])
        }).pipe(Effect.provide(makeLog().layer))
      )
    )

    it.live(`where a balancer fails with ${what}, also where it may be made again`, () =>
      Effect.gen(function*() {
        const { endpoint } = yield* memory.serve(handlers)
        const balancer = yield* Balancer.make(() => failsWith(make()))
        const connection = yield* connect([endpoint])
        for (const retry of [undefined, Schedule.recurs(2)]) {
          const error = yield* Effect.flip(
            connection.call(echo, args, { balancer, ...(retry === undefined ? {} : { retry }) })
          )
          assert.ok(error._tag === "Unreachable")
          assert.match(error.message, /^the balancer failed: ./)
        }
        assert.deepEqual(yield* connection.call(echo, args), args)
      }))
  }
})

describe("a schedule of retries", () => {
  for (const [what, make] of all) {
    it.live(`whose predicate throws ${what} ends the call with that, and nothing else`, () =>
      Effect.gen(function*() {
        const { endpoint } = yield* memory.serve(handlers)
        const balancer = yield* Balancer.make(() =>
          Effect.fail(new CallError.Unreachable({ message: "no", attempts: [] }))
        )
        const connection = yield* connect([endpoint])
        let made: unknown
        const retry = Schedule.while(Schedule.forever, (): boolean => {
          throw made = make()
        })
        const exit = yield* Effect.exit(connection.call(echo, args, { balancer, retry }))
        assert.ok(Exit.isFailure(exit))
        const [reason] = exit.cause.reasons
        assert.ok(reason?._tag === "Die" && Object.is(reason.defect, made))
        assert.deepEqual(yield* connection.call(echo, args), args)
      }))
  }
})

describe("a connection is over, at both ends,", () => {
  for (const [what, make] of all) {
    for (const end of ["client", "server"] as const) {
      it.live(`where the socket of its ${end} breaks with ${what}`, () =>
        Effect.gen(function*() {
          const pair = DuplexPair.make()
          const running = yield* Deferred.make<void>()
          const served = HandlerMap.set(handlers, hang.component, hang.method, () =>
            Effect.andThen(Deferred.succeed(running, undefined), Effect.never))
          const serving = yield* Effect.forkChild(Server.serveOn(pair.server, served), { startImmediately: true })
          const connection = yield* connect([{ address: "test://pair", dial: Effect.succeed(pair.client) }])
          const call = yield* Effect.forkChild(Effect.flip(connection.call(hang, args)), { startImmediately: true })
          yield* Deferred.await(running)
          pair[end].emit("error", make())
          const error = yield* Fiber.join(call)
          assert.ok(error._tag === "CommunicationError" && error.reason._tag === "Lost")
          assert.match(error.message, /^the connection was lost: test:\/\/pair./)
          yield* Fiber.join(serving)
        }).pipe(Effect.provide(makeLog().layer), Effect.provideService(References.MinimumLogLevel, "Debug")))
    }
  }
})

describe("a Connection goes on with its resolver", () => {
  it.effect("after it has failed with any of them, which is logged", () => {
    const log = makeLog()
    return Effect.gen(function*() {
      const { endpoint } = yield* memory.serve(handlers)
      const answer = (version: string) => Effect.succeed({ endpoints: [endpoint], version: Resolver.version(version) })
      // Only the first failure in a row is logged.
      const answers = all.flatMap(([what, make], index) => [
        index % 2 === 0 ? failsWith(make()) : Effect.die(make()),
        answer(what)
      ])
      const connection = yield* Connection.make({
        isConstant: false,
        resolve: (version) => version === undefined ? answer("first") : answers.shift() ?? Effect.never
      })
      while (answers.length > 0) yield* TestClock.adjust("1 second")
      assert.deepEqual(yield* connection.call(echo, args), args)
      const lines = log.lines.filter(({ message }) => message.startsWith("the resolver failed"))
      assert.equal(lines.length, all.length)
      for (const { cause } of lines) assert.notEqual(cause, "")
    }).pipe(Effect.provide(log.layer))
  })

  for (const [what, make] of all) {
    it.effect(`whose stream has failed with ${what}, as a ResolverError`, () =>
      Effect.gen(function*() {
        for (const stream of [Stream.fail(make()), Stream.die(make())]) {
          const error = yield* Effect.flip((yield* Resolver.fromStream(stream)).resolve())
          assert.equal(error._tag, "ResolverError")
          assert.match(error.message, /^the stream of endpoints has failed: ./)
        }
      }))
  }
})

describe("a server goes on", () => {
  it.live("where the function that gives its handlers has thrown any of them, which is logged", () => {
    const log = makeLog()
    return Effect.gen(function*() {
      // Each connection is dialed twice: its server might be one that goes away.
      const errors = all.flatMap(([, make]) => [make(), make()])
      const { endpoint } = yield* tcp.serve(() => {
        if (errors.length === 0) return handlers
        throw errors.pop()
      })
      for (const [what] of all) {
        const connection = yield* connect([endpoint])
        assert.ok(Exit.isFailure(yield* Effect.exit(connection.call(echo, args))), what)
      }
      const connection = yield* connect([endpoint])
      assert.deepEqual(yield* connection.call(echo, args), args)
      const lines = log.lines.filter(({ message }) => message.startsWith("No handlers for a connection"))
      assert.equal(lines.length, 2 * all.length)
      for (const { cause } of lines) assert.notEqual(cause, "")
    }).pipe(Effect.provide(log.layer))
  })

  it.live("until its listener breaks, with any of them, which is logged", () => {
    const log = makeLog()
    return Effect.gen(function*() {
      for (const [, make] of all) {
        const listener: Listener.Listener<never> = {
          address: "test://a",
          accept: failsWith(make()),
          close: Effect.void
        }
        yield* Effect.scoped(
          Effect.andThen(Layer.build(Server.layer(Effect.succeed(listener))), log.until(log.lines.length + 1))
        )
      }
      assert.deepEqual(
        log.lines.map(({ message }) => message),
        all.map(() => "the server has stopped: its listener broke")
      )
      for (const { cause } of log.lines) assert.notEqual(cause, "")
    }).pipe(Effect.provide(log.layer))
  })
})

describe("a schema", () => {
  let make: () => unknown = () => new Error("not yet")
  const end = (): Effect.Effect<never> => Effect.suspend(() => Effect.die(make()))
  const thrown = (): string => {
    throw make()
  }
  const same = SchemaGetter.transform((text: string) => text)
  const ending = SchemaGetter.transformEffect(end)
  const throwing = SchemaGetter.transform(thrown)
  const transformed = (decode: typeof same | typeof ending, encode: typeof same | typeof ending) =>
    Schema.String.pipe(Schema.decodeTo(Schema.String, { decode, encode }))
  const group = RpcGroup.make(
    Rpc.make("DecodeArguments", { payload: transformed(ending, same) }),
    Rpc.make("DecodeResult", { success: transformed(ending, same) }),
    Rpc.make("EncodeResult", { success: transformed(same, ending) }),
    Rpc.make("ThrowAtArguments", { payload: transformed(throwing, same) }),
    Rpc.make("ThrowAtResult", { success: transformed(throwing, same) }),
    Rpc.make("Echo", { payload: Schema.String, success: Schema.String })
  )
  const Transforming = Component.make("test/Transforming", group)
  const layer = group.toLayer({
    DecodeArguments: () => Effect.void,
    DecodeResult: () => Effect.succeed("it"),
    EncodeResult: () => Effect.succeed("it"),
    ThrowAtArguments: () => Effect.void,
    ThrowAtResult: () => Effect.succeed("it"),
    Echo: (text) => Effect.succeed(text)
  })

  for (const format of formats) {
    for (const [what, makeError] of all) {
      it.live(`whose transformation dies with ${what} ends the call and nothing else, in ${format}`, () =>
        Effect.gen(function*() {
          let made: unknown
          make = () => made = makeError()
          const { client } = yield* open(Transforming, layer, { format, network: tcp })
          // Of a server's defect a caller is only told that it was one.
          for (const call of [client.DecodeArguments("it"), client.ThrowAtArguments("it"), client.EncodeResult()]) {
            const error = yield* Effect.flip(call)
            assert.deepEqual([error._tag, error.message], ["RemoteError", "internal error: the handler died"])
          }
          // The caller's own ends the call as it is.
          for (const call of [client.DecodeResult(), client.ThrowAtResult()]) {
            const exit = yield* Effect.exit(call)
            assert.ok(Exit.isFailure(exit))
            const [reason, ...others] = exit.cause.reasons
            assert.ok(reason?._tag === "Die" && Object.is(reason.defect, made))
            assert.deepEqual(others, [])
          }
          assert.equal(yield* client.Echo("it"), "it")
        }).pipe(Effect.provide(makeLog().layer)))
    }
  }
})
