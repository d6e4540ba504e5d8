/**
 * The large messages that one end sends in parts, so that they do not hold up what comes after them.
 *
 * It must not know calls. A message is cut as it leaves, and is still ours until its first part does.
 */
import { dataView } from "../memory/bytes.ts"
import { checkTransition, type Transitions } from "../transitions.ts"
import type { Cut } from "./cut.ts"
import type { Flow } from "./flow.ts"

/** Longer payloads go in parts, in bytes. */
export const longestWhole = 262_144

/** The longest part, in bytes of the message. What is left is not cut any more where it is hardly longer. */
const longestPart = 131_072
const longestRest = 135_168

/** The size of the length of the whole payload, at the start of the first part. */
const totalSize = 4

/** Hears of messages in parts. */
export interface OutgoingMessageOwner {
  /**
   * Its first part is about to leave. `head` is the start of its payload, for a request its header: the deadline is
   * written into it now. Returns false where it is not to be sent any more.
   */
  onFirstPart(message: OutgoingMessage, head: DataView): boolean
  /** All of it was queued. */
  onSent(message: OutgoingMessage): void
}

/**
 * ```
 *   ┌─────────┐   a part leaves   ┌───────┐   the rest leaves   ┌──────┐
 *   │ Waiting │ ────────────────▶ │ Begun │ ──────────────────▶ │ Sent │
 *   └─────────┘                   └───────┘                     └──────┘
 *        │         ┌─────────┐         │
 *        └───────▶ │ Dropped │ ◀───────┘
 *                  └─────────┘
 * ```
 */
export type OutgoingMessageState = "Waiting" | "Begun" | "Sent" | "Dropped"

const allowed: Transitions<OutgoingMessageState> = {
  Waiting: ["Begun", "Dropped"],
  Begun: ["Sent", "Dropped"],
  Sent: [],
  Dropped: []
}

/** A message in parts. */
export class OutgoingMessage implements Cut {
  readonly id: number
  readonly type: number
  /** The start of its payload: it is ours. */
  readonly head: Uint8Array
  /** The rest of its payload, which goes by reference: users own it. */
  readonly body: Uint8Array
  /** The length of `body` when it was given. */
  readonly size: number
  private readonly messages: OutgoingMessages
  private current: OutgoingMessageState = "Waiting"
  /** How much of `body` has left. */
  private offset = 0

  constructor(id: number, type: number, head: Uint8Array, body: Uint8Array, messages: OutgoingMessages) {
    this.id = id
    this.type = type
    this.head = head
    this.body = body
    this.size = body.length
    this.messages = messages
  }

  get state(): OutgoingMessageState {
    return this.current
  }

  /** The length of its payload. */
  get total(): number {
    return this.head.length + this.size
  }

  /** How many bytes of `body` have yet to leave. */
  get left(): number {
    return this.size - this.offset
  }

  cut(): boolean {
    return this.messages.cut(this)
  }

  /** The next bytes of `body`. They leave now. */
  take(): Uint8Array {
    const end = this.left <= longestRest ? this.size : this.offset + longestPart
    const bytes = this.body.subarray(this.offset, end)
    this.offset = end
    return bytes
  }

  become(state: OutgoingMessageState): void {
    checkTransition("a message in parts", allowed, this.current, state)
    if (state === "Sent" && this.left > 0) throw new Error("a message in parts was sent before its end")
    this.current = state
  }
}

/** The messages in parts of one connection, in this direction. */
export class OutgoingMessages {
  private readonly flow: Flow
  private readonly owner: OutgoingMessageOwner
  private readonly byId = new Map<number, OutgoingMessage>()
  private unsent = 0

  constructor(flow: Flow, owner: OutgoingMessageOwner) {
    this.flow = flow
    this.owner = owner
  }

  /** How many messages have not left in full. */
  get size(): number {
    return this.byId.size
  }

  /** How many bytes of them have yet to leave. */
  get unsentBytes(): number {
    return this.unsent
  }

  get(id: number): OutgoingMessage | undefined {
    return this.byId.get(id)
  }

  /** The messages that have not left in full, as they are now: a list of its own. */
  values(): ReadonlyArray<OutgoingMessage> {
    return [...this.byId.values()]
  }

  /** Sends a message in parts. Its payload is `head`, which is ours, and `body`, which must not change any more. */
  send(id: number, type: number, head: Uint8Array, body: Uint8Array): void {
    const message = new OutgoingMessage(id, type, head, body, this)
    this.byId.set(id, message)
    this.unsent += message.left
    this.flow.add(message)
  }

  /** No more of it leaves. Returns whether a part of it has left. */
  drop(message: OutgoingMessage): boolean {
    const wasBegun = message.state === "Begun"
    message.become("Dropped")
    this.forget(message)
    return wasBegun
  }

  /** The connection is over: none of them leaves any more. */
  close(): void {
    this.byId.clear()
    this.unsent = 0
  }

  /** Queues the next part of a message. Returns whether it has more. */
  cut(message: OutgoingMessage): boolean {
    if (message.state === "Dropped" || message.state === "Sent") return false
    if (!this.flow.underway.begin(message, message.total, true)) return false
    const { body, head, id, size, type } = message
    const isFirst = message.state === "Waiting"
    if (isFirst && !this.owner.onFirstPart(message, dataView(head))) {
      // Its owner may have dropped it, too.
      if (message.state === "Waiting") this.drop(message)
      return false
    }
    if (body.length !== size) throw transferred(size, body.length)
    const bytes = message.take()
    this.unsent -= bytes.length
    if (isFirst) {
      const start = new Uint8Array(totalSize + head.length)
      dataView(start).setUint32(0, message.total, true)
      start.set(head, totalSize)
      this.flow.part(id, start, bytes)
      message.become("Begun")
      return true
    }
    if (message.left > 0) {
      this.flow.part(id, noBytes, bytes)
      return true
    }
    this.flow.rest(id, type, bytes)
    message.become("Sent")
    this.forget(message)
    this.owner.onSent(message)
    return false
  }

  private forget(message: OutgoingMessage): void {
    this.byId.delete(message.id)
    this.unsent -= message.left
    this.flow.remove(message)
  }
}

const noBytes = new Uint8Array(0)

const transferred = (before: number, now: number): TypeError =>
  new TypeError(
    `the bytes of a message were transferred before they were sent: expected ${before} bytes, unchanged, got ${now}`
  )
