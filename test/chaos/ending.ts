/**
 * How a call ended: what is counted, what it says about its execution, and whether it is an end that such a call can
 * have.
 */
import { Cause, Exit, Option } from "effect"
import type { CallError } from "effect-call"
import { failureOf, type Refused } from "./contract.ts"
import type { Ending } from "./ledger.ts"
import { readAnswer } from "./payload.ts"
import type { Plan } from "./plan.ts"

/** What is known of a call when it ends, in addition to its plan. */
export interface Circumstances {
  readonly id: number
  /** How long it has taken, in ms. */
  readonly elapsed: number
  /** Whether the soak has given it up. */
  readonly interrupted: boolean
  /** Whether its Connection was being closed. */
  readonly closing: boolean
  /** The largest message that its Connection sends or takes. */
  readonly maxMessageSize: number
}

/** Whether a payload may have been too large: with headers, and as JSON a third larger. */
export const isTooLarge = (size: number, maxMessageSize: number): boolean => size * 4 / 3 + 200 > maxMessageSize

/** A deadline's timer may be early by what clocks round. */
export const tolerance = 2

/** How a call ended; `stamp` is the process that has answered it. */
export const endingOf = (
  exit: Exit.Exit<Uint8Array | void, CallError.CallError | Refused>,
  plan: Plan,
  circumstances: Circumstances
): Ending & { readonly stamp?: number } => {
  const ending = Exit.isSuccess(exit)
    ? answered(exit.value, plan, circumstances)
    : failed(exit.cause, plan, circumstances)
  // Of a call without bytes it is unknown whether it was executed.
  return plan.size === 0 ? { ...ending, executed: "unknown" } : ending
}

const answered = (
  answer: Uint8Array | void,
  { method, size }: Plan,
  { id }: Circumstances
): Ending & { readonly stamp?: number } => {
  if (method === "note") return { kind: "started (discarded)", executed: "once" }
  const kind = "answered"
  if (method !== "echo" && method !== "slow") return { kind, executed: "once", problem: `${method} has no answer` }
  if (answer === undefined) return { kind, executed: "once", problem: "no bytes" }
  const read = readAnswer(answer, id, size)
  return typeof read === "string"
    ? { kind, executed: "once", problem: read }
    : { kind, executed: "once", stamp: read.stamp }
}

const failed = (
  cause: Cause.Cause<CallError.CallError | Refused>,
  plan: Plan,
  circumstances: Circumstances
): Ending => {
  const failure = Cause.findErrorOption(cause)
  if (Option.isSome(failure)) return failedWith(failure.value, plan, circumstances)
  if (Cause.hasDies(cause)) return { kind: "died", executed: "perhaps", problem: Cause.pretty(cause) }
  return {
    kind: "given up",
    executed: "perhaps",
    problem: circumstances.interrupted ? undefined : "it was not interrupted"
  }
}

const failedWith = (
  error: CallError.CallError | Refused,
  { method, size, timeout, api }: Plan,
  { id, elapsed, closing, maxMessageSize }: Circumstances
): Ending => {
  switch (error._tag) {
    case "Refused": {
      const right = method === "fail" && (error.id === id || size === 0)
      return { kind: "failed, as it was to", executed: "once", problem: right ? undefined : `with ${error.id}` }
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
      const possible = reason === "Lost" || (reason === "Closed" && closing) ||
        (reason === "TooLarge" && isTooLarge(size, maxMessageSize))
      return {
        kind: `CommunicationError ${reason}, ${error.maybeExecuted ? "maybe executed" : "not executed"}`,
        executed: error.maybeExecuted ? "perhaps" : "never",
        problem: possible ? undefined : error.message
      }
    }
    case "RemoteError": {
      if (error.isOverloaded) return { kind: "RemoteError, overloaded", executed: "never" }
      if (method === "die") return { kind: "RemoteError, died", executed: "once" }
      const right = method === "fail" && api === "bytes" && (error.message === failureOf(id) || size === 0)
      return { kind: "failed, as it was to", executed: "once", problem: right ? undefined : error.message }
    }
  }
}
