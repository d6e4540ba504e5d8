/**
 * Accepting from listeners of this package, and from a user's own, which may give anything.
 */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber } from "effect"
import { HandlerMap, type Listener } from "effect-call"
import { TestClock } from "effect/testing"
import { acceptFrom, arrivalsOf, checkHandlers, fromArrivals } from "../../../src/internal/net/accept.ts"
import { ArrivalQueue } from "../../../src/internal/net/arrivals.ts"
import * as DuplexPair from "../../../src/internal/testing/duplexPair.ts"
import { makeLog } from "../../support/log.ts"

const accept = (listener: Listener.Listener<never>) =>
  Effect.uninterruptibleMask((restore) => acceptFrom(listener, listener.address, restore))

/** A listener of this package with these connections, one for each of the handlers. */
const withArrivals = (...handlers: ReadonlyArray<Listener.Handlers<never>>) => {
  const arrivals = new ArrivalQueue<never>()
  const connections = handlers.map((handlers, i) => {
    const connection = DuplexPair.make().server
    arrivals.offer({ connection, peer: { address: `peer ${i}` }, handlers })
    return connection
  })
  return { connections, listener: fromArrivals({ address: "test://a", arrivals, close: Effect.void }) }
}

/** A user's listener, which gives these things in turn. */
const foreign = (...given: Array<unknown>): Listener.Listener<never> => ({
  address: "test://own",
  // As it may come from a program without types.
  accept: Effect.suspend(() => given.length === 0 ? Effect.never : Effect.succeed(given.shift() as never)),
  close: Effect.void
})

describe("accepting from a listener of this package", () => {
  it.effect("picks the handlers by the peer", () =>
    Effect.gen(function*() {
      const seen: Array<string> = []
      const { connections, listener } = withArrivals(({ address }) => {
        seen.push(address)
        return HandlerMap.empty
      })
      const accepted = yield* accept(listener)
      assert.strictEqual(accepted.connection, connections[0])
      assert.strictEqual(accepted.handlers, HandlerMap.empty)
      assert.deepStrictEqual(seen, ["peer 0"])
    }))

  it.effect("closes a connection whose handlers cannot be picked, logs that, and gives the next one", () => {
    const log = makeLog()
    return Effect.gen(function*() {
      const { connections, listener } = withArrivals(
        () => {
          throw new Error("no handlers")
        },
        // As it may come from a program without types.
        () => undefined as never,
        HandlerMap.empty
      )
      assert.strictEqual((yield* accept(listener)).connection, connections[2])
      assert.deepStrictEqual(connections.map(({ destroyed }) => destroyed), [true, true, false])
      assert.deepStrictEqual(
        log.lines.map(({ annotations, level }) => [level, annotations["listener"], annotations["peer"]]),
        [["Error", "test://a", "peer 0"], ["Error", "test://a", "peer 1"]]
      )
    }).pipe(Effect.provide(log.layer))
  })

  it.effect("picks no handlers where only an arrival is asked for", () =>
    Effect.gen(function*() {
      const handlers = () => assert.fail("picked")
      const { listener } = withArrivals(handlers)
      const arrival = yield* Effect.uninterruptibleMask((restore) => arrivalsOf(listener, "test://a", restore))
      assert.strictEqual(arrival.handlers, handlers)
      assert.strictEqual(arrival.peer.address, "peer 0")
    }))

  it.effect("goes by the accept of a copy that has another one", () =>
    Effect.gen(function*() {
      const { listener } = withArrivals(() => assert.fail("picked"))
      const connection = DuplexPair.make().server
      const own = { ...listener, accept: Effect.succeed({ connection, handlers: HandlerMap.empty }) }
      assert.strictEqual((yield* accept(own)).connection, connection)
    }))
})

describe("accepting from a user's listener", () => {
  it.effect("gives its connections with their handlers, and its own address as that of the peer", () =>
    Effect.gen(function*() {
      const given = { connection: DuplexPair.make().server, handlers: HandlerMap.empty }
      assert.deepStrictEqual(yield* accept(foreign(given)), given)
      const arrival = yield* Effect.uninterruptibleMask((restore) => arrivalsOf(foreign(given), "test://own", restore))
      assert.deepStrictEqual(arrival.peer, { address: "test://own" })
    }))

  it.effect("logs what is not a connection, and asks again 100 ms later", () => {
    const log = makeLog()
    return Effect.gen(function*() {
      const given = { connection: DuplexPair.make().server, handlers: HandlerMap.empty }
      const accepting = yield* Effect.forkChild(accept(foreign(undefined, { connection: "text" }, given)), {
        startImmediately: true
      })
      yield* TestClock.adjust(100)
      assert.strictEqual(accepting.pollUnsafe(), undefined)
      yield* TestClock.adjust(99)
      assert.strictEqual(accepting.pollUnsafe(), undefined)
      yield* TestClock.adjust(1)
      assert.deepStrictEqual(yield* Fiber.join(accepting), given)
      assert.deepStrictEqual(log.lines.map(({ level }) => level), ["Error", "Error"])
    }).pipe(Effect.provide(log.layer))
  })

  it.effect("can be interrupted in the wait after what is not a connection", () =>
    Effect.gen(function*() {
      const accepting = yield* Effect.forkChild(accept(foreign("text")), { startImmediately: true })
      yield* Fiber.interrupt(accepting)
    }).pipe(Effect.provide(makeLog().layer)))
})

describe("the handlers of a listener", () => {
  it("are a HandlerMap or a function, and refused otherwise", () => {
    checkHandlers(HandlerMap.empty)
    checkHandlers(() => HandlerMap.empty)
    // As they may come from a program without types.
    for (const wrong of [undefined, {}, Promise.resolve(HandlerMap.empty)]) {
      assert.throws(() => checkHandlers(wrong as never), /the handlers of a listener/)
    }
  })
})
