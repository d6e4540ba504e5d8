/**
 * `optimisticSpinDuration`: whether the event loop sleeps while a call is on its way.
 */
import { describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { HandlerMap, MethodKey } from "effect-call"
import * as assert from "node:assert/strict"
import { component, connect, tcp } from "../support/networks.ts"

const slow = MethodKey.make(component, "slow")
const nothing = new Uint8Array()
const millis = 40

/** How long the event loop slept meanwhile, in milliseconds. */
const slept = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.suspend(() => {
    const before = performance.eventLoopUtilization()
    return Effect.map(effect, () => performance.eventLoopUtilization(before).idle)
  })

/**
 * Whether the loop sleeps for more than `least` ms meanwhile. On a busy machine it may be kept from it, so it is looked
 * at more than once.
 */
const sleeps = <A, E, R>(effect: Effect.Effect<A, E, R>, least: number) =>
  slept(effect).pipe(
    Effect.repeat({ until: (idle) => idle > least, times: 20 }),
    Effect.map((idle) => assert.ok(idle > least, `${idle} ms`))
  )

/** Connects to a handler that takes its time, over a connection that is open by then. */
const open = Effect.fnUntraced(function*(optimisticSpinDuration?: number) {
  const handlers = HandlerMap.set(HandlerMap.empty, component, "slow", (args) => Effect.as(Effect.sleep(millis), args))
  const { endpoint } = yield* tcp.serve(HandlerMap.set(handlers, component, "fast", (args) => Effect.succeed(args)))
  const connection = yield* connect([endpoint], optimisticSpinDuration === undefined ? {} : { optimisticSpinDuration })
  yield* connection.call(MethodKey.make(component, "fast"), nothing)
  return connection
})

describe("while a call is on its way, the event loop", () => {
  it.live("sleeps, by default", () =>
    Effect.gen(function*() {
      const connection = yield* open()
      yield* sleeps(connection.call(slow, nothing), millis / 2)
    }).pipe(Effect.scoped))

  it.live("does not sleep for as long as optimisticSpinDuration says, and sleeps again once the answer is there", () =>
    Effect.gen(function*() {
      const connection = yield* open(60_000)
      const idle = yield* slept(connection.call(slow, nothing))
      assert.ok(idle < millis / 4, `${idle} ms`)
      yield* sleeps(Effect.sleep(millis), millis / 2)
    }).pipe(Effect.scoped))

  it.live("sleeps when that is over, whether or not there is an answer", () =>
    Effect.gen(function*() {
      const connection = yield* open(5)
      yield* sleeps(connection.call(slow, nothing), millis / 4)
    }).pipe(Effect.scoped))
})
