/**
 * Handlers and middleware of components that are not what their types say: the place × how it misbehaves → how the call
 * ends. After each row another call goes well, on the same connection and of a server that runs one at a time, so that
 * no place of it is lost.
 */
import { describe, it } from "@effect/vitest"
import { Deferred, Effect, Layer, Schema } from "effect"
import { Component, Connection, HandlerMap } from "effect-call"
import { Rpc, RpcGroup, RpcMiddleware } from "effect/rpc"
import * as assert from "node:assert/strict"
import { connect, handlers, tcp } from "../support/networks.ts"
import { areOf, boom, errorsIn, hostile, inLog, isDeath, rejected, works, wrong } from "./usersCode.ts"

class Fails extends Schema.TaggedError<Fails>()("Fails", { why: Schema.String }) {}
class Middle extends RpcMiddleware.Service<Middle>()("Middle", { error: Fails }) {}

const Typed = Component.make(
  "test/Typed",
  RpcGroup.make(
    Rpc.make("Bad", { success: Schema.Struct({ n: Schema.Int }), error: Fails }),
    Rpc.make("Middled", { success: Schema.Struct({ n: Schema.Int }), error: Fails }).middleware(Middle),
    Rpc.make("Good", { success: Schema.String })
  )
)

/** How a typed call ends: so that its handler has died, which the log tells, or with a value or a failure. */
interface TypedRow {
  readonly handler?: () => unknown
  readonly middleware?: (effect: Effect.Effect<unknown>) => unknown
  readonly end: RegExp | { readonly n: number } | Fails
}

const one = Effect.succeed({ n: 1 })
const notEncoded = /cannot be encoded/
const typedHandler = /the handler of test\/Typed\.Bad: expected an Effect, got/
const middlewareGives = /a middleware of test\/Typed\.Middled: expected an Effect, got/

const typedRows: Readonly<Record<string, TypedRow>> = {
  "a handler that throws at once": { handler: boom, end: /boom/ },
  "a handler that throws later": { handler: () => Effect.andThen(Effect.yieldNow, Effect.sync(boom)), end: /boom/ },
  "a handler that gives undefined": { handler: () => undefined, end: typedHandler },
  "a handler that gives a plain object": { handler: () => ({ n: 1 }), end: typedHandler },
  "a handler that is async, and throws": { handler: rejected, end: typedHandler },
  "a handler that gives what is hostile": { handler: () => hostile, end: /boom|expected an Effect/ },
  "a handler that gives a null-prototype object": { handler: () => Object.create(null), end: typedHandler },
  "a handler that goes on with no effect": {
    handler: () => Effect.flatMap(Effect.yieldNow, () => wrong(undefined)),
    end: /valid effect/
  },
  "a result that is undefined": { handler: () => Effect.void, end: notEncoded },
  "a result of the wrong type": { handler: () => Effect.succeed({ n: "one" }), end: notEncoded },
  "a result that is a rejected promise": { handler: () => Effect.sync(rejected), end: notEncoded },
  "a result that is hostile": { handler: () => Effect.succeed(hostile), end: /boom|cannot be encoded/ },
  "a failure of the wrong type": { handler: () => Effect.fail("text"), end: notEncoded },
  "a failure of the right type": {
    handler: () => Effect.fail(new Fails({ why: "so" })),
    end: new Fails({ why: "so" })
  },
  "a failure that is hostile": { handler: () => Effect.fail(hostile), end: /boom|cannot be encoded/ },
  "a Deferred that is completed twice": {
    handler: () =>
      Effect.gen(function*() {
        const deferred = yield* Deferred.make<{ readonly n: number }>()
        yield* Deferred.succeed(deferred, { n: 1 })
        yield* Deferred.succeed(deferred, { n: 2 })
        return deferred
      }),
    end: { n: 1 }
  },
  "a Deferred of the wrong type": {
    handler: () => Effect.tap(Deferred.make<unknown>(), (deferred) => Deferred.succeed(deferred, "text")),
    end: notEncoded
  },
  "a Deferred that dies": {
    handler: () => Effect.tap(Deferred.make(), (deferred) => Deferred.die(deferred, new Error("boom"))),
    end: /boom/
  },
  "Rpc.fork around no effect": { handler: () => Rpc.fork(wrong<Effect.Effect<never>>({})), end: typedHandler },
  "Rpc.fork around a rejected promise": { handler: () => Rpc.fork(wrong(rejected())), end: typedHandler },
  "Rpc.uninterruptible around no effect": {
    handler: () => Rpc.uninterruptible(wrong<Effect.Effect<never>>({})),
    end: typedHandler
  },
  "Rpc.fork around an effect that dies": { handler: () => Rpc.fork(Effect.die(new Error("boom"))), end: /boom/ },
  "Rpc.uninterruptible around an effect that dies": {
    handler: () => Rpc.uninterruptible(Effect.die(new Error("boom"))),
    end: /boom/
  },
  "a finalizer that throws": { handler: () => Effect.andThen(Effect.addFinalizer(boom), one), end: /boom/ },
  "a middleware that throws at once": { middleware: boom, end: /boom/ },
  "a middleware that gives undefined": { middleware: () => undefined, end: middlewareGives },
  "a middleware that is async, and throws": { middleware: rejected, end: middlewareGives },
  "a middleware that gives what is hostile": { middleware: () => hostile, end: /boom|expected an Effect/ },
  "a middleware that never calls its handler": { middleware: () => Effect.succeed("text"), end: notEncoded },
  "a middleware that calls its handler twice": {
    middleware: (effect) => Effect.andThen(effect, effect),
    end: { n: 1 }
  },
  "a middleware that dies later": {
    middleware: (effect) => Effect.andThen(effect, Effect.sync(boom)),
    end: /boom/
  },
  "a middleware of the wrong type": { middleware: (effect) => Effect.as(effect, { n: "one" }), end: notEncoded },
  "a middleware that fails with what is no failure of the method": {
    middleware: (effect) => Effect.andThen(effect, Effect.fail("text")),
    end: notEncoded
  },
  "a middleware that fails": {
    middleware: () => Effect.fail(new Fails({ why: "so" })),
    end: new Fails({ why: "so" })
  }
}

/** A server of {@link Typed}, and a client of it. */
const typed = Effect.fnUntraced(function*(row: TypedRow, maxConcurrentCalls = 1, disableTracing = false) {
  const layer = Typed.group.toLayer({
    Bad: wrong<() => typeof one>(row.handler ?? (() => one)),
    Middled: () => one,
    Good: () => Effect.succeed("good")
  })
  const middleware = Layer.succeed(Middle, wrong(row.middleware ?? ((effect: unknown) => effect)))
  const served = yield* Component.handlers(Typed, layer, { disableTracing }).pipe(Effect.provide(middleware))
  const { endpoint } = yield* tcp.serve(HandlerMap.merge(handlers, served), { maxConcurrentCalls })
  const connection = yield* connect([endpoint])
  const client = yield* Effect.provideService(
    Component.client(Typed, { disableTracing }),
    Connection.Connection,
    connection
  )
  return { client, connection }
})

describe("of a component,", () => {
  for (const [name, row] of Object.entries(typedRows)) {
    for (const disableTracing of [false, true]) {
      it.live(`${name}${disableTracing ? ", without tracing" : ""}`, () =>
        inLog((log) =>
          Effect.gen(function*() {
            const { client, connection } = yield* typed(row, 1, disableTracing)
            const call = row.middleware === undefined ? client.Bad() : client.Middled()
            const ends = yield* Effect.all([call, call, call].map(Effect.result), { concurrency: "unbounded" })
            for (const end of ends) {
              if (row.end instanceof RegExp) {
                assert.ok(end._tag === "Failure")
                isDeath(end.failure)
              } else {
                assert.deepEqual(end._tag === "Success" ? end.success : end.failure, row.end)
              }
            }
            assert.equal(yield* client.Good(), "good")
            yield* works(connection)
            if (row.end instanceof RegExp) areOf(errorsIn(log.lines), row.end)
            else assert.deepEqual(errorsIn(log.lines), [])
          })
        ))
    }
  }

  for (
    const [name, row] of Object.entries<TypedRow>({
      "a Deferred that is never completed": { handler: () => Deferred.make(), end: { n: 0 } },
      "a handler that never ends": { handler: () => Effect.never, end: { n: 0 } },
      "a middleware that never ends": { middleware: () => Effect.never, end: { n: 0 } },
      "a middleware that never ends after its handler": {
        middleware: (effect) => Effect.andThen(effect, Effect.never),
        end: { n: 0 }
      }
    })
  ) {
    it.live(`${name}: its caller's deadline ends the call, and gives its place back`, () =>
      inLog(() =>
        Effect.gen(function*() {
          const { client, connection } = yield* typed(row)
          const call = row.middleware === undefined ? client.Bad() : client.Middled()
          const error = yield* Effect.flip(Connection.withOptions(call, { timeout: "50 millis" }))
          assert.equal(error._tag, "DeadlineExceeded")
          yield* works(connection)
        })
      ))
  }

  for (
    const [name, handler] of Object.entries<() => unknown>({
      "throws at once": boom,
      "gives undefined": () => undefined,
      "is async, and throws": rejected,
      "dies later": () => Effect.andThen(Effect.yieldNow, Effect.sync(boom))
    })
  ) {
    it.live(`a handler of a discarded call that ${name}`, () =>
      inLog((log) =>
        Effect.gen(function*() {
          const { client, connection } = yield* typed({ handler, end: /./ })
          // It is answered when it has started, if it has.
          yield* Effect.exit(client.Bad(undefined, { discard: true }))
          yield* works(connection)
          areOf(errorsIn(log.lines), /boom|expected an Effect/)
        })
      ))
  }
})
