/**
 * A client's connection that is full: who waits for room, and whose turn it is.
 */
import { describe, it } from "@effect/vitest"
import { Clock, Context, Effect, Fiber } from "effect"
import * as assert from "node:assert/strict"
import { Duplex } from "node:stream"
import { Call } from "../../../src/internal/client/call.ts"
import { ClientSession } from "../../../src/internal/client/session.ts"
import { echo } from "../../support/networks.ts"

const kibibyte = 1024

/** A session that counts how often somebody looks for room. */
class Counting extends ClientSession {
  looks = 0

  override hasRoom(): boolean {
    this.looks++
    return super.hasRoom()
  }
}

const turn = Effect.callback<void>((resume) => {
  setImmediate(() => resume(Effect.void))
})

/** A session that is full, over a duplex that is done with a write when it is told so. */
const full = Effect.gen(function*() {
  const writing: Array<() => void> = []
  const duplex = new Duplex({
    writableHighWaterMark: 100,
    read: () => {},
    writev: (_chunks, done) => void writing.push(done)
  })
  yield* Effect.addFinalizer(() => Effect.sync(() => void duplex.destroy()))
  const session = new Counting("test://full", duplex, {
    onReady: () => {},
    onFlush: () => {},
    onIdle: () => {},
    onOver: () => {},
    onUnsent: () => {}
  }, {
    clock: yield* Clock.Clock,
    context: Context.empty(),
    writeFlattenLimit: 16 * kibibyte,
    maxMessageSize: 1024 * kibibyte,
    optimisticSpinMillis: 0
  }, undefined)
  session.start(undefined)
  const send = (size: number) => {
    session.send(new Call(echo, undefined, Infinity, undefined, undefined, () => {}), new Uint8Array(size))
  }
  while (session.hasRoom()) send(100 * kibibyte)
  yield* turn
  // The version message, which is written by itself.
  writing.shift()?.()
  yield* turn
  /** The duplex is done with all that it was given, and is given what has come since. */
  const drain = Effect.gen(function*() {
    assert.equal(writing.length, 1)
    writing.shift()?.()
    yield* turn
    yield* turn
  })
  return { session, send, drain }
})

describe("a session that is full", () => {
  it.live("lets those who wait go on in their order, and no more of them than there is room for", () =>
    Effect.gen(function*() {
      const { drain, send, session } = yield* full
      const order: Array<number> = []
      const waiters = yield* Effect.forEach([0, 1, 2, 3, 4], (n) =>
        Effect.map(session.whenRoom, () => {
          order.push(n)
          send(600 * kibibyte)
        }).pipe(Effect.forkChild({ startImmediately: true })))
      yield* Fiber.interrupt(waiters[1]!)
      yield* turn
      assert.deepEqual(order, [])
      yield* drain
      assert.deepEqual(order, [0, 2])
      yield* drain
      assert.deepEqual(order, [0, 2, 3, 4])
      yield* drain
      yield* session.whenRoom
    }).pipe(Effect.scoped))

  it.live("looks at no more of a thousand who wait than go on", () =>
    Effect.gen(function*() {
      const { drain, send, session } = yield* full
      let gone = 0
      for (let i = 0; i < 1000; i++) {
        yield* Effect.map(session.whenRoom, () => {
          gone++
          send(600 * kibibyte)
        }).pipe(Effect.forkScoped({ startImmediately: true }))
      }
      session.looks = 0
      yield* drain
      assert.equal(gone, 2)
      assert.ok(session.looks < 10, `${session.looks} looks`)
    }).pipe(Effect.scoped))

  it.live("forgets those who are interrupted while they wait", () =>
    Effect.gen(function*() {
      const { session } = yield* full
      const waiters = yield* Effect.forEach([1, 2, 3], () =>
        Effect.forkChild(session.whenRoom, { startImmediately: true }))
      // Nobody else can see it: they would only be kept, and be woken for nothing.
      assert.equal(session["roomWaiters"].size, 3)
      yield* Fiber.interruptAll(waiters)
      assert.equal(session["roomWaiters"].size, 0)
    }).pipe(Effect.scoped))

  it.live("lets all of them go when it is over", () =>
    Effect.gen(function*() {
      const { session } = yield* full
      const waiters = yield* Effect.forEach([1, 2, 3], () =>
        Effect.forkChild(session.whenRoom, { startImmediately: true }))
      session.close()
      yield* Fiber.joinAll(waiters)
    }).pipe(Effect.scoped))
})
