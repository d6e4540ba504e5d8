/**
 * Interrupting calls: the caller is free at once, and the handler stops.
 */
import { describe, it } from "@effect/vitest"
import { Deferred, Effect, Fiber } from "effect"
import { HandlerMap, MethodKey } from "effect-call"
import { TestNetwork } from "effect-call/testing"
import * as assert from "node:assert/strict"
import {
  bytesOf,
  component,
  connect,
  eachNetwork,
  eachWay,
  echo,
  handlers,
  memory,
  textOf
} from "../support/networks.ts"
import { cancel, messagesOf, rawClient, request, version } from "../support/raw.ts"

const wait = MethodKey.make(component, "wait")
const nothing = new Uint8Array()

/** Handlers whose "wait" never ends, and counts how often it was started and interrupted. */
const counting = () => {
  const counts = { started: 0, interrupted: 0 }
  let changed = () => {}
  const count = (which: "started" | "interrupted") =>
    Effect.sync(() => {
      counts[which]++
      changed()
    })
  return {
    counts,
    until: (done: () => boolean) =>
      Effect.callback<void>((resume) => {
        changed = () => done() && resume(Effect.void)
        changed()
      }),
    handlers: HandlerMap.set(
      handlers,
      wait.component,
      wait.method,
      () => Effect.andThen(count("started"), Effect.never).pipe(Effect.onInterrupt(() => count("interrupted")))
    )
  }
}

describe("interrupting a call", () => {
  eachWay((way) => {
    it.live("ends it, and interrupts its handler and no other", () =>
      Effect.gen(function*() {
        const { counts, handlers, until } = counting()
        const connection = yield* way.open(handlers)
        const calling = yield* Effect.forkChild(connection.call(wait, nothing))
        const other = yield* Effect.forkChild(connection.call(wait, nothing))
        yield* until(() => counts.started === 2)
        yield* Fiber.interrupt(calling)
        yield* until(() => counts.interrupted > 0)
        assert.equal(textOf(yield* connection.call(echo, bytesOf("next"))), "next")
        assert.deepEqual(counts, { started: 2, interrupted: 1 })
        assert.equal(other.pollUnsafe(), undefined)
      }).pipe(Effect.scoped))

    it.live("right after it was made: the handler never runs, or is interrupted", () =>
      Effect.gen(function*() {
        const { counts, handlers, until } = counting()
        const connection = yield* way.open(handlers)
        for (let i = 0; i < 10; i++) {
          const calling = yield* Effect.forkChild(connection.call(wait, nothing), { startImmediately: true })
          // Up to so many turns of the event loop later, so on its way or there already.
          for (let turn = 0; turn < i % 5; turn++) {
            yield* Effect.callback<void>((resume) => void setImmediate(() => resume(Effect.void)))
          }
          yield* Fiber.interrupt(calling)
        }
        // All that was sent before has been read when this is answered.
        yield* connection.call(echo, nothing)
        yield* until(() => counts.interrupted === counts.started)
        assert.deepEqual((yield* connection.state).endpoints.map(({ callsInFlight }) => callsInFlight), [
          way.use === "shared" ? 1 : 0
        ])
      }).pipe(Effect.scoped))
  })

  eachNetwork((network) => {
    it.live("in the turn in which it was made keeps its request from being sent", () =>
      Effect.gen(function*() {
        const { counts, handlers } = counting()
        const { endpoint } = yield* network.serve(handlers)
        const connection = yield* connect([endpoint])
        yield* connection.call(echo, nothing)
        // Between two others that stay, so that it is taken out of the middle of what is written; small and large.
        for (const size of [10, 20_000]) {
          const before = yield* Effect.forkChild(connection.call(echo, bytesOf("before")), { startImmediately: true })
          const calling = yield* Effect.forkChild(connection.call(wait, new Uint8Array(size)), {
            startImmediately: true
          })
          const after = yield* Effect.forkChild(connection.call(echo, bytesOf("after")), { startImmediately: true })
          yield* Fiber.interrupt(calling)
          assert.equal(textOf(yield* Fiber.join(before)), "before")
          assert.equal(textOf(yield* Fiber.join(after)), "after")
        }
        assert.deepEqual(counts, { started: 0, interrupted: 0 })
      }).pipe(Effect.scoped))

    it.live("does not wait for a handler that cannot be interrupted, whose answer is dropped", () =>
      Effect.gen(function*() {
        const started = yield* Deferred.make<void>()
        const ended = yield* Deferred.make<void>()
        const release = yield* Deferred.make<void>()
        const { endpoint } = yield* network.serve(
          HandlerMap.set(handlers, component, "stubborn", () =>
            Deferred.succeed(started, undefined).pipe(
              Effect.andThen(Deferred.await(release)),
              Effect.andThen(Deferred.succeed(ended, undefined)),
              Effect.as(bytesOf("too late")),
              Effect.uninterruptible
            ))
        )
        const connection = yield* connect([endpoint])
        const calling = yield* Effect.forkChild(connection.call(MethodKey.make(component, "stubborn"), nothing))
        yield* Deferred.await(started)
        yield* Fiber.interrupt(calling)
        assert.equal(textOf(yield* connection.call(echo, bytesOf("first"))), "first")
        yield* Deferred.succeed(release, undefined)
        yield* Deferred.await(ended)
        assert.equal(textOf(yield* connection.call(echo, bytesOf("second"))), "second")
      }).pipe(Effect.scoped))
  })

  it.effect("ends it at once even where no bytes get through any more", () =>
    Effect.gen(function*() {
      const { counts, handlers, until } = counting()
      yield* TestNetwork.listen("server", handlers, { shutdownGrace: 0 })
      const connection = yield* connect([yield* TestNetwork.endpoint("server")])
      const calling = yield* Effect.forkChild(connection.call(wait, nothing))
      yield* until(() => counts.started === 1)
      yield* TestNetwork.fault("server", { blackHole: true })
      yield* Fiber.interrupt(calling)
      assert.equal(counts.interrupted, 0)
      // The cancel was only held up.
      yield* TestNetwork.heal("server")
      yield* until(() => counts.interrupted === 1)
    }).pipe(Effect.scoped, Effect.provide(TestNetwork.layer)))

  it.effect("while its connection is being dialed lets the dial go on, until the Connection is closed", () =>
    Effect.gen(function*() {
      const dialing = yield* Deferred.make<void>()
      const calledOff = yield* Deferred.make<void>()
      const connection = yield* connect([{
        address: "test://hangs",
        dial: Effect.andThen(Deferred.succeed(dialing, undefined), Effect.never).pipe(
          Effect.onInterrupt(() => Deferred.succeed(calledOff, undefined))
        )
      }])
      const first = yield* Effect.forkChild(connection.call(echo, nothing), { startImmediately: true })
      const second = yield* Effect.forkChild(connection.call(echo, nothing), { startImmediately: true })
      yield* Deferred.await(dialing)
      yield* Fiber.interrupt(first)
      yield* Fiber.interrupt(second)
      assert.deepEqual((yield* connection.state).endpoints.map(({ state }) => state), ["Dialing"])
      assert.equal(yield* Deferred.isDone(calledOff), false)
      yield* connection.close
      yield* Deferred.await(calledOff)
    }).pipe(Effect.scoped))
})

describe("a request and its cancel in one segment", () => {
  const canceled = (payload: Buffer) => payload.includes("context canceled")

  eachNetwork((network) => {
    for (
      const [how, join] of [
        [
          "all requests, then all cancels",
          (requests: Array<Buffer>, cancels: Array<Buffer>) => [...requests, ...cancels]
        ],
        [
          "each request with its cancel",
          (requests: Array<Buffer>, cancels: Array<Buffer>) => requests.flatMap((request, i) => [request, cancels[i]!])
        ]
      ] as const
    ) {
      it.live(`1 000 of 1 000 handlers are interrupted or never started: ${how}`, () =>
        Effect.gen(function*() {
          const { counts, handlers, until } = counting()
          const { endpoint } = yield* network.serve(handlers)
          const client = yield* rawClient(endpoint)
          const ids = Array.from({ length: 1000 }, (_, i) => i + 1)
          client.write(Buffer.concat([
            version,
            ...join(ids.map((id) => request(id, wait, bytesOf("x"))), ids.map(cancel)),
            request(1001, echo, bytesOf("end"))
          ]))
          const received = yield* client.until((bytes) => messagesOf(bytes).length >= 1002)
          const [first, ...answers] = messagesOf(received)
          assert.equal(first!.type, 0)
          const ended = answers.filter(({ type }) => type === 3)
          assert.deepEqual(ended.map(({ id }) => id).toSorted((a, b) => a - b), ids)
          assert.ok(ended.every(({ payload }) => canceled(payload)))
          yield* until(() => counts.interrupted === counts.started)
          // And nothing else was said about them.
          assert.equal(answers.length, 1001)
        }).pipe(Effect.scoped))
    }
  })

  it.live("1 000 cancels for calls that are not there change nothing", () =>
    Effect.gen(function*() {
      const { endpoint } = yield* memory.serve(handlers)
      const client = yield* rawClient(endpoint)
      const ids = Array.from({ length: 1000 }, (_, i) => i + 1)
      client.write(Buffer.concat([version, ...ids.map(cancel), request(1, echo, bytesOf("hello")), cancel(1)]))
      const received = yield* client.until((bytes) => messagesOf(bytes).length >= 2)
      assert.deepEqual(messagesOf(received).map(({ id, type }) => [id, type]), [[0, 0], [1, 2]])
    }).pipe(Effect.scoped))
})
