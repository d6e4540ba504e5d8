/**
 * Handlers of bytes that are not what their types say: how each misbehaves → how the call ends. After each row another
 * call goes well, on the same connection and of a server that runs one at a time, so that no place of it is lost.
 */
import { describe, it } from "@effect/vitest"
import { Cause, Deferred, Effect, Exit, Fiber } from "effect"
import { type Connection, HandlerMap, MethodKey } from "effect-call"
import { TestClock } from "effect/testing"
import * as assert from "node:assert/strict"
import { runInNewContext } from "node:vm"
import { component, connect, handlers, tcp } from "../support/networks.ts"
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

/**
 * Makes three calls at once, of which two wait for the first, and checks how each ends; then another, of another
 * handler.
 */
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
