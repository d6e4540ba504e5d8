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
import type { Flow } from "../session/flow.ts"
import type { ItemsReceiver, Violation } from "../session/incomingItems.ts"

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
  /** What it is besides where it is a stream. */
  readonly stream: PendingStream | undefined
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

/** What the streams of one connection have in common. */
export interface StreamEnds {
  readonly flow: Flow
  readonly receiver: ItemsReceiver
}

/** An entry that is a stream: what it hears while it runs. */
export interface PendingStream {
  /** Whether it counts as an open stream, for which a draining connection stays open. */
  readonly isCounted: boolean
  /** Whether the client has items to send. */
  readonly hasItems: boolean
  /** Whether the server has sent an item, or its end. */
  readonly isOpened: boolean
  /** It is about to be sent, with the id that it has by now. The server may send `credit` bytes at first. */
  begin(ends: StreamEnds, credit: number): void
  /** Its open was handed to the socket. Only where it `hasItems`. */
  onLeft(): void
  /** Items have come, or pieces of them: `bytes` from `start` to `end`, as for {@link Pending.onMessage}. */
  onItems(bytes: Uint8Array, start: number, end: number, owned: boolean): Violation | undefined
  /** Whether an item has begun to come, and gets nothing for too long. `now` is in milliseconds of the clock. */
  isStalled(now: number): boolean
  /** The server takes so many bytes more. Returns what is wrong with that. */
  onCredit(bytes: number): string | undefined
}

/** Why an entry ends without an answer. */
export type End =
  /** Its time is up: it was sent, or waits for a peer that takes nothing more. */
  | { readonly _tag: "TimeUp" }
  /** Its time was up when its request was about to leave. */
  | { readonly _tag: "NeverLeft" }
  /** The payload of its answer, a message of this type, has this length, which is too large. */
  | { readonly _tag: "TooLarge"; readonly type: number; readonly length: number }
  /** The server has broken a rule of streams, or of messages in parts. */
  | { readonly _tag: "Violation"; readonly reason: "Protocol" | "TooLarge"; readonly problem: string }
  /** The connection is over. The failure is the same for all entries whose requests had left. */
  | { readonly _tag: "Lost"; readonly failure: Exit.Exit<never, CommunicationError> }
  /**
   * The connection was lost, or takes no more requests, and its request had not left. The arguments are a copy, or so
   * large that they are ours.
   */
  | { readonly _tag: "Unsent"; readonly args: Uint8Array }

export const timeUp: End = { _tag: "TimeUp" }
export const neverLeft: End = { _tag: "NeverLeft" }
