/**
 * Tests code that makes calls, without sockets. The servers run in memory and use the real protocol. A test can inject
 * faults, and controls the time.
 *
 * In a project these would be tests (`it.effect` of @effect/vitest provides the TestClock). Here they are a program
 * that asserts and prints.
 *
 * Run it with `node examples/test-layers.ts`.
 */
import { NodeRuntime } from "@effect/platform-node"
import { Console, Effect, Fiber, Layer, Logger } from "effect"
import { Connection, HandlerMap, MethodKey, Resolver } from "effect-call"
import { CallTest, TestNetwork } from "effect-call/testing"
import { TestClock } from "effect/testing"
import * as assert from "node:assert/strict"

const toBytes = (text: string) => new TextEncoder().encode(text)
const fromBytes = (bytes: Uint8Array) => new TextDecoder().decode(bytes)

// ---- The code under test. It needs a Connection, and does not know which servers that uses.

const price = MethodKey.make("example/Prices", "price")

const priceTag = Effect.fn("priceTag")(function*(item: string) {
  const connection = yield* Connection.Connection
  return yield* connection.call(price, toBytes(item), { timeout: "2 seconds" }).pipe(
    Effect.map((answer) => `${item}: ${fromBytes(answer)}`),
    Effect.catchTag(["Unreachable", "DeadlineExceeded"], () => Effect.succeed(`${item}: price on request`))
  )
})

// ---- The servers that the tests provide.

const pricesOf = (server: string) =>
  HandlerMap.empty.pipe(
    HandlerMap.set("example/Prices", "price", (item) =>
      fromBytes(item) === "tea"
        ? Effect.succeed(toBytes(`3 € (${server})`))
        : Effect.fail(new Error("not in the catalogue")))
  )

/** A Connection to two servers of the in-memory network. */
const TwoServers = Layer.effect(
  Connection.Connection,
  Effect.gen(function*() {
    yield* TestNetwork.listen("one", pricesOf("one"))
    yield* TestNetwork.listen("two", pricesOf("two"))
    return yield* Connection.make(
      Resolver.constant(yield* TestNetwork.endpoint("one"), yield* TestNetwork.endpoint("two"))
    )
  })
).pipe(Layer.provideMerge(TestNetwork.layer))

const test = <A, E, R>(name: string, body: Effect.Effect<A, E, R>) => Effect.andThen(body, Console.log(`✓ ${name}`))

// ---- The tests.

const answers = test(
  "the price comes from the server",
  Effect.gen(function*() {
    assert.equal(yield* priceTag("tea"), "tea: 3 € (here)")
  }).pipe(Effect.provide(CallTest.layer(pricesOf("here"))))
)

const failures = test(
  "what the server says went wrong is passed on",
  Effect.gen(function*() {
    const error = yield* Effect.flip(priceTag("time"))
    assert.equal(error._tag, "RemoteError")
    assert.equal(error.message, "not in the catalogue")
  }).pipe(Effect.provide(CallTest.layer(pricesOf("here"))))
)

const outage = test(
  "without a server there is no price; with one of two there is",
  Effect.gen(function*() {
    yield* TestNetwork.fault("one", { dial: "refuse" })
    yield* TestNetwork.fault("two", { dial: "refuse" })
    assert.equal(yield* priceTag("tea"), "tea: price on request")
    yield* TestNetwork.heal("two")
    // After the failed dials, both endpoints are in backoff for a short time.
    yield* TestClock.adjust("1 second")
    assert.equal(yield* priceTag("tea"), "tea: 3 € (two)")
    // No loggers: the warnings about the injected faults are expected.
  }).pipe(Effect.provide(TwoServers), Effect.provide([TestClock.layer(), Logger.layer([])]))
)

const slowness = test(
  "a server that does not answer is given two seconds, which pass in no time",
  Effect.gen(function*() {
    assert.equal(yield* priceTag("tea"), "tea: 3 € (one)")
    yield* TestNetwork.fault("two", { dial: "hang" })
    const waiting = yield* Effect.forkChild(priceTag("tea"), { startImmediately: true })
    yield* TestClock.adjust("1999 millis")
    assert.equal(waiting.pollUnsafe(), undefined)
    yield* TestClock.adjust("1 millis")
    assert.equal(yield* Fiber.join(waiting), "tea: price on request")
  }).pipe(Effect.provide(TwoServers), Effect.provide(TestClock.layer()))
)

Effect.all([answers, failures, outage, slowness], { discard: true }).pipe(NodeRuntime.runMain)
