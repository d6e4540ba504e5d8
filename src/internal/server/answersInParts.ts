/**
 * The answers of one connection that go in parts, since they are large: each keeps its id until all of it has left.
 *
 * It must not know what was asked, nor when a part may leave: that is the flow's.
 */
import { MessageType } from "../protocol/frame.ts"
import type { Flow } from "../session/flow.ts"
import { type OutgoingMessage, type OutgoingMessageOwner, OutgoingMessages } from "../session/outgoingMessages.ts"
import type { Exchange, StopReason } from "./model.ts"

/** The connection of such answers. */
export interface AnswersOwner {
  /** The exchange with this id, if one is in the table. */
  get(id: number): Exchange | undefined
  /** Puts an exchange into the table, in the place of the one with its id. */
  replace(exchange: Exchange): void
  /** Takes an exchange out of the table. */
  close(exchange: Exchange): void
  /** An answer of so many bytes waits to be cut. */
  onUncut(size: number): void
  /** Less waits. */
  onCut(): void
}

/** The answers in parts of one connection. */
export class AnswersInParts implements OutgoingMessageOwner {
  private readonly messages: OutgoingMessages
  private readonly owner: AnswersOwner

  constructor(flow: Flow, owner: AnswersOwner) {
    this.messages = new OutgoingMessages(flow, this)
    this.owner = owner
  }

  /** How many have not left in full. */
  get size(): number {
    return this.messages.size
  }

  /** How many bytes of them have yet to leave. */
  get unsentBytes(): number {
    return this.messages.unsentBytes
  }

  /** Sends an answer. A client that has given up gets none: it takes no parts after that. */
  send(id: number, type: number, lead: Uint8Array, payload: Uint8Array): void {
    const { owner } = this
    if (owner.get(id)?.isCanceled === true) return
    owner.replace(new AnswerInParts(id, this))
    this.messages.send(id, type, lead, payload)
    owner.onUncut(lead.length + payload.length)
  }

  /** No more of it leaves. */
  drop(answer: AnswerInParts): void {
    const message = this.messages.get(answer.id)
    if (message !== undefined) this.messages.drop(message)
    this.leave(answer)
  }

  onFirstPart(): boolean {
    return true
  }

  onSent({ id }: OutgoingMessage): void {
    const answer = this.owner.get(id)
    if (answer !== undefined) this.leave(answer)
  }

  /** The connection is over. */
  close(): void {
    this.messages.close()
  }

  private leave(answer: Exchange): void {
    this.owner.close(answer)
    this.owner.onCut()
  }
}

/** An answer that is being cut. */
class AnswerInParts implements Exchange {
  readonly id: number
  readonly deadlineAt = Infinity
  readonly isCanceled = false
  private readonly answers: AnswersInParts

  constructor(id: number, answers: AnswersInParts) {
    this.id = id
    this.answers = answers
  }

  onMessage(type: number): void {
    if (type === MessageType.cancel) this.answers.drop(this)
  }

  /** A server that stops still sends what it has. */
  stop(why: StopReason): void {
    if (why === "lost") this.answers.drop(this)
  }
}
