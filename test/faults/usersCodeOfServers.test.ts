/**
 * Handlers, middleware and options that are not what their types say: the place × how it misbehaves → how the call ends. After each row
 * another call goes well, on the same connection and of a server that runs one at a time, so that no place of it is lost.
 */
import { describe, it } from "@effect/vitest"
import { Cause, Deferred, Effect, Exit, Fiber, Layer, Schema, type Scope, Stream } from "effect"
import { Component, Connection, HandlerMap, Health, Listener, MethodKey, Server } from "effect-call"
import { CallTest, TestNetwork } from "effect-call/testing"
import { Rpc, RpcGroup, RpcMiddleware } from "effect/rpc"
import { TestClock } from "effect/testing"
import * as assert from "node:assert/strict"
import { Duplex } from "node:stream"
import { runInNewContext } from "node:vm"
import { component, connect, echo, handlers, tcp } from "../support/networks.ts"
import { areOf, boom, errorsIn, hostile, inLog, isDeath, rejected, throwing, works, wrong } from "./usersCode.ts"

const bad = MethodKey.make(component, "bad")

/** How a call is to end: with these bytes, or so that its handler has died and the log says why. */
type End = Uint8Array | RegExp

interface Row {
  readonly handler: () => unknown
  readonly end: End
}

const finalizer = (run: () => Effect.Effect<void>): Row["handler"] => () =>
  Effect.as(Effect.addFinalizer(run), new Uint8Array([1]))

class Evil extends Uint8Array {
  override get length(): number {
    return boom()
  }
}
class Sub extends Uint8Array {}

const detached = (size: number) => {
  const bytes = new Uint8Array(size)
  const { port1, port2 } = new MessageChannel()
  port1.postMessage(bytes.buffer, [bytes.buffer])
  port1.close()
  port2.close()
  return bytes
}
const resizable = (size: number) =>
  new Uint8Array(Reflect.construct(ArrayBuffer, [size, { maxByteLength: 2 * size }]) as ArrayBuffer).fill(7)
const sharedBytes = (size: number) => new Uint8Array(new SharedArrayBuffer(size)).fill(7)
const sevens = (size: number) => new Uint8Array(size).fill(7)

/** More than is copied: it is sent from where it is. */
const large = 40_000

const noEffect = /the handler of test\/Echo\.bad: expected an Effect, got/
const noBytes = /the result of test\/Echo\.bad: expected a Uint8Array/

const rows: Readonly<Record<string, Row>> = {
  "throws at once": { handler: boom, end: /boom/ },
  "throws what is hostile": {
    handler: throwing(hostile),
    end: /an error whose message could not be read/
  },
  "throws later": { handler: () => Effect.andThen(Effect.yieldNow, Effect.sync(boom)), end: /boom/ },
  "throws in a callback": { handler: () => Effect.callback(boom), end: /boom/ },
  "gives undefined": { handler: () => undefined, end: /an Effect, got undefined/ },
  "gives null": { handler: () => null, end: noEffect },
  "gives a text": { handler: () => "bytes", end: /an Effect, got "bytes"/ },
  "gives bytes": { handler: () => sevens(3), end: /an Effect, got a Uint8Array of 3 bytes/ },
  "gives a plain object": { handler: () => ({ _tag: "Success", value: 1 }), end: noEffect },
  "gives a promise": { handler: () => Promise.resolve(sevens(1)), end: noEffect },
  "is async, and throws": { handler: rejected, end: noEffect },
  "gives what is hostile": { handler: () => hostile, end: noEffect },
  "gives a null-prototype object": { handler: () => Object.create(null), end: noEffect },
  "goes on with no effect": {
    handler: () => Effect.flatMap(Effect.yieldNow, () => wrong(undefined)),
    end: /valid effect/
  },
  "goes on at once with what cannot be shown": {
    handler: () => Effect.flatMap(Effect.void, () => Object.create(null)),
    end: /primitive/
  },
  "gives an Effect of undefined": { handler: () => Effect.succeed(undefined), end: noBytes },
  "gives an Effect of undefined, later": { handler: () => Effect.as(Effect.yieldNow, undefined), end: noBytes },
  "gives an Effect of a text": { handler: () => Effect.succeed("bytes"), end: noBytes },
  "gives an Effect of an array": { handler: () => Effect.succeed([1, 2]), end: noBytes },
  "gives an Effect of a rejected promise": { handler: () => Effect.sync(rejected), end: noBytes },
  "gives an Effect of what is hostile": { handler: () => Effect.succeed(hostile), end: noBytes },
  "gives an ArrayBuffer": { handler: () => Effect.succeed(new ArrayBuffer(3)), end: noBytes },
  "gives a Float64Array": { handler: () => Effect.succeed(new Float64Array(3)), end: /got a Float64Array of 24 bytes/ },
  "gives a DataView": { handler: () => Effect.succeed(new DataView(new ArrayBuffer(3))), end: noBytes },
  "gives a Buffer": { handler: () => Effect.succeed(Buffer.from([7, 7])), end: sevens(2) },
  "gives a Uint8Array of another realm": {
    handler: () => Effect.succeed(runInNewContext("new Uint8Array([7, 7])")),
    end: sevens(2)
  },
  "gives a subclass": { handler: () => Effect.succeed(new Sub([7, 7])), end: sevens(2) },
  "gives a subclass whose getters throw": { handler: () => Effect.sync(() => new Evil(2)), end: noBytes },
  "gives a subclass whose getters throw, later": {
    handler: () => Effect.as(Effect.yieldNow, new Evil(2)),
    end: noBytes
  },
  "gives a proxy of bytes": { handler: () => Effect.succeed(new Proxy(sevens(2), {})), end: noBytes },
  "gives bytes that are detached": { handler: () => Effect.sync(() => detached(10)), end: noBytes },
  "gives many bytes that are detached": { handler: () => Effect.sync(() => detached(large)), end: noBytes },
  "gives resizable bytes": { handler: () => Effect.sync(() => resizable(10)), end: sevens(10) },
  "gives many resizable bytes": { handler: () => Effect.sync(() => resizable(large)), end: sevens(large) },
  "gives shared bytes": { handler: () => Effect.sync(() => sharedBytes(10)), end: sevens(10) },
  "gives many shared bytes": { handler: () => Effect.sync(() => sharedBytes(large)), end: sevens(large) },
  "has a finalizer that throws": { handler: finalizer(boom), end: /boom/ },
  "has a finalizer that dies": { handler: finalizer(() => Effect.die(new Error("boom"))), end: /boom/ },
  "has a finalizer that dies later": {
    handler: finalizer(() => Effect.andThen(Effect.yieldNow, Effect.sync(boom))),
    end: /boom/
  },
  "has a finalizer that gives a text": { handler: finalizer(() => wrong("text")), end: /valid effect/ },
  "has a finalizer that gives what cannot be shown": {
    handler: finalizer(() => Object.create(null)),
    end: /primitive/
  },
  "dies, and its finalizer, too": {
    handler: () => Effect.andThen(Effect.addFinalizer(boom), Effect.die(new Error("boom"))),
    end: /boom/
  }
}

/** Makes three calls at once, of which two wait for the first, and checks how each ends; then another, of another handler. */
const endsSo = Effect.fnUntraced(
  function*(connection: Connection.Connection, row: Row, lines: Parameters<typeof errorsIn>[0]) {
    const calls = Array.from({ length: 3 }, () => Effect.result(connection.call(bad, new Uint8Array())))
    const ends = yield* Effect.all(calls, { concurrency: "unbounded" })
    for (const end of ends) {
      if (row.end instanceof Uint8Array) {
        assert.ok(end._tag === "Success", String(end))
        assert.deepEqual(new Uint8Array(end.success), row.end)
      } else {
        assert.ok(end._tag === "Failure", "expected that it failed")
        isDeath(end.failure)
      }
    }
    yield* works(connection)
    const errors = errorsIn(lines)
    if (row.end instanceof RegExp) {
      areOf(errors, row.end)
      assert.ok(errors.length >= 3, errors.join("\n"))
    } else {
      assert.deepEqual(errors, [])
    }
  }
)

describe("a handler of bytes that", () => {
  for (const [name, row] of Object.entries(rows)) {
    for (const traced of [false, true]) {
      it.live(`${name}${traced ? ", in a span" : ""}`, () =>
        inLog((log) =>
          Effect.gen(function*() {
            const served = HandlerMap.set(handlers, component, "bad", wrong<HandlerMap.Handler>(row.handler))
            const { endpoint } = yield* tcp.serve(served, { maxConcurrentCalls: 1 })
            const connection = yield* connect([endpoint])
            const ending = endsSo(connection, row, log.lines)
            yield* traced ? Effect.withSpan(ending, "caller") : ending
          })
        ))
    }
  }

  const throwingAt = <A extends object>(value: A, name: string): A => Object.defineProperty(value, name, { get: boom })
  const exits: Readonly<Record<string, () => unknown>> = {
    "an Exit whose value": () => throwingAt(Exit.succeed(sevens(1)), "value"),
    "an Exit whose tag": () => throwingAt(Exit.succeed(sevens(1)), "_tag"),
    "a failed Exit whose tag": () => throwingAt(Exit.fail("no"), "_tag"),
    "a failed Exit whose cause": () => throwingAt(Exit.fail("no"), "cause"),
    "a failure whose cause": () => Effect.failCause(new Proxy(Cause.fail("no"), { get: boom })),
    "a failure whose reason": () =>
      Effect.failCause(Cause.fromReasons([throwingAt(Cause.makeFailReason("no"), "error")]))
  }
  for (const [name, make] of Object.entries(exits)) {
    it.live(`gives ${name} throws, at once or later, harms no other call`, () =>
      inLog((log) =>
        Effect.gen(function*() {
          const waits = yield* Deferred.make<void>()
          const served = handlers.pipe(
            HandlerMap.set(component, "bad", () => wrong<Effect.Effect<Uint8Array>>(make())),
            HandlerMap.set(component, "later", () =>
              Effect.flatMap(Effect.yieldNow, () => wrong<Effect.Effect<Uint8Array>>(make()))),
            HandlerMap.set(component, "wait", (args) =>
              Effect.as(Deferred.await(waits), args))
          )
          const { endpoint } = yield* tcp.serve(served)
          const connection = yield* connect([endpoint])
          const other = yield* Effect.forkChild(
            connection.call(MethodKey.make(component, "wait"), sevens(2)),
            { startImmediately: true }
          )
          isDeath(yield* Effect.flip(connection.call(bad, new Uint8Array())))
          isDeath(yield* Effect.flip(connection.call(MethodKey.make(component, "later"), new Uint8Array())))
          yield* Deferred.succeed(waits, undefined)
          assert.deepEqual(new Uint8Array(yield* Fiber.join(other)), sevens(2))
          areOf(errorsIn(log.lines), /boom/)
        })
      ))
  }

  const never: Readonly<Record<string, (release: Deferred.Deferred<void>) => unknown>> = {
    "never ends": () => Effect.never,
    "never ends, and dies when it is interrupted": () =>
      Effect.onInterrupt(Effect.never, () => Effect.die(new Error("boom"))),
    "never ends, and gives no effect when it is interrupted": () =>
      Effect.onInterrupt(Effect.never, () => wrong(undefined)),
    "never ends, and cannot be interrupted": (release) => Effect.uninterruptible(Deferred.await(release)),
    "has a finalizer that never ends": (release) =>
      Effect.andThen(Effect.addFinalizer(() => Deferred.await(release)), Effect.never)
  }

  for (const [name, handler] of Object.entries(never)) {
    for (const how of ["deadline", "cancel"] as const) {
      // The clock stands still until the handler runs, however long it takes to get there.
      it.effect(`${name}: its caller ends by its ${how}, and others are served`, () =>
        inLog(() =>
          Effect.gen(function*() {
            const release = yield* Deferred.make<void>()
            const started = yield* Deferred.make<void>()
            const begin = () =>
              Effect.andThen(Deferred.succeed(started, undefined), wrong<Effect.Effect<Uint8Array>>(handler(release)))
            const served = HandlerMap.set(handlers, component, "bad", begin)
            const { endpoint } = yield* tcp.serve(served, { maxConcurrentCalls: 2 })
            const connection = yield* connect([endpoint])
            // First: on a busy machine a dial may take longer than the call has.
            yield* works(connection)
            const call = connection.call(bad, new Uint8Array(), how === "deadline" ? { timeout: "50 millis" } : {})
            const calling = yield* Effect.forkChild(Effect.flip(call))
            yield* Deferred.await(started)
            if (how === "deadline") {
              yield* TestClock.adjust("50 millis")
              assert.equal((yield* Fiber.join(calling))._tag, "DeadlineExceeded")
            } else yield* Fiber.interrupt(calling)
            yield* works(connection)
            yield* Deferred.succeed(release, undefined)
            // Both places are free again.
            const hang = Effect.forkChild(
              Effect.exit(connection.call(MethodKey.make(component, "hang"), new Uint8Array()))
            )
            yield* hang
            yield* works(connection)
          })
        ))
    }
  }
})

describe("a handler of bytes that gives many of them and takes them away", () => {
  for (const size of [large, 5_000_000]) {
    it.live(`before they are sent, ${size}: it costs its connection, and the log says why`, () =>
      inLog((log) =>
        Effect.gen(function*() {
          // Past the turn in which it was read, at whose end what is there by then is written.
          const take = () =>
            Effect.map(Effect.yieldNow, () => {
              const bytes = new Uint8Array(size)
              // A large message leaves piece by piece.
              const soon = size > large ? setImmediate : queueMicrotask
              soon(() => void structuredClone(bytes.buffer, { transfer: [bytes.buffer] }))
              return bytes
            })
          const { endpoint } = yield* tcp.serve(HandlerMap.set(handlers, component, "bad", take))
          const connection = yield* connect([endpoint])
          const error = yield* Effect.flip(connection.call(bad, new Uint8Array()))
          assert.equal(error._tag, "CommunicationError")
          yield* works(connection)
          areOf(errorsIn(log.lines), /transferred before they were sent/)
        })
      ))
  }
})

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

describe("handlers that are a function of the peer, which", () => {
  const fine = handlers
  const functions: Readonly<Record<string, (peer: Listener.Peer) => unknown>> = {
    "throws": boom,
    "gives undefined": () => undefined,
    "gives a text": () => "handlers",
    "is async": () => Promise.resolve(fine),
    "is async, and throws": rejected,
    "gives an Effect": () => Effect.succeed(fine),
    "gives what is hostile": () => hostile,
    "gives an object with entries that are none": () => ({ entries: [1, 2] }),
    "gives entries that are undefined": () => ({ entries: new Map([["a", undefined]]) }),
    "gives entries without a handler": () => ({ entries: new Map([["a", { key: echo }]]) }),
    "gives entries without a key": () => ({ entries: new Map([["a", { handler: () => Effect.void }]]) })
  }
  for (const [name, handlersOf] of Object.entries(functions)) {
    it.live(`${name}: that connection is closed, and the next one is served`, () =>
      inLog((log) =>
        Effect.gen(function*() {
          let first = true
          const { endpoint } = yield* tcp.serve((peer) => {
            if (!first) return fine
            first = false
            return wrong<HandlerMap.HandlerMap<never>>(handlersOf(peer))
          })
          // The first connection is closed before its version message: a dial that is made once more.
          const connection = yield* connect([endpoint])
          yield* connection.call(echo, new Uint8Array())
          yield* works(connection)
          areOf(errorsIn(log.lines), /No handlers for a connection|an accepted connection cannot be served/)
        })
      ))
  }
})

/** What is thrown, or what an effect dies with. */
const defectOf = (evaluate: () => unknown): Effect.Effect<string> =>
  Effect.suspend(() => wrong<Effect.Effect<unknown, unknown>>(evaluate())).pipe(
    Effect.exit,
    Effect.map((exit) => Exit.isFailure(exit) ? String(Cause.squash(exit.cause)) : "nothing")
  )

describe("what is made of wrong inputs is refused, by name:", () => {
  const inputs: Readonly<Record<string, readonly [run: () => unknown, says: RegExp]>> = {
    "a handler that is undefined": [
      () => HandlerMap.set(HandlerMap.empty, "a", "b", wrong<HandlerMap.Handler>(undefined)),
      /the handler of a\.b: expected a function/
    ],
    "a handler that is an Effect": [
      () => HandlerMap.set(HandlerMap.empty, "a", "b", wrong<HandlerMap.Handler>(Effect.void)),
      /the handler of a\.b/
    ],
    "a component that is no text": [
      () => HandlerMap.set(HandlerMap.empty, wrong(Symbol("a")), "b", boom),
      /the component of a method: expected a text, got Symbol\(a\)/
    ],
    "a method that is no text": [
      () => HandlerMap.set(HandlerMap.empty, "a", wrong(undefined), boom),
      /the method of a: expected a text, got undefined/
    ],
    "what is merged": [
      () => HandlerMap.merge(handlers, wrong<HandlerMap.HandlerMap<never>>(undefined)),
      /what handlers are added to: expected a HandlerMap, got undefined/
    ],
    "a key of nothing": [() => MethodKey.make(wrong(undefined), "b"), /the component of a method/],
    "a status": [
      () => Health.make(wrong("serving")),
      /the status of a server: expected "Serving" or "NotServing", got "serving"/
    ],
    "a status that is set": [
      () => Effect.flatMap(Health.make(), (health) => health.set(wrong(true))),
      /the status of a server/
    ],
    "call options that are undefined": [
      () => Connection.withOptions(Effect.void, wrong(undefined)),
      /the options of calls: expected an object/
    ],
    "call options that are a text": [
      () => Connection.withOptions(Effect.void, wrong("1 second")),
      /the options of calls/
    ],
    "handlers of a TCP listener": [
      () => Effect.scoped(Listener.tcp("127.0.0.1:0", wrong<HandlerMap.HandlerMap<never>>(undefined))),
      /the handlers of a listener/
    ],
    "handlers of a Unix listener": [
      () => Effect.scoped(Listener.unix("@effect-call-none", wrong<HandlerMap.HandlerMap<never>>(rejected()))),
      /the handlers of a listener/
    ],
    "handlers of a test": [
      () => Effect.scoped(Layer.build(CallTest.layer(wrong<HandlerMap.HandlerMap<never>>(undefined)))),
      /the handlers of a listener/
    ],
    "handlers of serveOn": [
      () => Effect.suspend(() => Server.serveOn(new Duplex(), wrong<HandlerMap.HandlerMap<never>>(undefined))),
      /the handlers of a connection: expected a HandlerMap, got undefined/
    ],
    "a connection of serveOn": [
      () => Server.serveOn(wrong({ writable: true }), handlers),
      /the connection to serve: expected a Duplex/
    ],
    "the name of a test's endpoint": [
      () => Effect.scoped(Effect.map(TestNetwork.make, (network) => network.endpoint(wrong(7)))),
      /the name of a host: expected a text, got 7/
    ],
    "faults": [
      () => Effect.scoped(Effect.flatMap(TestNetwork.make, (network) => network.fault("a", wrong(null)))),
      /a fault is null/
    ],
    "faults that are hostile": [
      () => Effect.scoped(Effect.flatMap(TestNetwork.make, (network) => network.fault("a", wrong(hostile)))),
      /boom/
    ],
    "a cut": [
      () => Effect.scoped(Effect.flatMap(TestNetwork.make, (network) => network.fault("a", wrong({ cutAfter: 7 })))),
      /cutAfter is 7/
    ],
    "a delay": [
      () =>
        Effect.scoped(
          Effect.flatMap(TestNetwork.make, (network) => network.fault("a", wrong({ delay: hostile })))
        ),
      /delay is/
    ],
    "a black hole": [
      () =>
        Effect.scoped(
          Effect.flatMap(TestNetwork.make, (network) => network.fault("a", wrong({ blackHole: Symbol("x") })))
        ),
      /blackHole is Symbol/
    ]
  }
  for (const [name, [run, says]] of Object.entries(inputs)) {
    it.live(name, () => inLog(() => Effect.map(defectOf(run), (defect) => assert.match(defect, says))))
  }

  const options = [
    "inlineHandlerDuration",
    "writeFlattenLimit",
    "maxMessageSize",
    "maxUnsentBytes",
    "maxConcurrentCalls",
    "maxQueuedCalls",
    "maxConcurrentCallsPerConnection",
    "maxQueuedCallsPerConnection",
    "firstMessageTimeout",
    "messageTimeout",
    "idleTimeout",
    "metrics",
    "shutdownGrace"
  ]
  const values: ReadonlyArray<unknown> = [NaN, -1, "nonsense", hostile, Symbol("x"), boom]
  for (const option of options) {
    it.live(`the option ${option} of a server`, () =>
      inLog(() =>
        Effect.gen(function*() {
          for (const value of values) {
            const { listener } = yield* tcp.listen(handlers)
            const defect = yield* defectOf(() => Server.serve(listener, wrong({ [option]: value })))
            assert.match(defect, new RegExp(`option ${option}: expected`))
            const ofLayer = yield* defectOf(() =>
              Effect.scoped(Layer.build(Server.layer(Effect.succeed(listener), wrong({ [option]: value }))))
            )
            assert.match(ofLayer, new RegExp(`option ${option}: expected`))
            yield* listener.close
          }
        })
      ))
  }
})

describe("a Health of one's own, whose changes", () => {
  const changes: Readonly<Record<string, () => unknown>> = {
    "throw": boom,
    "are undefined": () => undefined,
    "are a rejected promise": rejected,
    "die": () => Stream.die(new Error("boom")),
    "end": () => Stream.empty,
    "never come": () => Stream.never,
    "are no statuses": () => Stream.make("nonsense")
  }
  for (const [name, give] of Object.entries(changes)) {
    it.live(`${name}: calls are served, however many ask`, () =>
      inLog(() =>
        Effect.gen(function*() {
          const health: Health.Health = {
            set: () => Effect.void,
            status: () => Effect.succeed("Serving"),
            changes: wrong(give)
          }
          const asked = yield* Effect.provideService(Health.handlers, Health.Health, health)
          // One of each connection does not count: where it did, there would be no place for a call.
          const { endpoint } = yield* tcp.serve(HandlerMap.merge(handlers, asked), { maxConcurrentCalls: 1 })
          const connection = yield* connect([endpoint], { health: "" })
          yield* works(connection)
          const watch = MethodKey.make("effect-call/Health", "watch")
          const ask = (known: number) =>
            Effect.exit(connection.call(watch, Uint8Array.of(known), { timeout: "20 millis" }))
          yield* ask(1)
          yield* ask(255)
          yield* works(connection)
        })
      ))
  }
})

describe("a server's layer whose listener", () => {
  const listeners: Readonly<Record<string, Effect.Effect<unknown, unknown, Scope.Scope>>> = {
    "throws": Effect.sync(boom),
    "fails": Effect.fail(new Listener.ListenerError({ message: "boom" })),
    "is undefined": Effect.void,
    "is a text": Effect.succeed("listener"),
    "is hostile": Effect.succeed(hostile)
  }
  for (const [name, listener] of Object.entries(listeners)) {
    it.live(`${name} cannot be built`, () =>
      inLog(() =>
        Effect.gen(function*() {
          const exit = yield* Effect.exit(
            Effect.scoped(Layer.build(Server.layer(wrong<Effect.Effect<Listener.Listener>>(listener))))
          )
          assert.ok(Exit.isFailure(exit))
        })
      ))
  }
})
