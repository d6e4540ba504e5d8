/**
 * Connections that are full: who waits for room, and whose turn it is.
 */
import { describe, it } from "@effect/vitest"
import { Clock, Context, Duration, Effect, Fiber } from "effect"
import * as assert from "node:assert/strict"
import { Duplex } from "node:stream"
import { Turn } from "../../../src/internal/ambient/turn.ts"
import { Call, type CallOwner } from "../../../src/internal/client/call.ts"
import { Pool } from "../../../src/internal/client/pool.ts"
import { LogQueue } from "../../../src/internal/log.ts"
import { Warnings } from "../../../src/internal/warnings.ts"
import { echo } from "../../support/networks.ts"
import { version } from "../../support/raw.ts"

const kibibyte = 1024

const owner: CallOwner = { onUnsent: () => {}, onRefused: () => {} }

const turn = Effect.callback<void>((resume) => {
  setImmediate(() => resume(Effect.void))
})

/** A pool whose only connection is full, over a duplex that is done with a write when it is told so. */
const full = Effect.gen(function*() {
  const writing: Array<() => void> = []
  const duplex = new Duplex({
    writableHighWaterMark: 100,
    read: () => {},
    writev: (_chunks, done) => void writing.push(done)
  })
  yield* Effect.addFinalizer(() => Effect.sync(() => void duplex.destroy()))
  const pool = new Pool({ address: "test://full", dial: Effect.succeed(duplex) }, {
    clock: yield* Clock.Clock,
    warnings: new Warnings(yield* Clock.Clock),
    context: Context.empty(),
    scope: yield* Effect.scope,
    metrics: undefined,
    random: () => 0.5,
    turn: new Turn(),
    logs: new LogQueue(Context.empty()),
    onTrouble: () => {},
    connectionsPerEndpoint: 1,
    eager: false,
    slowStartMillis: 0,
    health: undefined,
    dialTimeout: Duration.seconds(5),
    backoff: { initial: 50, factor: 1.6, max: 5000, jitter: 0 },
    writeFlattenLimit: 16 * kibibyte,
    maxMessageSize: 1024 * kibibyte,
    maxUnsentBytes: 1024 * kibibyte,
    messageTimeoutMillis: 60_000,
    keepAlive: undefined,
    probesAlways: false,
    streamWindow: 1_048_576,
    streamBudget: 16_777_216,
    optimisticSpinMillis: 0
  }, {
    onChange: () => {},
    onOpen: () => {},
    onHealth: () => {},
    onFailed: () => {},
    onDown: () => {},
    onBackoff: () => {},
    onGone: () => {},
    onAnswered: () => {},
    onCallFailed: () => {}
  })
  duplex.push(version)
  const dialed = yield* pool.acquire()
  assert.ok(dialed._tag === "Ready")
  const { calls } = dialed
  // Counts how often it is looked for room.
  const seen = { looks: 0 }
  const hasRoom = calls.hasRoom.bind(calls)
  calls.hasRoom = () => {
    seen.looks++
    return hasRoom()
  }
  const send = (size: number) => {
    calls.send(new Call(echo, undefined, Infinity, undefined, undefined, () => {}, owner), new Uint8Array(size))
  }
  while (calls.hasRoom()) send(100 * kibibyte)
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
  return { pool, seen, send, drain }
})

describe("a pool that is full", () => {
  it.live("lets waiting callers continue in their order, and no more of them than there is room for", () =>
    Effect.gen(function*() {
      const { drain, pool, send } = yield* full
      const order: Array<number> = []
      const waiters = yield* Effect.forEach([0, 1, 2, 3, 4], (n) =>
        Effect.map(pool.room.whenRoom(), () => {
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
      yield* pool.room.whenRoom()
    }).pipe(Effect.scoped))

  it.live("looks at no more of a thousand waiting callers than continue", () =>
    Effect.gen(function*() {
      const { drain, pool, seen, send } = yield* full
      let gone = 0
      for (let i = 0; i < 1000; i++) {
        yield* Effect.map(pool.room.whenRoom(), () => {
          gone++
          send(600 * kibibyte)
        }).pipe(Effect.forkScoped({ startImmediately: true }))
      }
      seen.looks = 0
      yield* drain
      assert.equal(gone, 2)
      assert.ok(seen.looks < 10, `${seen.looks} looks`)
    }).pipe(Effect.scoped))

  it.live("forgets callers that are interrupted while they wait", () =>
    Effect.gen(function*() {
      const { pool } = yield* full
      const waiters = yield* Effect.forEach([1, 2, 3], () =>
        Effect.forkChild(pool.room.whenRoom(), { startImmediately: true }))
      // No caller can see that: waiters would only be kept, and be woken in vain.
      assert.equal(pool.room.size, 3)
      yield* Fiber.interruptAll(waiters)
      assert.equal(pool.room.size, 0)
    }).pipe(Effect.scoped))

  it.live("lets all of them continue when it is over", () =>
    Effect.gen(function*() {
      const { pool } = yield* full
      const waiters = yield* Effect.forEach([1, 2, 3], () =>
        Effect.forkChild(pool.room.whenRoom(), { startImmediately: true }))
      pool.close()
      yield* Fiber.joinAll(waiters)
    }).pipe(Effect.scoped))
})
