import { describe, it } from "@effect/vitest"
import { Clock, Context, Deferred, Effect, Fiber, Layer } from "effect"
import { Connection, HandlerMap, MethodKey } from "effect-call"
import { CallTest } from "effect-call/testing"
import { TestClock } from "effect/testing"
import * as assert from "node:assert/strict"

const text = new TextEncoder()
const greet = MethodKey.make("test/Greeter", "greet")

/** Code as a user would test it: it calls the ambient Connection. */
const greeting = Effect.fn("greeting")(function*(name: string) {
  const connection = yield* Connection.Connection
  return new TextDecoder().decode(yield* connection.call(greet, text.encode(name)))
})

const greeter = HandlerMap.empty.pipe(
  HandlerMap.set(
    "test/Greeter",
    "greet",
    (name) => Effect.succeed(text.encode(`Hello, ${new TextDecoder().decode(name)}`))
  )
)

describe("CallTest.layer", () => {
  it.effect("code that calls gets the handlers' answers", () =>
    Effect.gen(function*() {
      assert.equal(yield* greeting("Ada"), "Hello, Ada")
    }).pipe(Effect.provide(CallTest.layer(greeter))))

  it.effect("a handler that fails reaches it as a RemoteError", () =>
    Effect.gen(function*() {
      const error = yield* Effect.flip(greeting("Ada"))
      assert.equal(error._tag, "RemoteError")
      assert.equal(error.message, "no greetings today")
    }).pipe(Effect.provide(CallTest.layer(
      HandlerMap.set(HandlerMap.empty, "test/Greeter", "greet", () => Effect.fail(new Error("no greetings today")))
    ))))

  it.effect("so does a method that is missing", () =>
    Effect.gen(function*() {
      const error = yield* Effect.flip(greeting("Ada"))
      assert.ok(error._tag === "RemoteError" && error.isUnknownMethod)
    }).pipe(Effect.provide(CallTest.layer(HandlerMap.empty))))

  it.effect("the handlers' services are what the layer needs", () => {
    const Salutation = Context.Service<{ readonly word: string }>("test/Salutation")
    const handlers = HandlerMap.set(
      HandlerMap.empty,
      "test/Greeter",
      "greet",
      () => Effect.map(Salutation, ({ word }) => text.encode(word))
    )
    return Effect.gen(function*() {
      assert.equal(yield* greeting("Ada"), "Ahoy")
    }).pipe(Effect.provide(CallTest.layer(handlers).pipe(Layer.provide(Layer.succeed(Salutation, { word: "Ahoy" })))))
  })

  it.effect("many calls at once each get their own answer", () =>
    Effect.gen(function*() {
      const names = Array.from({ length: 500 }, (_, i) => `number ${i}`)
      const greetings = yield* Effect.forEach(names, greeting, { concurrency: "unbounded" })
      assert.deepEqual(greetings, names.map((name) => `Hello, ${name}`))
    }).pipe(Effect.provide(CallTest.layer(greeter))))

  /** Tells the time at which it gets a call. */
  const timing = HandlerMap.set(
    HandlerMap.empty,
    "test/Greeter",
    "greet",
    () => Effect.map(Clock.currentTimeMillis, (now) => text.encode(String(now)))
  )

  it.effect("TestClock.adjust does not wait for bytes: a call that was forked reaches its handler afterwards", () =>
    Effect.gen(function*() {
      yield* greeting("Ada")
      const calling = yield* Effect.forkChild(greeting("Ada"))
      yield* TestClock.adjust("1 second")
      assert.equal(yield* Fiber.join(calling), "1000")
    }).pipe(Effect.provide(CallTest.layer(timing))))

  for (const isConnected of [false, true]) {
    const when = isConnected ? "an open connection" : "a new connection"
    it.effect(`a call over ${when} that was started immediately reaches its handler before the clock moves`, () =>
      Effect.gen(function*() {
        if (isConnected) yield* greeting("Ada")
        const calling = yield* Effect.forkChild(greeting("Ada"), { startImmediately: true })
        yield* TestClock.adjust("1 second")
        assert.equal(yield* Fiber.join(calling), "0")
      }).pipe(Effect.provide(CallTest.layer(timing))))
  }

  it.effect("interrupting a call interrupts its handler", () =>
    Effect.gen(function*() {
      const started = yield* Deferred.make<void>()
      const interrupted = yield* Deferred.make<void>()
      const handlers = HandlerMap.set(HandlerMap.empty, "test/Greeter", "greet", () =>
        Effect.andThen(Deferred.succeed(started, undefined), Effect.never).pipe(
          Effect.onInterrupt(() =>
            Deferred.succeed(interrupted, undefined)
          )
        ))
      yield* Effect.gen(function*() {
        const calling = yield* Effect.forkChild(greeting("Ada"))
        yield* Deferred.await(started)
        yield* Fiber.interrupt(calling)
        yield* Deferred.await(interrupted)
      }).pipe(Effect.provide(CallTest.layer(handlers)))
    }))

  it.effect("when the layer's scope closes, so does the Connection, and its handlers are interrupted", () =>
    Effect.gen(function*() {
      const started = yield* Deferred.make<void>()
      const interrupted = yield* Deferred.make<void>()
      const handlers = HandlerMap.set(
        HandlerMap.empty,
        "test/Greeter",
        "greet",
        () =>
          Effect.andThen(Deferred.succeed(started, undefined), Effect.never).pipe(
            Effect.onInterrupt(() => Deferred.succeed(interrupted, undefined))
          )
      )
      const connection = yield* Effect.gen(function*() {
        const connection = yield* Connection.Connection
        yield* Effect.forkDetach(Effect.exit(greeting("Ada")))
        yield* Deferred.await(started)
        return connection
      }).pipe(Effect.provide(CallTest.layer(handlers)))
      yield* Deferred.await(interrupted)
      const error = yield* Effect.flip(connection.call(greet, text.encode("Ada")))
      assert.ok(error._tag === "CommunicationError" && error.reason._tag === "Closed")
    }))
})
