import { NodeHttpServer } from "@effect/platform-node"
import { describe, it } from "@effect/vitest"
import { Effect, Fiber, Layer, Stream } from "effect"
import {
  type CallError,
  Connection,
  Endpoint,
  HandlerMap,
  Health,
  Listener,
  MethodKey,
  Resolver,
  Server
} from "effect-call"
import { HttpClient, HttpRouter } from "effect/http"
import * as assert from "node:assert/strict"
import { settle } from "./Connection/support.ts"
import { bytesOf, echo, handlers as networkHandlers } from "./support/networks.ts"

const watch = MethodKey.make("effect-call/Health", "watch")

/** A question as bytes: what is known, and of which component. */
const question = (known: number, component = "") => Uint8Array.of(known, ...bytesOf(component))

describe("a Health", () => {
  it.effect("serves, unless something else is said", () =>
    Effect.gen(function*() {
      assert.deepEqual([yield* Health.status(), yield* Health.status("cart")], ["Serving", "Serving"])
    }).pipe(Effect.provide(Health.layer())))

  it.effect("may begin as not serving", () =>
    Effect.gen(function*() {
      assert.deepEqual([yield* Health.status(), yield* Health.status("cart")], ["NotServing", "NotServing"])
      yield* Health.set("Serving")
      assert.deepEqual([yield* Health.status(), yield* Health.status("cart")], ["Serving", "Serving"])
    }).pipe(Effect.provide(Health.layer("NotServing"))))

  it.effect("has a status for each component", () =>
    Effect.gen(function*() {
      yield* Health.set("NotServing", "cart")
      const statuses = yield* Effect.forEach([undefined, "cart", "stock"], Health.status)
      assert.deepEqual(statuses, ["Serving", "NotServing", "Serving"])
    }).pipe(Effect.provide(Health.layer())))

  it.effect("has no component that serves where the server as a whole does not", () =>
    Effect.gen(function*() {
      yield* Health.set("Serving", "cart")
      yield* Health.set("NotServing")
      assert.equal(yield* Health.status("cart"), "NotServing")
    }).pipe(Effect.provide(Health.layer())))

  it.effect("reports changes, and no value that stays the same", () =>
    Effect.gen(function*() {
      const health = yield* Health.Health
      const seen: Array<Health.Status> = []
      yield* Effect.forkChild(
        Stream.runForEach(health.changes("cart"), (status) => Effect.sync(() => seen.push(status))),
        {
          startImmediately: true
        }
      )
      for (
        const [status, component] of [
          ["Serving", "cart"],
          ["NotServing", "cart"],
          ["NotServing", "stock"],
          ["NotServing", undefined],
          ["Serving", "cart"],
          ["Serving", undefined]
        ] as const
      ) {
        yield* health.set(status, component)
        yield* settle
      }
      assert.deepEqual(seen, ["Serving", "NotServing", "Serving"])
    }).pipe(Effect.provide(Health.layer())))
})

/** A server that tells of its health, over TCP, and a Connection to it. */
const askedOf = Effect.fnUntraced(function*(options?: Server.ServerOptions) {
  const handlers = HandlerMap.merge(yield* Health.handlers, networkHandlers)
  const listener = yield* Listener.tcp("127.0.0.1:0", handlers)
  yield* Effect.forkScoped(Server.serve(listener, options))
  return yield* Connection.make(Resolver.constant(yield* Endpoint.parse(listener.address)))
})
const asked = askedOf()

describe("the handlers of a Health", () => {
  const answers: ReadonlyArray<readonly [what: string, args: Uint8Array, answer: number]> = [
    ["a caller that knows nothing", question(255), 1],
    ["a caller that takes it for not serving", question(0), 1],
    ["a caller that knows nothing of a component that serves", question(255, "stock"), 1],
    ["a caller that knows nothing of a component that does not", question(255, "cart"), 0],
    ["a caller that takes such a component for serving", question(1, "cart"), 0]
  ]
  for (const [what, args, answer] of answers) {
    it.live(`answer ${what} at once`, () =>
      Effect.gen(function*() {
        yield* Health.set("NotServing", "cart")
        const connection = yield* asked
        assert.deepEqual([...(yield* connection.call(watch, args))], [answer])
      }).pipe(Effect.provide(Health.layer())))
  }

  it.live("answer a peer that knows the status when the status changes", () =>
    Effect.gen(function*() {
      const connection = yield* asked
      const answer = yield* Effect.forkChild(connection.call(watch, question(1, "cart")))
      assert.deepEqual([...(yield* connection.call(watch, question(255, "cart")))], [1])
      assert.equal(answer.pollUnsafe(), undefined)
      yield* Health.set("NotServing", "cart")
      assert.deepEqual([...(yield* Fiber.join(answer))], [0])
    }).pipe(Effect.provide(Health.layer())))

  for (const limit of ["maxConcurrentCalls", "maxConcurrentCallsPerConnection"] as const) {
    it.live(`take no other call's place where ${limit} is 1`, () =>
      Effect.gen(function*() {
        const connection = yield* askedOf({ [limit]: 1 })
        yield* Effect.forkChild(connection.call(watch, question(1)), { startImmediately: true })
        assert.deepEqual(yield* connection.call(echo, bytesOf("hello")), bytesOf("hello"))
      }).pipe(Effect.provide(Health.layer())))
  }

  it.live("take no other call's place when they are asked again", () =>
    Effect.gen(function*() {
      const connection = yield* askedOf({ maxConcurrentCalls: 1 })
      const first = yield* Effect.forkChild(connection.call(watch, question(1)), { startImmediately: true })
      assert.deepEqual(yield* connection.call(echo, bytesOf("hello")), bytesOf("hello"))
      yield* Fiber.interrupt(first)
      yield* Effect.forkChild(connection.call(watch, question(1)), { startImmediately: true })
      assert.deepEqual(yield* connection.call(echo, bytesOf("hello")), bytesOf("hello"))
    }).pipe(Effect.provide(Health.layer())))

  it.live("count as calls where one connection asks twice at once", () =>
    Effect.gen(function*() {
      const connection = yield* askedOf({ maxConcurrentCalls: 1, maxQueuedCalls: 0 })
      yield* Effect.forkChild(connection.call(watch, question(1)), { startImmediately: true })
      yield* Effect.forkChild(connection.call(watch, question(1)), { startImmediately: true })
      const error: CallError.CallError = yield* Effect.flip(connection.call(echo, bytesOf("hello")))
      assert.equal(error._tag === "RemoteError" && error.isOverloaded, true)
    }).pipe(Effect.provide(Health.layer())))

  for (const [what, args] of [["nothing", new Uint8Array()], ["7", question(7)]] as const) {
    it.live(`refuse a question that begins with ${what}`, () =>
      Effect.gen(function*() {
        const connection = yield* asked
        const error: CallError.CallError = yield* Effect.flip(connection.call(watch, args))
        assert.match(error.message, /the first byte of a question for health is (missing|7), expected 0, 1 or 255/)
      }).pipe(Effect.provide(Health.layer())))
  }
})

describe("the readiness of a Health", () => {
  it.live("is what an HTTP probe is answered", () =>
    Effect.gen(function*() {
      const client = yield* HttpClient.HttpClient
      const probe = Effect.map(client.get("/ready"), ({ status }) => status)
      assert.equal(yield* probe, 503)
      yield* Health.set("Serving")
      assert.equal(yield* probe, 200)
      yield* Health.set("NotServing")
      assert.equal(yield* probe, 503)
    }).pipe(
      Effect.provide(
        HttpRouter.serve(HttpRouter.add("GET", "/ready", Health.readiness), { disableListenLog: true }).pipe(
          Layer.provideMerge(NodeHttpServer.layerTest),
          Layer.provideMerge(Health.layer("NotServing"))
        )
      )
    ))
})
