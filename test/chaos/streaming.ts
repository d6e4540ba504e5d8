/**
 * A stream of the soak from the side of its client: it is opened, read and given up as planned, and accounted for.
 */
import { Effect, Exit, Fiber, Stream } from "effect"
import { type CallError, Connection, Deadline } from "effect-call"
import { ItemsFailed, keys, type Refused } from "./contract.ts"
import type { Ledger } from "./ledger.ts"
import { limits } from "./limits.ts"
import { ItemReader, itemsOf, longestPauses, makeOrder, pausing } from "./order.ts"

import { headerSize, readAnswer, readPayload, stampSize } from "./payload.ts"
import type { Recovery } from "./recovery.ts"
import type { Client, Slot } from "./slots.ts"
import type { StreamCounts } from "./streamCounts.ts"
import { type Received, streamEndingOf, type StreamError } from "./streamEnding.ts"
import { describe, type StreamPlan } from "./streamPlan.ts"
import type { World } from "./world.ts"

type Items = Stream.Stream<Uint8Array, CallError.CallError | Refused | ItemsFailed>

/** What the client sends. */
const upOf = (
  id: number,
  { order: { up } }: StreamPlan,
  counts: StreamCounts
): Stream.Stream<Uint8Array, ItemsFailed> => {
  const items = itemsOf(id, up, counts.made)
  return up.end === "fail" ? Stream.concat(items, Stream.fail(new ItemsFailed({ id }))) : items
}

/** The stream that a plan describes. */
const streamOf = ({ connection, typed }: Client, id: number, plan: StreamPlan, counts: StreamCounts): Items => {
  const { asQueue, method } = plan
  const args = makeOrder(id, plan.size, plan.order)
  if (plan.api === "bytes" && method !== "queue") {
    return method === "feed"
      ? connection.stream(keys.feed, args)
      : connection.stream(keys[method], args, { items: upOf(id, plan, counts) })
  }
  const payload = { bytes: args }
  switch (method) {
    case "feed":
    case "queue":
      return asQueue
        ? Stream.unwrap(Effect.map(typed[method](payload, { asQueue: true }), Stream.fromQueue))
        : typed[method](payload)
    case "upload":
      return Stream.fromEffect(typed.upload(payload, upOf(id, plan, counts)))
    case "chat":
      return asQueue
        ? Stream.unwrap(
          Effect.map(typed.chat(payload, upOf(id, plan, counts), { asQueue: true }), Stream.fromQueue)
        )
        : typed.chat(payload, upOf(id, plan, counts))
  }
}

/** What an upload has as its result: how many items its handler has taken. */
class ResultReader {
  count = 0
  bytes = 0
  stamp: number | undefined = undefined
  problem: string | undefined = undefined
  taken: number | undefined = undefined
  private readonly id: number

  constructor(id: number) {
    this.id = id
  }

  readonly take = (results: ReadonlyArray<Uint8Array>): void => {
    for (const result of results) {
      this.count++
      this.bytes += result.length
      const answer = readAnswer(result, this.id, headerSize)
      const payload = readPayload(result.subarray(stampSize))
      if (typeof answer === "string" || typeof payload === "string") {
        this.problem ??= typeof answer === "string" ? answer : typeof payload === "string" ? payload : undefined
        continue
      }
      this.stamp = answer.stamp
      this.taken = payload.work
    }
    if (this.count > 1) this.problem ??= `${this.count} results`
  }
}

/** Opens a stream, gives it up where that is planned, and accounts for it. */
export const stream = Effect.fnUntraced(function*(
  slot: Slot,
  plan: StreamPlan,
  { journal, stopped }: World,
  ledger: Ledger,
  recovery: Recovery,
  counts: StreamCounts
) {
  const { client, spec } = slot
  const { method, order, shardKey, timeout, waitForReady } = plan
  const start = performance.now()
  // A reader that pauses sees the end when it reads on.
  const open = ledger.begin(plan, client.number, (timeout ?? Infinity) + limits.slack + longestPauses)
  const { id } = open
  const reader = method === "upload"
    ? new ResultReader(id)
    : new ItemReader(id, method === "chat" ? order.up : order.down, true)
  let isKnown = false
  const pause = plan.pause === Infinity ? Effect.never : pausing(plan.pause)
  const items = streamOf(client, id, plan, counts)
  const reading = Stream.runForEachArray(
    plan.take === undefined ? items : Stream.take(items, plan.take),
    (chunk) =>
      Effect.suspend(() => {
        reader.take(chunk)
        counts.received(chunk)
        if (!isKnown && reader.stamp !== undefined) {
          isKnown = true
          recovery.answered(reader.stamp, spec.name, performance.now())
        }
        return pause
      })
  )
  const options = { shardKey, waitForReady, timeout: plan.within ? undefined : timeout }
  const region: Effect.Effect<void, StreamError> = Connection.withOptions(reading, options)
  const effect = plan.within && timeout !== undefined ? Deadline.within(region, timeout) : region
  let interrupted = false
  let exit: Exit.Exit<void, StreamError>
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
  const received: Received = {
    count: reader.count,
    stamp: reader.stamp,
    problem: reader.problem,
    taken: reader instanceof ResultReader ? reader.taken : undefined
  }
  const ending = streamEndingOf(exit, plan, {
    id,
    elapsed: now - start,
    interrupted,
    closing: client.closing,
    maxMessageSize: spec.options.maxMessageSize ?? Infinity,
    received,
    isLeaving: received.stamp === undefined ? stopped.size > 0 : stopped.has(received.stamp)
  })
  ledger.end(open, ending)
  counts.ended(plan, reader.count)
  if (ending.problem !== undefined || (Exit.isFailure(exit) && ending.kind !== "stream: given up")) {
    const [reason] = Exit.isFailure(exit) ? exit.cause.reasons : []
    journal.add("stream", {
      id,
      slot: spec.name,
      connection: client.number,
      plan: describe(plan),
      millis: Number((now - start).toFixed(1)),
      ...received,
      ending: ending.kind,
      error: reason?._tag === "Fail" ? reason.error.message : reason?._tag
    })
  }
  return { ...ending, stamp: received.stamp }
})
