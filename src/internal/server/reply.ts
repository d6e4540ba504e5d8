/**
 * What a call is answered with: a result's bytes or an error chain, within the limit of a message; and what is logged
 * of its failure.
 *
 * It must not know how the handler was run, nor when. It sends each answer itself, and returns its kind of failure, or
 * undefined where there is none, for metrics: an object for both would cost each call an allocation.
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import { unexpected } from "../guard.ts"
import { isBytes } from "../memory/bytes.ts"
import { encodeErrorChain, type ErrorChain } from "../protocol/errorChain.ts"
import { MessageType } from "../protocol/frame.ts"
import * as Identities from "../protocol/identities.ts"
import { methodName } from "../protocol/methodName.ts"
import { noLead } from "../session/messages.ts"
import { errorType } from "../telemetry/span.ts"
import { clip, readReasons } from "../userError.ts"
import { chainOfCause, hasLeft, kindOfFailure } from "./failure.ts"
import type { ServedConnection } from "./model.ts"
import { type Incoming, type Route } from "./route.ts"

/** A call that is answered. */
export interface Answerable {
  readonly id: number
  readonly route: Route
  readonly connection: ServedConnection
}

/** Answers a call whose handler has ended. `late` says that its deadline has passed. */
export const answer = (
  call: Answerable,
  incoming: Incoming | undefined,
  exit: Exit.Exit<unknown, unknown>,
  late: boolean
): string | undefined => {
  let cause: Cause.Cause<unknown> | undefined
  let result: unknown
  try {
    if (Exit.isFailure(exit)) cause = readReasons(exit.cause)
    else result = exit.value
  } catch (defect) {
    // A handler may put an Exit together itself.
    cause = Cause.die(defect)
  }
  if (cause === undefined) {
    if (isBytes(result)) return answerWith(call, incoming, result)
    const what = `the result of ${methodName(call.route.key)}`
    return answerFailure(call, Cause.die(unexpected(what, "a Uint8Array", result)))
  }
  if (!late) return answerFailure(call, cause)
  answerError(call.connection, call.id, [Identities.deadlineExceeded])
  return "DeadlineExceeded"
}

/** Answers a call with the bytes of its result. */
export const answerWith = (
  call: Answerable,
  incoming: Incoming | undefined,
  result: Uint8Array
): string | undefined => {
  const { connection } = call
  const lead = incoming === undefined ? noLead : incoming.replyLead
  const size = sizeOf(result)
  if (size < 0 || lead.length + size > connection.settings.maxMessageSize) {
    return answerUnsendable(call, result, size, lead.length + size)
  }
  connection.send(call.id, MessageType.response, lead, result)
  return incoming?.failure
}

/** Answers a call whose result cannot be sent. `size` is as {@link sizeOf} has it, `length` that of the answer. */
const answerUnsendable = (call: Answerable, result: Uint8Array, size: number, length: number): string => {
  const { route } = call
  if (size < 0) {
    const problem = unexpected(`the result of ${methodName(route.key)}`, "a Uint8Array whose bytes can be read", result)
    return answerFailure(call, Cause.die(problem))
  }
  answerTooLarge(call, `the result of ${nameOf(route)} is ${length} bytes`)
  return "too_large"
}

/** Answers a discarded call, whose handler has only begun. */
export const acknowledge = ({ connection, id }: Answerable, incoming: Incoming | undefined): void => {
  connection.send(id, MessageType.response, incoming === undefined ? noLead : incoming.replyLead, nothing)
}

/** Answers a request with an error chain of ours. It always fits. */
export const answerError = (connection: ServedConnection, id: number, chain: ErrorChain): void => {
  connection.send(id, MessageType.responseError, noLead, encodeErrorChain(chain))
}

/**
 * A discarded call has ended. It was answered before, so that its failure is only logged. Returns the kind of failure.
 */
export const endDiscarded = (call: Answerable, exit: Exit.Exit<unknown, unknown>): string | undefined => {
  if (Exit.isSuccess(exit)) return undefined
  if (!Cause.hasInterruptsOnly(exit.cause)) logFailure(call, "the handler of a discarded call failed", exit.cause)
  return errorType(exit.cause)
}

/** Logs a failure that the caller does not hear of, or not in full. */
export const logFailure = ({ connection, route }: Answerable, message: string, cause: Cause.Cause<unknown>): void => {
  const { component, method } = route.key
  connection.log(Effect.annotateLogs(Effect.logError(message, cause), { component, method }))
}

const answerFailure = (call: Answerable, cause: Cause.Cause<unknown>): string => {
  const payload = encodeErrorChain(chainOfCause(cause))
  if (Cause.hasDies(cause) && !hasLeft(cause)) logFailure(call, "a handler died", cause)
  const { connection, id, route } = call
  if (payload.length <= connection.settings.maxMessageSize) {
    connection.send(id, MessageType.responseError, noLead, payload)
  } else {
    answerTooLarge(call, `the call of ${nameOf(route)} failed, with an error of ${payload.length} bytes`)
  }
  return kindOfFailure(cause)
}

/** Answers a call whose answer is over the limit. `problem` says of how many bytes it is. */
const answerTooLarge = ({ connection, id }: Answerable, problem: string): void => {
  const limit = connection.settings.maxMessageSize
  answerError(connection, id, [Identities.answerTooLarge(`${problem}, expected at most ${limit}`)])
}

/** The error of a stream whose handler has given an item of so many bytes. */
export const itemTooLarge = ({ connection, route }: Answerable, size: number): Identities.Link => {
  const limit = connection.settings.maxMessageSize
  return Identities.answerTooLarge(`an item of ${nameOf(route)} is ${size} bytes, expected at most ${limit}`)
}

const nothing = new Uint8Array(0)

/** Longer names are cut: an error that names a method has to fit into the smallest limit that there can be. */
const maxNameLength = 200

/** The name of a method, for the text of an error. */
const nameOf = ({ key }: Route): string => clip(methodName(key), maxNameLength)

/**
 * How many bytes a result has; -1 where they cannot be read: they were transferred to another thread, or the result is
 * a proxy.
 */
const sizeOf = (result: Uint8Array): number => {
  try {
    const { length } = result
    return length === 0 && "detached" in result.buffer && result.buffer.detached === true ? -1 : length
  } catch {
    return -1
  }
}
