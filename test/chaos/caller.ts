/**
 * A caller: makes one call or stream after the other, sometimes many at once, and accounts for each.
 */
import { Effect, Exit, Fiber } from "effect"
import { type CallError, Connection, Deadline } from "effect-call"
import { keys, type Refused } from "./contract.ts"
import { endingOf } from "./ending.ts"
import type { Ledger } from "./ledger.ts"
import { limits } from "./limits.ts"
import { makePayload } from "./payload.ts"
import { describePlan, type Plan, planOf } from "./plan.ts"
import type { Random } from "./random.ts"
import type { Recovery } from "./recovery.ts"
import { burst, pauseMillis } from "./settings.ts"
import type { Client, Slot } from "./slots.ts"
import type { StreamCounts } from "./streamCounts.ts"
import { stream } from "./streaming.ts"
import { streamPlanOf } from "./streamPlan.ts"
import type { Phase, World } from "./world.ts"

type Answer = Effect.Effect<Uint8Array | void, CallError.CallError | Refused>

/** The call that a plan describes. */
const callOf = ({ connection, typed }: Client, plan: Plan, payload: Uint8Array<ArrayBuffer>): Answer => {
  const { method, shardKey, timeout, waitForReady } = plan
  const options = { shardKey, waitForReady, timeout: plan.within ? undefined : timeout }
  const within = <A, E>(call: Effect.Effect<A, E>): Effect.Effect<A, E | CallError.DeadlineExceeded> =>
    plan.within && timeout !== undefined ? Deadline.within(call, timeout) : call
  if (plan.api === "bytes" && method !== "note") return within(connection.call(keys[method], payload, options))
  const region = <E>(call: Effect.Effect<Uint8Array | void, E>) => within(Connection.withOptions(call, options))
  const arguments_ = { bytes: payload }
  return method === "note"
    ? region(typed.note(arguments_, { discard: true }))
    : region(typed[method](arguments_))
}

/** Makes a call, gives it up where that is planned, and accounts for it. Gives whether it was answered. */
export const call = Effect.fnUntraced(function*(
  slot: Slot,
  plan: Plan,
  { journal }: World,
  ledger: Ledger,
  recovery: Recovery
) {
  const { client, spec } = slot
  const start = performance.now()
  const open = ledger.begin(plan, client.number, (plan.timeout ?? Infinity) + limits.slack)
  const { id } = open
  const effect = callOf(client, plan, makePayload(id, plan.size, plan.work))
  let interrupted = false
  let exit: Exit.Exit<Uint8Array | void, CallError.CallError | Refused>
  if (plan.interruptAfter === undefined) {
    exit = yield* Effect.exit(effect)
  } else {
    const fiber = yield* Effect.forkChild(effect, { startImmediately: true })
    if (plan.interruptAfter > 0) yield* Effect.raceFirst(Fiber.await(fiber), Effect.sleep(plan.interruptAfter))
    interrupted = true
    ledger.limit(open, limits.slack)
    yield* Fiber.interrupt(fiber)
    exit = yield* Fiber.await(fiber)
  }
  const now = performance.now()
  const ending = endingOf(exit, plan, {
    id,
    elapsed: now - start,
    interrupted,
    closing: client.closing,
    maxMessageSize: spec.options.maxMessageSize ?? Infinity
  })
  ledger.end(open, ending)
  if (ending.stamp !== undefined) recovery.answered(ending.stamp, spec.name, now)
  if (Exit.isFailure(exit) && ending.kind !== "given up") {
    const [reason] = exit.cause.reasons
    journal.add("call", {
      id,
      slot: spec.name,
      connection: client.number,
      plan: describePlan(plan),
      millis: Number((now - start).toFixed(1)),
      ending: ending.kind,
      error: reason?._tag === "Fail" ? reason.error.message : reason?._tag
    })
  }
  return ending
})

/** Calls until the phase is over. */
export const caller = Effect.fnUntraced(function*(
  slot: Slot,
  random: Random,
  phase: Phase,
  world: World,
  ledger: Ledger,
  recovery: Recovery,
  counts: StreamCounts
) {
  const { habits } = slot.spec
  const callOnce = Effect.suspend(() =>
    random.chance(habits.streams)
      ? Effect.asVoid(stream(slot, streamPlanOf(random, habits), world, ledger, recovery, counts))
      : Effect.asVoid(call(slot, planOf(random, habits), world, ledger, recovery))
  )
  while (true) {
    // The shorter pauses are the more frequent ones, as with callers that know nothing of each other.
    yield* phase.pause(-pauseMillis * Math.log(1 - random.next()))
    if (phase.isOver) return
    const count = random.chance(burst.chance) ? random.whole(2, burst.most) : 1
    yield* Effect.forEach(Array.from({ length: count }), () => callOnce, { concurrency: "unbounded", discard: true })
  }
})
