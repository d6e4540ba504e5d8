/**
 * What is checked when there are no more faults, and when everything is closed.
 */
import { Effect, Metric } from "effect"
import type { Memory } from "../benchmark/support.ts"
import { call } from "./caller.ts"
import type { Cast } from "./cast.ts"
import { eventually } from "./eventually.ts"
import type { Ledger } from "./ledger.ts"
import { activeResources, added } from "./leftovers.ts"
import { limits } from "./limits.ts"
import { nothing, type Order, orderSize, type Sequence } from "./order.ts"
import { headerSize } from "./payload.ts"
import type { Plan } from "./plan.ts"
import { Random } from "./random.ts"
import type { Resident } from "./resident.ts"
import type { Slot } from "./slots.ts"
import { stream } from "./streaming.ts"
import { describe, type StreamPlan } from "./streamPlan.ts"
import type { Violations } from "./violations.ts"

/** How many calls of each slot have to be answered when there are no more faults. */
const healthyCalls = 50

/** A call that has every reason to be answered; its key leads it to any replica. */
const healthyPlan = (random: Random, timeout: number | undefined): Plan => ({
  api: "bytes",
  method: "echo",
  size: headerSize,
  work: 0,
  timeout,
  within: false,
  interruptAfter: undefined,
  shardKey: BigInt(random.whole(0, 2 ** 32)),
  waitForReady: true
})

/** Streams that have every reason to end well, of each method. */
const healthyStreams = (random: Random): ReadonlyArray<StreamPlan> => {
  const items: Sequence = { count: 40, smallest: headerSize, largest: 4096, chunk: 8, pause: 0, end: "clean" }
  const order = (down: Sequence, up: Sequence): Order => ({
    down,
    up,
    takes: undefined,
    work: 0,
    stops: false,
    leaving: "goesOn"
  })
  return (["feed", "queue", "upload", "chat"] as const).flatMap((method) =>
    (["bytes", "typed"] as const).filter((api) => api === "typed" || method !== "queue").map((api) => ({
      ...healthyPlan(random, limits.health),
      api,
      method,
      size: orderSize,
      order: method === "feed" || method === "queue" ? order(items, nothing) : order(nothing, items),
      asQueue: false,
      take: undefined,
      pause: 0
    }))
  )
}

const checkSlot = Effect.fnUntraced(function*(slot: Slot, { ledger, recovery, replicas, streams, world }: Cast) {
  const { violations } = world
  const random = new Random(world.seed, `health of ${slot.spec.name}`)
  const callWithin = (millis: number) => call(slot, healthyPlan(random, millis), world, ledger, recovery)
  // What broke a moment ago may still have to be dialed again.
  const missing = new Map(replicas.map(({ spec, stamp }) => [stamp, spec.name]))
  const until = performance.now() + limits.recovery
  while (missing.size > 0 && performance.now() < until) {
    const { stamp } = yield* callWithin(limits.slack)
    if (stamp !== undefined) missing.delete(stamp)
  }
  if (missing.size > 0) {
    const names = [...missing.values()].join(", ")
    const state = JSON.stringify(yield* slot.client.connection.state)
    violations.add("notUsedAgain", `${slot.spec.name}: no answer from ${names} after all was healed; it says ${state}`)
  }
  for (let i = 0; i < healthyCalls; i++) {
    const { kind, stamp } = yield* callWithin(limits.health)
    if (stamp !== undefined) continue
    // Where nothing is answered, each would take its time.
    return violations.add("failedWhenHealed", `${slot.spec.name}: ${kind}`)
  }
  for (const plan of healthyStreams(random)) {
    const { kind } = yield* stream(slot, plan, world, ledger, recovery, streams)
    if (kind !== "stream: whole") violations.add("failedWhenHealed", `${slot.spec.name}: ${describe(plan)}: ${kind}`)
  }
})

/** Every slot reaches every replica, and no call fails. */
export const checkHealth = (cast: Cast): Effect.Effect<void> =>
  Effect.forEach(cast.slots, (slot) => checkSlot(slot, cast), { concurrency: "unbounded", discard: true })

/** No Connection counts a call or a stream that has ended. */
export const checkNothingInFlight = ({ slots, world }: Cast): Effect.Effect<void> =>
  Effect.forEach(slots, ({ client: { connection }, spec }) =>
    Effect.map(
      eventually(
        Effect.map(connection.state, (state) =>
          state.endpoints.some(({ callsInFlight, streams }) =>
              callsInFlight > 0 || streams > 0
            )
            ? state
            : undefined),
        limits.close
      ),
      (left) => {
        if (left !== undefined) world.violations.add("inFlightLeft", `${spec.name}: ${JSON.stringify(left)}`)
      }
    ), { concurrency: "unbounded", discard: true })

/** How many calls of each slot are in flight when it is closed. */
const endlessCalls = 20

/** A deadline that is not going to come, in ms. */
const farAway = 3_600_000

/**
 * Makes calls that no server answers, and streams that no side ends, with no deadline or one that is far away. They go
 * on when this has ended, until they are closed.
 */
export const callEndlessly = Effect.fnUntraced(function*({ ledger, recovery, slots, streams, world }: Cast) {
  const calls = slots.flatMap((slot) => {
    const random = new Random(world.seed, `endless calls of ${slot.spec.name}`)
    return Array.from({ length: endlessCalls }, (_, index) => {
      const plan: Plan = { ...healthyPlan(random, index % 2 === 0 ? undefined : farAway), method: "never" }
      return Effect.asVoid(call(slot, plan, world, ledger, recovery))
    }).concat(
      healthyStreams(random).map((plan, index) => {
        const { down, up } = plan.order
        const endless = (sequence: Sequence) =>
          sequence === nothing ? nothing : { ...sequence, count: undefined, pause: 20 }
        const order = { ...plan.order, down: endless(down), up: endless(up) }
        const timeout = index % 2 === 0 ? undefined : farAway
        return Effect.asVoid(stream(slot, { ...plan, order, timeout }, world, ledger, recovery, streams))
      })
    )
  })
  const calling = yield* Effect.forkChild(Effect.all(calls, { concurrency: "unbounded", discard: true }))
  // So long that they are with their handlers, mostly.
  yield* Effect.sleep(limits.poll)
  return calling
})

/** No call is open. */
export const checkNothingOpen = (ledger: Ledger): Effect.Effect<void> =>
  Effect.andThen(
    eventually(Effect.sync(() => ledger.open.size === 0 ? undefined : ledger.open.size), limits.close),
    Effect.sync(() => ledger.checkOpen())
  )

/** What is alive has not become more, and in a run that is long enough the RSS has settled. */
export const checkMemory = (
  { end, resident, seconds, start }: {
    readonly start: Memory
    readonly end: Memory
    readonly resident: Resident
    readonly seconds: number
  },
  violations: Violations
): void => {
  const alive = ({ external, heapUsed }: Memory) => heapUsed + external
  const grown = alive(end) - alive(start)
  if (grown > limits.grownMemory) {
    violations.add("memoryGrew", `${(grown / 2 ** 20).toFixed(1)} MiB more were alive after all was closed`)
  }
  const { growth } = resident
  if (seconds >= limits.settled && growth > limits.grownResident) {
    violations.add("residentGrew", `from its third quarter to its fourth by ${(100 * growth).toFixed(0)} %`)
  }
}

/** The client's metrics have counted every call once. */
export const checkCounted = ({ started }: Ledger, violations: Violations): Effect.Effect<void> =>
  Effect.map(Metric.snapshot, (snapshot) => {
    let counted = 0
    for (const { id, state } of snapshot) {
      if (id === "rpc.client.call.duration" && "count" in state) counted += Number(state.count)
    }
    if (counted !== started) violations.add("notCounted", `${counted} of ${started} calls`)
  })

/** Nothing is left that was not there `before`. */
export const checkResources = (before: ReadonlyArray<string>, violations: Violations): Effect.Effect<void> =>
  Effect.map(
    // In a turn of its own: while a timer's callback runs, the timer is still there.
    eventually(
      Effect.callback<ReadonlyArray<string> | undefined>((resume) => {
        setImmediate(() => {
          const left = added(before, activeResources())
          resume(Effect.succeed(left.length === 0 ? undefined : left))
        })
      }),
      limits.close
    ),
    (left) => {
      if (left !== undefined) violations.add("resourcesLeft", left.join(", "))
    }
  )
