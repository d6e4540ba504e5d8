import { describe, it } from "@effect/vitest"
import { Deferred, Effect, Exit, Fiber } from "effect"
import { HandlerMap, MethodKey } from "effect-call"
import * as assert from "node:assert/strict"
import { type IncomingCall, routeOf, waiting } from "../../../src/internal/server/route.ts"
import { routeIn } from "./support.ts"

const key = MethodKey.make("test/Store", "get")

/** The route of a handler of bytes. */
const bytesRoute = (handler: HandlerMap.Handler) =>
  routeIn(HandlerMap.set(HandlerMap.empty, "test/Store", "get", handler), key)

/** A call on a connection, which notes whether it counts as one of those that run at once. */
const callOn = (connection: object) => {
  const state = { exempted: false }
  const call: IncomingCall = {
    id: 1,
    stream: undefined,
    connection,
    acknowledge: () => assert.fail("a call of bytes is not acknowledged"),
    exempt: () => void (state.exempted = true),
    conclude: () => assert.fail("a call of bytes is not concluded")
  }
  return { call, state }
}

describe("the route of a handler of bytes", () => {
  it.effect("hands over the arguments of its request only, in bytes that no other code writes to", () =>
    Effect.gen(function*() {
      const route = bytesRoute(Effect.succeed)
      const buffer = Uint8Array.of(9, 1, 2, 9)
      const incoming = route.read(buffer, 1, 3, false)
      buffer.fill(7)
      assert.deepEqual(yield* incoming.handle(callOn({}).call), Uint8Array.of(1, 2))
    }))

  it.effect("does not copy arguments that it owns", () =>
    Effect.gen(function*() {
      const buffer = Uint8Array.of(9, 1, 2, 9)
      const args = yield* bytesRoute(Effect.succeed).read(buffer, 1, 3, true).handle(callOn({}).call)
      assert.ok(args instanceof Uint8Array && args.buffer === buffer.buffer)
      assert.deepEqual([...args], [1, 2])
    }))

  it("replies with what the handler has ended with, at once only where that is bytes", () => {
    const incoming = bytesRoute(Effect.succeed).read(new Uint8Array(), 0, 0, true)
    const result = Uint8Array.of(1)
    assert.equal(incoming.replyNow(result), result)
    assert.equal(incoming.replyNow("text"), undefined)
    const failed = Exit.fail("boom")
    assert.equal(incoming.reply(failed), failed)
  })

  it("is refused where the entry has no key or no function", () => {
    const handler = Effect.succeed
    for (const entry of [undefined, null, {}, { key: "get", handler }, { key, handler: "none" }] as Array<unknown>) {
      // The cast: a user without types may give anything.
      assert.throws(() => routeOf(entry as HandlerMap.Entry<never>), /^TypeError: an entry of a HandlerMap: expected/)
    }
  })
})

describe("the route of a handler that waits", () => {
  const route = (handler: HandlerMap.Handler) => bytesRoute(waiting(key, handler))

  it("does not count one call of each connection, and counts its other calls", () => {
    const waits = route(() => Effect.never)
    const read = () => waits.read(new Uint8Array(), 0, 0, true)
    const connection = {}
    const [first, second, other] = [callOn(connection), callOn(connection), callOn({})]
    read().handle(first.call)
    read().handle(second.call)
    read().handle(other.call)
    assert.deepEqual([first, second, other].map(({ state }) => state.exempted), [true, false, true])
  })

  it.effect("does not count the next call of a connection when the one before has ended", () =>
    Effect.gen(function*() {
      const happened = yield* Deferred.make<Uint8Array>()
      const waits = route(() => Deferred.await(happened))
      const read = () => waits.read(new Uint8Array(), 0, 0, true)
      const connection = {}
      const running = yield* Effect.forkChild(read().handle(callOn(connection).call), { startImmediately: true })
      const meanwhile = callOn(connection)
      read().handle(meanwhile.call)
      yield* Deferred.succeed(happened, Uint8Array.of(1))
      assert.deepEqual(yield* Fiber.join(running), Uint8Array.of(1))
      const next = callOn(connection)
      read().handle(next.call)
      assert.deepEqual([meanwhile.state.exempted, next.state.exempted], [false, true])
    }))

  it.effect("does not keep the place of a call whose handler throws", () =>
    Effect.gen(function*() {
      const waits = route(() => {
        throw new Error("broken")
      })
      const connection = {}
      for (let i = 0; i < 2; i++) {
        const { call, state } = callOn(connection)
        const exit = yield* Effect.exit(waits.read(new Uint8Array(), 0, 0, true).handle(call))
        assert.ok(Exit.hasDies(exit))
        assert.ok(state.exempted)
      }
    }))
})
