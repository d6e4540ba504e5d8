/**
 * The deadline travels with a call, and both sides end at it.
 */
import { describe, it } from "@effect/vitest"
import { Deferred, Duration, Effect, Exit, Fiber, Option } from "effect"
import { type Connection, Deadline, HandlerMap, MethodKey } from "effect-call"
import { TestNetwork } from "effect-call/testing"
import { TestClock } from "effect/testing"
import * as assert from "node:assert/strict"
import { bytesOf, component, connect, eachNetwork, echo, handlers, memory, textOf } from "../support/networks.ts"
import { message, messagesOf, rawServer, version } from "../support/raw.ts"

const method = (name: string) => MethodKey.make(component, name)
const nothing = new Uint8Array()

/** What the handler has left in milliseconds, as text. */
const remaining = Effect.map(
  Deadline.remaining,
  (left) => bytesOf(Option.match(left, { onNone: () => "none", onSome: (left) => String(Duration.toMillis(left)) }))
)
const telling = HandlerMap.set(handlers, component, "remaining", () => remaining)

const ask = (connection: Connection.Connection, options?: Connection.CallOptions) =>
  Effect.map(connection.call(method("remaining"), nothing, options), textOf)

/** A handler that never ends, with what became of it. */
const waiting = Effect.gen(function*() {
  const started = yield* Deferred.make<void>()
  const interrupted = yield* Deferred.make<void>()
  return {
    started: Deferred.await(started),
    interrupted: Deferred.await(interrupted),
    isInterrupted: Deferred.isDone(interrupted),
    handlers: HandlerMap.set(
      telling,
      component,
      "wait",
      () =>
        Effect.andThen(Deferred.succeed(started, undefined), Effect.never).pipe(
          Effect.onInterrupt(() => Deferred.succeed(interrupted, undefined))
        )
    )
  }
})

const isExceeded = (error: { readonly _tag: string; readonly message: string }) =>
  assert.equal(error._tag, "DeadlineExceeded", error.message)

/** Lets everything that can arrive arrive: bytes in memory take a turn of the event loop or two each way. */
const settle = Effect.callback<void>((resume) => {
  let left = 20
  const turn = () => {
    if (--left === 0) resume(Effect.void)
    else setImmediate(turn)
  }
  setImmediate(turn)
})

describe("what the handler sees", () => {
  const opened = Effect.gen(function*() {
    const connection = yield* connect([(yield* memory.serve(telling)).endpoint])
    // Now there is a socket, and a call is sent in the turn in which it is made.
    yield* ask(connection)
    return connection
  })

  it.effect("nothing, without a deadline", () =>
    Effect.gen(function*() {
      assert.equal(yield* ask(yield* opened), "none")
    }).pipe(Effect.scoped))

  it.effect("the timeout of the call, or the deadline of the region", () =>
    Effect.gen(function*() {
      const connection = yield* opened
      assert.equal(yield* ask(connection, { timeout: "10 seconds" }), "10000")
      assert.equal(yield* ask(connection).pipe(Deadline.within("1500 millis")), "1500")
      assert.equal(yield* ask(connection, { timeout: Duration.micros(1500n) }), "1.5")
    }).pipe(Effect.scoped))

  it.effect("the earlier of both", () =>
    Effect.gen(function*() {
      const connection = yield* opened
      assert.equal(yield* ask(connection, { timeout: "2 seconds" }).pipe(Deadline.within("3 seconds")), "2000")
      assert.equal(yield* ask(connection, { timeout: "3 seconds" }).pipe(Deadline.within("2 seconds")), "2000")
    }).pipe(Effect.scoped))

  it.effect("what is left of a region's deadline after other work", () =>
    Effect.gen(function*() {
      const connection = yield* opened
      const calling = yield* Effect.andThen(Effect.sleep("400 millis"), ask(connection)).pipe(
        Deadline.within("1 second"),
        Effect.forkChild
      )
      yield* TestClock.adjust("400 millis")
      assert.equal(yield* Fiber.join(calling), "600")
    }).pipe(Effect.scoped))

  it.effect("not the ambient deadline of a region that leaves it with Deadline.none", () =>
    Effect.gen(function*() {
      const connection = yield* opened
      assert.equal(yield* ask(connection).pipe(Deadline.none, Deadline.within("1 second")), "none")
      assert.equal(
        yield* ask(connection, { timeout: "5 seconds" }).pipe(Deadline.none, Deadline.within("1 second")),
        "5000"
      )
    }).pipe(Effect.scoped))

  it.effect("the same moment where the Connection uses another clock than the region", () =>
    Effect.gen(function*() {
      const connection = yield* TestClock.withLive(opened)
      yield* TestClock.adjust("10 minutes")
      const left = Number(yield* ask(connection).pipe(Deadline.within("1 minute")))
      assert.ok(left > 0 && left <= 60_000, `${left} ms`)
    }).pipe(Effect.scoped))

  it.effect("no deadline that the server was under when it was started", () =>
    Effect.gen(function*() {
      const { endpoint } = yield* memory.serve(telling).pipe(Deadline.within("1 second"), Effect.orDie)
      const connection = yield* connect([endpoint])
      assert.equal(yield* ask(connection), "none")
    }).pipe(Effect.scoped))
})

describe("at the deadline", () => {
  it.effect("the call fails and the handler is interrupted, and not a millisecond before", () =>
    Effect.gen(function*() {
      const { handlers, interrupted, isInterrupted, started } = yield* waiting
      const connection = yield* connect([(yield* memory.serve(handlers)).endpoint])
      yield* ask(connection)
      const calling = yield* Effect.forkChild(connection.call(method("wait"), nothing, { timeout: "1 second" }))
      yield* started
      yield* TestClock.adjust("999 millis")
      yield* settle
      assert.equal(calling.pollUnsafe(), undefined)
      assert.equal(yield* isInterrupted, false)
      yield* TestClock.adjust("1 millis")
      const error = yield* Effect.flip(Fiber.join(calling))
      isExceeded(error)
      assert.equal(error.message, "deadline exceeded: no answer from memory://server to test/Echo.wait in time")
      yield* interrupted
      // The connection has nothing to do with it.
      assert.equal(textOf(yield* connection.call(echo, bytesOf("next"))), "next")
    }).pipe(Effect.scoped))

  it.effect("each of many calls ends at its own", () =>
    Effect.gen(function*() {
      const connection = yield* connect([(yield* memory.serve(handlers)).endpoint])
      yield* connection.call(echo, nothing)
      const ended: Array<number> = []
      // 37 is prime to 100: all of 1 to 100, in an order of its own.
      const timeouts = Array.from({ length: 100 }, (_, i) => (i * 37) % 100 + 1)
      for (const timeout of timeouts) {
        yield* connection.call(method("hang"), nothing, { timeout }).pipe(
          Effect.exit,
          Effect.map(() => ended.push(timeout)),
          Effect.forkChild({ startImmediately: true })
        )
      }
      yield* settle
      for (let now = 1; now <= 100; now++) {
        yield* TestClock.adjust(1)
        yield* settle
        assert.deepEqual(ended, Array.from({ length: now }, (_, i) => i + 1))
      }
    }).pipe(Effect.scoped))

  it.effect("the answer of a handler that cannot be interrupted comes too late, and is dropped", () =>
    Effect.gen(function*() {
      const started = yield* Deferred.make<void>()
      const { endpoint } = yield* memory.serve(
        HandlerMap.set(
          handlers,
          component,
          "stubborn",
          () =>
            Effect.andThen(Deferred.succeed(started, undefined), Effect.sleep("5 seconds")).pipe(
              Effect.as(bytesOf("too late")),
              Effect.uninterruptible
            )
        )
      )
      const connection = yield* connect([endpoint])
      const calling = yield* Effect.forkChild(connection.call(method("stubborn"), nothing, { timeout: "1 second" }))
      yield* Deferred.await(started)
      yield* TestClock.adjust("1 second")
      isExceeded(yield* Effect.flip(Fiber.join(calling)))
      yield* TestClock.adjust("10 seconds")
      yield* settle
      assert.equal(textOf(yield* connection.call(echo, bytesOf("next"))), "next")
    }).pipe(Effect.scoped))

  it.effect("a call that waits for a place at the server is never started", () =>
    Effect.gen(function*() {
      let executed = 0
      const { handlers, started } = yield* waiting
      const { endpoint } = yield* memory.serve(
        HandlerMap.set(handlers, component, "count", (args) => {
          executed++
          return Effect.succeed(args)
        }),
        { maxConcurrentCalls: 1 }
      )
      const connection = yield* connect([endpoint])
      const first = yield* Effect.forkChild(connection.call(method("wait"), nothing))
      yield* started
      const calling = yield* Effect.forkChild(connection.call(method("count"), nothing, { timeout: "1 second" }))
      yield* settle
      yield* TestClock.adjust("1 second")
      isExceeded(yield* Effect.flip(Fiber.join(calling)))
      yield* settle
      yield* Fiber.interrupt(first)
      yield* connection.call(echo, nothing)
      assert.equal(executed, 0)
    }).pipe(Effect.scoped))

  it.effect("a dial that takes too long is given up, and the error says which", () =>
    Effect.gen(function*() {
      yield* TestNetwork.listen("server", handlers)
      yield* TestNetwork.fault("server", { dial: "hang" })
      const connection = yield* connect([yield* TestNetwork.endpoint("server")])
      const calling = yield* Effect.forkChild(connection.call(echo, nothing, { timeout: "1 second" }))
      yield* TestClock.adjust("1 second")
      const error = yield* Effect.flip(Fiber.join(calling))
      isExceeded(error)
      assert.equal(
        error.message,
        "deadline exceeded: no answer to test/Echo.echo in time; memory://server: it was still being dialed"
      )
    }).pipe(Effect.scoped, Effect.provide(TestNetwork.layer)))

  it.effect("an uninterruptible caller gets the error anyway, at each point where a call can wait", () =>
    Effect.gen(function*() {
      const call = Effect.fnUntraced(function*(
        name: string,
        key: MethodKey.MethodKey,
        options?: Connection.CallOptions
      ) {
        const connection = yield* connect([yield* TestNetwork.endpoint(name)])
        const calling = yield* connection.call(key, nothing, { ...options, timeout: "1 second" }).pipe(
          Effect.uninterruptible,
          Effect.forkChild({ startImmediately: true })
        )
        yield* settle
        yield* TestClock.adjust("1 second")
        isExceeded(yield* Effect.flip(Fiber.join(calling)))
      })
      yield* call("nowhere", echo, { waitForReady: true })
      yield* TestNetwork.listen("server", handlers, { shutdownGrace: 0 })
      yield* call("server", method("hang"))
      yield* TestNetwork.fault("server", { dial: "hang" })
      yield* call("server", echo)
    }).pipe(Effect.scoped, Effect.provide(TestNetwork.layer)))

  eachNetwork((network) => {
    it.live("both sides end, in real time", () =>
      Effect.gen(function*() {
        const { handlers, interrupted } = yield* waiting
        const connection = yield* connect([(yield* network.serve(handlers)).endpoint])
        yield* ask(connection)
        const start = performance.now()
        isExceeded(yield* Effect.flip(connection.call(method("wait"), nothing, { timeout: 30 })))
        assert.ok(performance.now() - start >= 30, "not before its time")
        yield* interrupted
        const left = Number(yield* ask(connection, { timeout: "10 seconds" }))
        assert.ok(left > 5000 && left <= 10_000, String(left))
      }).pipe(Effect.scoped))
  })
})

describe("a call that has no time left", () => {
  it.effect("is never sent", () =>
    Effect.gen(function*() {
      let executed = 0
      const { endpoint } = yield* memory.serve(HandlerMap.set(handlers, component, "count", (args) => {
        executed++
        return Effect.succeed(args)
      }))
      const connection = yield* connect([endpoint])
      yield* connection.call(echo, nothing)
      const count = connection.call(method("count"), nothing, { timeout: 0 })
      const error = yield* Effect.flip(count)
      isExceeded(error)
      assert.equal(error.message, "deadline exceeded: test/Echo.count was not sent, since no time was left")
      // A region that cannot be interrupted, and whose deadline passes.
      const late = yield* Effect.sleep("2 seconds").pipe(
        Effect.andThen(Effect.exit(connection.call(method("count"), nothing))),
        Effect.uninterruptible,
        Deadline.within("1 second"),
        Effect.exit,
        Effect.forkChild
      )
      yield* TestClock.adjust("3 seconds")
      assert.ok(Exit.isFailure(yield* Fiber.join(late)))
      yield* connection.call(echo, nothing)
      assert.equal(executed, 0)
    }).pipe(Effect.scoped))

  it.effect("is not sent either when its time passes while it waits to be written", () =>
    Effect.gen(function*() {
      let executed = 0
      yield* TestNetwork.listen(
        "server",
        HandlerMap.set(telling, component, "count", (args) => {
          executed++
          return Effect.succeed(args)
        })
      )
      const connection = yield* connect([yield* TestNetwork.endpoint("server")])
      yield* ask(connection)
      yield* TestNetwork.fault("server", { blackHole: true })
      // More than the network holds: what comes after it stays with us.
      const first = yield* Effect.forkChild(connection.call(echo, new Uint8Array(300_000)), { startImmediately: true })
      yield* settle
      const small = yield* Effect.forkChild(connection.call(method("count"), nothing, { timeout: "1 second" }))
      const large = yield* Effect.forkChild(
        connection.call(method("count"), new Uint8Array(50_000), { timeout: "1 second" })
      )
      const late = yield* Effect.forkChild(ask(connection, { timeout: "10 seconds" }))
      yield* settle
      yield* TestClock.adjust("4 seconds")
      isExceeded(yield* Effect.flip(Fiber.join(small)))
      isExceeded(yield* Effect.flip(Fiber.join(large)))
      yield* TestNetwork.heal("server")
      yield* Fiber.join(first)
      // The time left is that at which a request leaves, not that at which it was made.
      assert.equal(yield* Fiber.join(late), "6000")
      assert.equal(executed, 0)
    }).pipe(Effect.scoped, Effect.provide(TestNetwork.layer)))
})

describe("nested calls", () => {
  /** A calls B calls C; each takes some time first. */
  const chain = Effect.gen(function*() {
    const last = yield* waiting
    const c = yield* connect([(yield* memory.serve(last.handlers)).endpoint])
    const ended: Array<string> = []
    const through = (name: string, next: Connection.Connection, options?: Connection.CallOptions) =>
      HandlerMap.set(HandlerMap.empty, component, name, (args) =>
        Effect.sleep("200 millis").pipe(
          Effect.andThen(next.call(method(textOf(args)), bytesOf(textOf(args)), options)),
          Effect.onExit(() => Effect.sync(() => ended.push(name)))
        ))
    const b = yield* connect([
      (yield* memory.serve(HandlerMap.merge(through("remaining", c), through("wait", c)))).endpoint
    ])
    const a = yield* connect([
      (yield* memory.serve(HandlerMap.merge(through("go", b), through("soon", b, { timeout: "500 millis" })))).endpoint
    ])
    return { a, ended, last }
  })

  /** Time passes in steps, since bytes have to arrive in between. */
  const pass = (millis: number) =>
    Effect.forEach(Array.from({ length: millis / 100 }), () => Effect.andThen(settle, TestClock.adjust(100)), {
      discard: true
    })

  it.effect("inherit the time that is left, without any code that passes it on", () =>
    Effect.gen(function*() {
      const { a } = yield* chain
      const calling = yield* a.call(method("go"), bytesOf("remaining")).pipe(
        Deadline.within("1 second"),
        Effect.forkChild({ startImmediately: true })
      )
      yield* pass(400)
      assert.equal(textOf(yield* Fiber.join(calling)), "600")
    }).pipe(Effect.scoped))

  it.effect("may be given less, and never more", () =>
    Effect.gen(function*() {
      const { a } = yield* chain
      for (const [timeout, expected] of [["10 seconds", "300"], ["450 millis", "50"]] as const) {
        const calling = yield* a.call(method("soon"), bytesOf("remaining"), { timeout }).pipe(
          Effect.forkChild({ startImmediately: true })
        )
        yield* pass(400)
        assert.equal(textOf(yield* Fiber.join(calling)), expected)
      }
    }).pipe(Effect.scoped))

  it.effect("all end at the one deadline", () =>
    Effect.gen(function*() {
      const { a, ended, last } = yield* chain
      const calling = yield* a.call(method("go"), bytesOf("wait"), { timeout: "1 second" }).pipe(
        Effect.forkChild({ startImmediately: true })
      )
      yield* pass(900)
      yield* last.started
      assert.equal(calling.pollUnsafe(), undefined)
      yield* pass(100)
      isExceeded(yield* Effect.flip(Fiber.join(calling)))
      yield* last.interrupted
      yield* settle
      assert.deepEqual(ended.toSorted(), ["go", "wait"])
    }).pipe(Effect.scoped))

  it.effect("that meet a deadline of their own are the handler's failure, known by its identity", () =>
    Effect.gen(function*() {
      const { a } = yield* chain
      // The call from A to B ends at the 500 ms that it was given; its caller had more time.
      const calling = yield* a.call(method("soon"), bytesOf("wait"), { timeout: "10 seconds" }).pipe(
        Effect.forkChild({ startImmediately: true })
      )
      yield* pass(1000)
      const error = yield* Effect.flip(Fiber.join(calling))
      assert.ok(error._tag === "RemoteError", error.message)
      assert.match(error.message, /^deadline exceeded: no answer .*to test\/Echo.wait in time$/)
      assert.ok(error.is("(context:context.deadlineExceededError{})"))
    }).pipe(Effect.scoped))
})

describe("the server's own \"deadline exceeded\"", () => {
  const text = "context deadline exceeded"
  const identity = "(context:context.deadlineExceededError{})"
  const string = (text: string) => {
    const bytes = Buffer.alloc(4 + text.length, text)
    bytes.writeUInt32LE(text.length)
    bytes.write(text, 4)
    return bytes
  }
  const chain = Buffer.concat([Buffer.from([1, 0, 0, 0, 0, 0, 0, 0]), string(text), string(identity)])

  it.live("is DeadlineExceeded where it comes before our own, and a RemoteError where the call had no deadline", () =>
    Effect.gen(function*() {
      const endpoint = yield* rawServer((raw) => {
        let answered = 0
        raw.socket.on("data", () => {
          for (const { id, type } of messagesOf(raw.received()).slice(answered)) {
            answered++
            raw.write(type === 0 ? version : message(id, 3, chain))
          }
        })
      })
      const connection = yield* connect([endpoint])
      isExceeded(yield* Effect.flip(connection.call(echo, nothing, { timeout: "1 minute" })))
      const error = yield* Effect.flip(connection.call(echo, nothing))
      assert.ok(error._tag === "RemoteError")
      assert.equal(error.message, text)
    }).pipe(Effect.scoped))
})
