import { describe, it } from "@effect/vitest"
import { Cause, Clock, Effect, Exit, Fiber, Option, Scope } from "effect"
import { HandlerMap } from "effect-call"
import { TestNetwork } from "effect-call/testing"
import * as assert from "node:assert/strict"
import { connect, observe, onNetwork, settle } from "./support.ts"

describe("names", () => {
  it.effect("a name without a listener refuses dials, and says so", () =>
    Effect.gen(function*() {
      const endpoint = yield* TestNetwork.endpoint("orders")
      assert.equal(endpoint.address, "memory://orders")
      const error = yield* Effect.flip(endpoint.dial)
      assert.equal(error._tag, "DialError")
      assert.equal(error.endpoint, "memory://orders")
      assert.equal(error.message, "cannot dial memory://orders: connection refused: no server listens on \"orders\"")
    }).pipe(onNetwork))

  it.effect("a name that is taken or empty cannot be listened on", () =>
    Effect.gen(function*() {
      const listener = yield* TestNetwork.listener("orders", HandlerMap.empty)
      const taken = yield* Effect.flip(TestNetwork.listener("orders", HandlerMap.empty))
      assert.deepEqual([taken._tag, taken.address, taken.message], [
        "ListenerError",
        "memory://orders",
        "cannot listen on memory://orders: the name is taken"
      ])
      // The first is not affected.
      yield* connect("orders", listener)
      const empty = yield* Effect.flip(TestNetwork.listener("", HandlerMap.empty))
      assert.equal(empty.message, "cannot listen on memory://: a name is expected")
    }).pipe(onNetwork))

  it.effect("a name is free again when its listener's scope has closed", () =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      const first = yield* Scope.provide(TestNetwork.listener("orders", HandlerMap.empty), scope)
      yield* Scope.close(scope, Exit.void)
      assert.equal((yield* Effect.flip(first.accept)).message, "the listener on memory://orders is closed")
      assert.match((yield* Effect.flip((yield* TestNetwork.endpoint("orders")).dial)).message, /no server listens/)
      yield* connect("orders", yield* TestNetwork.listener("orders", HandlerMap.empty))
    }).pipe(onNetwork))

  it.effect("a dial succeeds before it is accepted, and its connection ends if it never is", () =>
    Effect.gen(function*() {
      const listener = yield* TestNetwork.listener("orders", HandlerMap.empty)
      const client = observe(yield* (yield* TestNetwork.endpoint("orders")).dial)
      yield* listener.close
      yield* client.closed
    }).pipe(onNetwork))

  it.effect("the handlers may depend on the peer, whose address counts the connections", () =>
    Effect.gen(function*() {
      const peers: Array<string> = []
      const listener = yield* TestNetwork.listener("orders", ({ address }) => {
        peers.push(address)
        return HandlerMap.empty
      })
      yield* connect("orders", listener)
      yield* connect("orders", listener)
      assert.deepEqual(peers, ["memory://orders#1", "memory://orders#2"])
    }).pipe(onNetwork))

  it.effect("two networks know nothing of each other", () =>
    Effect.gen(function*() {
      const one = yield* TestNetwork.make
      const other = yield* TestNetwork.make
      yield* one.listener("orders", HandlerMap.empty)
      assert.match((yield* Effect.flip(other.endpoint("orders").dial)).message, /no server listens/)
      yield* other.listener("orders", HandlerMap.empty)
      yield* other.fault("orders", { dial: "refuse" })
      yield* one.endpoint("orders").dial
    }))
})

describe("nothing outlives its scope", () => {
  it.effect("a connection ends with the scope of its dial", () =>
    Effect.gen(function*() {
      const listener = yield* TestNetwork.listener("orders", HandlerMap.empty)
      const scope = yield* Scope.make()
      const { server } = yield* Scope.provide(connect("orders", listener), scope)
      const seen = observe(server)
      yield* Scope.close(scope, Exit.void)
      yield* seen.closed
      assert.deepEqual(seen.state.events, ["end", "close"])
    }).pipe(onNetwork))

  it.effect("when the network ends, its connections are closed, dials that hang fail, and new ones are refused", () =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      const network = yield* Scope.provide(TestNetwork.make, scope)
      const listener = yield* network.listener("orders", HandlerMap.empty)
      const client = yield* network.endpoint("orders").dial
      const { connection: server } = yield* listener.accept
      yield* network.fault("orders", { dial: "hang" })
      const hanging = yield* Effect.forkChild(Effect.flip(network.endpoint("orders").dial), { startImmediately: true })
      yield* Scope.close(scope, Exit.void)
      assert.ok(client.destroyed && server.destroyed)
      assert.match((yield* Fiber.join(hanging)).message, /the network has been closed/)
      assert.match((yield* Effect.flip(network.endpoint("new").dial)).message, /the network has been closed/)
      assert.match(
        (yield* Effect.flip(network.listener("new", HandlerMap.empty))).message,
        /the network has been closed/
      )
    }))

  it.effect("a dial that hangs can be interrupted, and leaves nothing", () =>
    Effect.gen(function*() {
      const listener = yield* TestNetwork.listener("orders", HandlerMap.empty)
      yield* TestNetwork.fault("orders", { dial: "hang" })
      const endpoint = yield* TestNetwork.endpoint("orders")
      const dialing = yield* Effect.forkChild(endpoint.dial, { startImmediately: true })
      yield* Fiber.interrupt(dialing)
      const exit = yield* Fiber.await(dialing)
      assert.ok(Exit.isFailure(exit) && Cause.hasInterruptsOnly(exit.cause))
      yield* TestNetwork.heal("orders")
      yield* settle
      assert.ok(Option.isNone(yield* Effect.timeoutOption(listener.accept, 0)))
    }).pipe(onNetwork))

  it.effect("a delay sleeps no longer than there is a connection that it delays", () =>
    Effect.gen(function*() {
      let sleepers = 0
      const sleep = () =>
        Effect.acquireUseRelease(Effect.sync(() => sleepers++), () => Effect.never, () => Effect.sync(() => sleepers--))
      const clock: Clock.Clock = Object.assign(Object.create(yield* Clock.clockWith(Effect.succeed)), { sleep })
      const delayed = (network: TestNetwork.TestNetwork) =>
        Effect.gen(function*() {
          const listener = yield* network.listener("orders", HandlerMap.empty)
          yield* network.fault("orders", { delay: "1 hour" }).pipe(Effect.provideService(Clock.Clock, clock))
          const client = yield* network.endpoint("orders").dial
          const { connection: server } = yield* listener.accept
          client.write("never seen")
          server.write("never seen")
          yield* settle
          return { client, server }
        })
      const scope = yield* Scope.make()
      const network = yield* Scope.provide(TestNetwork.make, scope)
      const inner = yield* Scope.make()
      const { client, server } = yield* Scope.provide(delayed(network), inner)
      assert.equal(sleepers, 2)
      client.destroy()
      server.destroy()
      yield* settle
      assert.equal(sleepers, 0)
      yield* Scope.close(inner, Exit.void)
      yield* delayed(network)
      assert.equal(sleepers, 2)
      yield* Scope.close(scope, Exit.void)
      assert.equal(sleepers, 0)
    }))
})
