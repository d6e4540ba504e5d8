/**
 * The large messages that one end sends in parts, so that they do not hold up what comes after them.
 *
 * It must not know calls. A message is still ours until its first part leaves.
 */
import type { Flow } from "./flow.ts"
import type { Messages } from "./messages.ts"

/** Payloads over this size go in parts, in bytes. */
export const largestWhole = 262_144

/** Hears of a message in parts. */
export interface OutgoingMessageOwner {
  /**
   * Its first part is about to leave. `head` is the start of its payload, for a request its header: the deadline is
   * written into it now. Returns false where it is not to be sent any more.
   */
  onFirstPart(message: OutgoingMessage, head: DataView): boolean
  /** All of it was queued. */
  onSent(message: OutgoingMessage): void
}

/** A message in parts. */
export interface OutgoingMessage {
  readonly id: number
  readonly type: number
  /** `Waiting`: nothing of it has left. `Begun`: a part has. `Sent`: all of it has. `Dropped`: no more of it will. */
  readonly state: "Waiting" | "Begun" | "Sent" | "Dropped"
  /** Bytes that go by reference. */
  readonly body: Uint8Array
}

/** The messages in parts of one connection, in this direction. */
export class OutgoingMessages {
  constructor(_flow: Flow, _messages: Messages, _owner: OutgoingMessageOwner) {}

  /** How many messages have not left in full. */
  get size(): number {
    throw new Error("not yet")
  }

  /** How many bytes of them have yet to leave. */
  get unsentBytes(): number {
    throw new Error("not yet")
  }

  get(_id: number): OutgoingMessage | undefined {
    throw new Error("not yet")
  }

  /** Sends a message in parts. Its payload is `head`, which is ours, and `body`, which must not change any more. */
  send(_id: number, _type: number, _head: Uint8Array, _body: Uint8Array): void {
    throw new Error("not yet")
  }

  /** No more of it leaves. Returns whether a part of it has left. */
  drop(_message: OutgoingMessage): boolean {
    throw new Error("not yet")
  }

  close(): void {
    throw new Error("not yet")
  }
}
