import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber } from "effect"
import { HandlerMap, Listener } from "effect-call"
import { ArrivalQueue } from "../../../src/internal/net/arrivals.ts"
import * as DuplexPair from "../../../src/internal/testing/duplexPair.ts"

const arrive = (address: string) => ({
  connection: DuplexPair.make().server,
  peer: { address },
  handlers: HandlerMap.empty
})
const ended = new Listener.ListenerError({ message: "ended" })

const take = <R>(queue: ArrivalQueue<R>) => Effect.uninterruptibleMask((restore) => queue.take(restore))

describe("ArrivalQueue", () => {
  it.effect("forgets a connection that dies while it waits", () =>
    Effect.gen(function*() {
      const queue = new ArrivalQueue()
      const [dead, dying, live] = [arrive("dead"), arrive("dying"), arrive("live")]
      for (const arrival of [dead, dying, live]) queue.offer(arrival)
      yield* Effect.callback<void>((resume) => {
        dead.connection.once("close", () => resume(Effect.void))
        dead.connection.destroy()
      })
      assert.strictEqual(queue.size, 2)
      // Its "close" has not come yet when the next one is taken.
      dying.connection.destroy()
      assert.strictEqual(yield* take(queue), live)
      assert.strictEqual(queue.size, 0)
      assert.strictEqual(live.connection.listenerCount("close"), 0)
    }))

  it.effect("does not take a connection in that is already dead", () =>
    Effect.gen(function*() {
      const queue = new ArrivalQueue()
      const dead = arrive("dead")
      dead.connection.destroy()
      queue.offer(dead)
      assert.strictEqual(queue.size, 0)
      const live = arrive("live")
      queue.offer(live)
      assert.strictEqual(yield* take(queue), live)
    }))

  it.effect("gives each of several takers one connection", () =>
    Effect.gen(function*() {
      const queue = new ArrivalQueue()
      const takers = yield* Effect.forEach(
        [1, 2, 3],
        () => Effect.forkChild(take(queue), { startImmediately: true })
      )
      const arrivals = ["a", "b", "c"].map(arrive)
      for (const arrival of arrivals) queue.offer(arrival)
      const taken = yield* Effect.forEach(takers, Fiber.join)
      assert.deepStrictEqual(taken.map(({ peer }) => peer.address).toSorted(), ["a", "b", "c"])
    }))

  it.effect("keeps a connection for the next taker when the one that was woken for it is interrupted", () =>
    Effect.gen(function*() {
      const queue = new ArrivalQueue()
      const taker = yield* Effect.forkChild(take(queue), { startImmediately: true })
      taker.interruptUnsafe()
      const arrival = arrive("a")
      queue.offer(arrival)
      yield* Fiber.await(taker)
      assert.strictEqual(yield* take(queue), arrival)
    }))

  it.effect("ends its takers and destroys what waits when it is closed, and what comes later", () =>
    Effect.gen(function*() {
      const queue = new ArrivalQueue()
      const taker = yield* Effect.forkChild(Effect.flip(take(queue)), { startImmediately: true })
      queue.close(ended)
      queue.close(new Listener.ListenerError({ message: "ended again" }))
      assert.strictEqual(yield* Fiber.join(taker), ended)
      const late = arrive("late")
      queue.offer(late)
      assert.isTrue(late.connection.destroyed)
      assert.strictEqual(yield* Effect.flip(take(queue)), ended)

      const other = new ArrivalQueue()
      const waiting = arrive("waiting")
      other.offer(waiting)
      other.close(ended)
      assert.isTrue(waiting.connection.destroyed)
      assert.strictEqual(yield* Effect.flip(take(other)), ended)
    }))
})
