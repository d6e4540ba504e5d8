/**
 * What waits on a client's connection for an answer: the entries of its session's table.
 *
 * It must not know which kinds of entries there are. A kind says what goes before its arguments, takes its messages,
 * and hears of its end if no answer comes.
 */
import type * as Exit from "effect/Exit"
import type { CommunicationError } from "../../CallError.ts"
import type { MethodKey } from "../../MethodKey.ts"
import type { TraceContext } from "../protocol/request.ts"

/**
 * One entry of the table. The kinds are few, and each is one class: a session handles every message through them.
 *
 * An entry ends once: with a message that ends its exchange (`onMessage`), without one (`onEnd`), or when its owner
 * gives it up. By then it is no longer in the table, and its session is done with it.
 */
export interface Pending {
  /** Its id on the connection that it was sent on. The session sets it. */
  id: number
  readonly key: MethodKey
  /** When its time is up, in milliseconds of the clock; Infinity if never. */
  readonly deadlineAt: number
  readonly trace: TraceContext | undefined
  /** What goes before its arguments. It is the same each time it is read. */
  readonly lead: Uint8Array
  /** Whether it counts as a call in flight, for which a draining connection stays open. */
  readonly isCall: boolean
  /** Whether it keeps the bytes of its answer: they are then put into memory of their own as they come. */
  readonly keepsAnswer: boolean
  /**
   * A message with its id has come. If the type ends an exchange, the entry is no longer in the table. Its payload is
   * `bytes` from `start` to `end`. If it is not `owned`, the bytes are overwritten after this call.
   */
  onMessage(type: number, bytes: Uint8Array, start: number, end: number, owned: boolean): void
  /** It ends without an answer. */
  onEnd(end: End): void
}

/** Why an entry ends without an answer. */
export type End =
  /** Its time is up: it was sent, or waits for a peer that takes nothing more. */
  | { readonly _tag: "TimeUp" }
  /** Its time was up when its request was about to leave. */
  | { readonly _tag: "NeverLeft" }
  /** The payload of its answer, a message of this type, has this length, which is too large. */
  | { readonly _tag: "TooLarge"; readonly type: number; readonly length: number }
  /** The connection is over. The failure is the same for all entries whose requests had left. */
  | { readonly _tag: "Lost"; readonly failure: Exit.Exit<never, CommunicationError> }
  /** The connection was lost, and its request had not left. The arguments are a copy. */
  | { readonly _tag: "Unsent"; readonly args: Uint8Array }

export const timeUp: End = { _tag: "TimeUp" }
export const neverLeft: End = { _tag: "NeverLeft" }
