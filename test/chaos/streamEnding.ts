/**
 * How a stream ended: what is counted, what it says about its execution, and whether it is an end that such a stream
 * can have.
 */
import { Cause, Exit, Option } from "effect"
import type { CallError } from "effect-call"
import { failureOf, type ItemsFailed, type Refused } from "./contract.ts"
import { type Circumstances, isTooLarge, tolerance } from "./ending.ts"
import type { Ending } from "./ledger.ts"
import { comesBack, type StreamPlan } from "./streamPlan.ts"

/** What has come of a stream when it ends. */
export interface Received {
  /** How many items have come. Of an upload, it is its result. */
  readonly count: number
  /** The process that has sent them; undefined where none has come. */
  readonly stamp: number | undefined
  /** What is wrong with them. */
  readonly problem: string | undefined
  /** How many items an upload's handler has taken. */
  readonly taken: number | undefined
}

export interface StreamCircumstances extends Circumstances {
  readonly received: Received
  /** Whether the process that served it was told to stop; where no item has come, whether any was. */
  readonly isLeaving: boolean
}

export type StreamError = CallError.CallError | Refused | ItemsFailed

/** What a stream's ends are called. */
const named = (kind: string): string => `stream: ${kind}`

export const streamEndingOf = (
  exit: Exit.Exit<void, StreamError>,
  plan: StreamPlan,
  circumstances: StreamCircumstances
): Ending => {
  const { received } = circumstances
  const ending = Exit.isSuccess(exit) ? ended(plan, circumstances) : failed(exit.cause, plan, circumstances)
  const problem = received.problem ?? ending.problem
  // What has sent items has run, whatever its end says.
  const wasRefused = ending.executed === "never" && received.count > 0
  return {
    kind: named(ending.kind),
    executed: ending.executed === "perhaps" && received.count > 0 ? "once" : ending.executed,
    problem: problem ?? (wasRefused ? `behind ${received.count} items` : undefined)
  }
}

const ended = (plan: StreamPlan, { isLeaving, received }: StreamCircumstances): Ending => {
  const { method, order, take } = plan
  const { count, taken } = received
  const executed = "once"
  if (take !== undefined && count >= take) {
    const kind = "its reader had enough"
    return { kind, executed, problem: count > take ? `${count} items, expected ${take}` : undefined }
  }
  const cutShort = isLeaving && order.leaving === "ends"
  const all = method === "upload" ? Math.min(order.up.count ?? Infinity, order.takes ?? Infinity) : comesBack(plan)
  const got = method === "upload" ? taken ?? 0 : count
  if (got < all && cutShort) return { kind: "ended, since its replica left", executed }
  const end = method === "feed" || method === "queue" ? order.down.end : endOf(plan)
  const problem = got !== all
    ? `${got} items, expected ${all}`
    : end !== "clean"
    ? `it was to ${end}`
    : undefined
  return { kind: "whole", executed, problem }
}

/** How a handler of items ends when it has taken what it takes. */
const endOf = ({ order: { down, takes, up } }: StreamPlan): string => {
  const takesAll = takes === undefined || takes > (up.count ?? Infinity)
  return takesAll && up.end === "fail" ? "fail, with its items" : down.end
}

const failed = (cause: Cause.Cause<StreamError>, plan: StreamPlan, circumstances: StreamCircumstances): Ending => {
  const failure = Cause.findErrorOption(cause)
  if (Option.isSome(failure)) return failedWith(failure.value, plan, circumstances)
  if (Cause.hasDies(cause)) return { kind: "died", executed: "perhaps", problem: Cause.pretty(cause) }
  return {
    kind: "given up",
    executed: "perhaps",
    problem: circumstances.interrupted ? undefined : "it was not interrupted"
  }
}

const failedWith = (error: StreamError, plan: StreamPlan, circumstances: StreamCircumstances): Ending => {
  const { closing, elapsed, id, isLeaving, maxMessageSize, received } = circumstances
  const { api, order, size, timeout } = plan
  const all = comesBack(plan)
  /** It ends behind all of its items, as it was to. */
  const planned = (kind: string, end: "fail" | "die", isRight: boolean): Ending => {
    const isWhole = plan.method === "upload" || received.count === all
    return {
      kind,
      executed: "once",
      problem: order.down.end !== end || !isRight
        ? error.message
        : isWhole
        ? undefined
        : `behind ${received.count} items, expected ${all}`
    }
  }
  const asPlanned = "failed, as it was to"
  switch (error._tag) {
    case "Refused":
      return planned(asPlanned, "fail", api === "typed" && error.id === id)
    case "ItemsFailed": {
      const right = order.up.end === "fail" && error.id === id
      return {
        kind: "its items failed, as they were to",
        executed: "perhaps",
        problem: right ? undefined : `${error.id}`
      }
    }
    case "Unreachable":
      return { kind: "Unreachable", executed: "never" }
    case "DeadlineExceeded": {
      const early = timeout === undefined || elapsed < timeout - tolerance
      return {
        kind: "DeadlineExceeded",
        executed: "perhaps",
        problem: early ? `after ${elapsed.toFixed(1)} ms: ${error.message}` : undefined
      }
    }
    case "CommunicationError": {
      const reason = error.reason._tag
      const largest = Math.max(size, order.down.largest, order.up.largest)
      const possible = reason === "Lost" || (reason === "Closed" && closing) ||
        (reason === "TooLarge" && isTooLarge(largest, maxMessageSize))
      return {
        kind: `CommunicationError ${reason}, ${error.maybeExecuted ? "maybe executed" : "not executed"}`,
        executed: error.maybeExecuted ? "perhaps" : "never",
        problem: possible ? undefined : error.message
      }
    }
    case "RemoteError": {
      if (error.isOverloaded) return { kind: "RemoteError, overloaded", executed: "never" }
      if (error.isLeaving) {
        const problem = isLeaving ? undefined : "its replica was not told to stop"
        return { kind: "RemoteError, leaving", executed: "perhaps", problem }
      }
      return order.down.end === "die"
        ? planned("RemoteError, died", "die", /handler died/.test(error.message))
        : planned(asPlanned, "fail", api === "bytes" && error.message === failureOf(id))
    }
  }
}
