/**
 * One stream on its way: an entry of a session's table that receives items, and sends those of its user.
 *
 * It is a {@link Call}: it is picked for, sent, made again and counted as calls are. The call's result is the stream
 * itself, as soon as its server has sent an item or its end. From then on what ends it comes behind the items that
 * wait. It must not know how its user takes items, or where those come from that it sends.
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Tracer from "effect/Tracer"
import type { CallError } from "../../CallError.ts"
import type { MethodKey } from "../../MethodKey.ts"
import type { CallOptions } from "../ambient/callOptions.ts"
import { ownBytes } from "../memory/bytes.ts"
import { MessageType } from "../protocol/frame.ts"
import type { TraceContext } from "../protocol/request.ts"
import { IncomingItems, type Violation } from "../session/incomingItems.ts"
import { OutgoingItems } from "../session/outgoingItems.ts"
import { firstCredit } from "../session/windows.ts"
import type { CountedStream } from "../telemetry/streams.ts"
import { checkTransition, type Transitions } from "../transitions.ts"
import { Call, type CallOwner } from "./call.ts"
import { faulty } from "./errorAnswer.ts"
import type { End, PendingStream, StreamEnds } from "./pending.ts"
import type { Resume } from "./typed.ts"

/** Who has made the stream: one for all of its attempts. */
export interface StreamUser {
  /** The arguments: nobody changes them. */
  readonly args: Uint8Array
  /** What goes before the arguments. */
  readonly lead: Uint8Array
  /** The client span, if there is one. */
  readonly span: Tracer.Span | undefined
  readonly hasItems: boolean
  readonly hasJson: boolean
  /** Puts it into JSON, and returns its arguments. Items that were pulled are sent again. */
  inJson(): Effect.Effect<Uint8Array, CallError>
  /** An attempt is about to be sent: the only one from now on. */
  sent(call: StreamCall): void
  /** The open of an attempt has left: the items of the client go there. Called again only after `inJson`. */
  pullItems(call: StreamCall, to: OutgoingItems): void
  /** No items of the client are wanted any more. It can be repeated. */
  stopItems(): void
  /** Reads the response that ends the stream: its result, or a failure. The bytes are the user's own. */
  readEnd(bytes: Uint8Array, endpoint: string): Effect.Effect<unknown, unknown>
  /** Does something that takes its time, until it has ended or the user is gone. */
  later(effect: Effect.Effect<void>): void
}

/**
 * ```
 *                  sent                an item, or its end
 *   ┌─────────┐ ─────────▶ ┌──────┐ ──────────────────────▶ ┌────────┐
 *   │ Waiting │            │ Sent │                         │ Opened │
 *   └─────────┘ ◀───────── └──────┘                         └────────┘
 *            its connection    │                                 │
 *            is lost before    │ it ends                         │ it ends
 *            it has left       ▼                                 ▼
 *                          ┌───────────────────────────────────────┐
 *                          │                 Over                  │
 *                          └───────────────────────────────────────┘
 *                              │ its server has another contract:
 *                              ▼ it is sent again, in JSON
 *                            Sent
 * ```
 * It is in a session's table iff `Sent` or `Opened`. Items that wait can be taken when it is over.
 */
type StreamState = "Waiting" | "Sent" | "Opened" | "Over"

const allowed: Transitions<StreamState> = {
  Waiting: ["Sent"],
  Sent: ["Waiting", "Opened", "Over"],
  Opened: ["Over"],
  Over: ["Sent"]
}

/** A stream, on the connection that it was opened on. */
export class StreamCall extends Call implements PendingStream, CountedStream {
  private readonly user: StreamUser
  private current: StreamState = "Waiting"
  private ends: { readonly incoming: IncomingItems; readonly outgoing: OutgoingItems } | undefined = undefined
  /** Whether the server has sent an item, or its end. */
  isOpened = false

  constructor(
    user: StreamUser,
    key: MethodKey,
    options: CallOptions | undefined,
    deadlineAt: number,
    trace: TraceContext | undefined,
    resume: Resume,
    owner: CallOwner
  ) {
    super(key, options, deadlineAt, trace, undefined, resume, owner)
    this.user = user
  }

  override get ownArgs(): Uint8Array {
    return this.user.args
  }

  override get lead(): Uint8Array {
    return this.user.lead
  }

  override get span(): Tracer.Span | undefined {
    return this.user.span
  }

  override get isCall(): boolean {
    return false
  }

  override get stream(): PendingStream {
    return this
  }

  override get keepsAnswer(): boolean {
    return false
  }

  get isCounted(): boolean {
    return true
  }

  get hasItems(): boolean {
    return this.user.hasItems
  }

  override get hasJson(): boolean {
    return this.user.hasJson
  }

  override inJson(args: Uint8Array): Effect.Effect<Uint8Array, CallError> {
    return this.user.hasJson ? this.user.inJson() : Effect.succeed(args)
  }

  /** The items that the server sends; there once it was sent. */
  get incoming(): IncomingItems | undefined {
    return this.ends?.incoming
  }

  /** The items that the client sends; there once it was sent. */
  get outgoing(): OutgoingItems | undefined {
    return this.ends?.outgoing
  }

  get itemsSent(): number {
    return this.ends?.outgoing.items ?? 0
  }

  get itemsReceived(): number {
    return this.ends?.incoming.items ?? 0
  }

  get bytesSent(): number {
    return this.ends?.outgoing.bytes ?? 0
  }

  get bytesReceived(): number {
    return this.ends?.incoming.bytes ?? 0
  }

  /** The endpoint that it was sent to; undefined before. */
  get endpoint(): string | undefined {
    return this.link?.address
  }

  override again(owner: CallOwner): StreamCall {
    return new StreamCall(this.user, this.key, this.options, this.deadlineAt, this.trace, this.resume, owner)
  }

  /** Gives it up. */
  override asEffect(): Effect.Effect<void> {
    this.cancel()
    return Exit.void
  }

  /** Nobody wants it any more: the server is told, and what waits is dropped. It can be repeated. */
  cancel(): void {
    const wasOpen = this.isRunning
    if (wasOpen) this.stop("Over")
    this.ends?.incoming.close()
    if (wasOpen) this.link?.cancel(this)
  }

  begin({ flow, receiver }: StreamEnds, credit: number): void {
    this.become("Sent")
    this.ends = {
      incoming: new IncomingItems(this.id, receiver, credit),
      // What the page lets a client send before the server's first credit.
      outgoing: new OutgoingItems(this.id, flow, firstCredit, receiver.maxItem)
    }
    this.link?.streamBegan(this.key, this)
    this.user.sent(this)
  }

  onLeft(): void {
    // Not within the flush: the items are a user's code.
    queueMicrotask(() => {
      const { outgoing } = this
      if (!this.isRunning || outgoing === undefined) return
      this.isAnswered = true
      this.user.pullItems(this, outgoing)
    })
  }

  onItems(bytes: Uint8Array, start: number, end: number, owned: boolean): Violation | undefined {
    const { incoming } = this
    const violation = incoming?.push(bytes, start, end, owned)
    // Its user runs at once, and may do anything to it.
    if (!this.isOpened && incoming !== undefined && incoming.items > 0) this.open(incoming)(Exit.succeed(this))
    return violation
  }

  isStalled(now: number): boolean {
    return this.ends?.incoming.isStalled(now) ?? false
  }

  onCredit(bytes: number): string | undefined {
    return this.ends?.outgoing.grant(bytes)
  }

  override onMessage(type: number, bytes: Uint8Array, start: number, end: number, owned: boolean): void {
    const { incoming, link } = this
    if (link === undefined || incoming === undefined) return
    if (type !== MessageType.response) {
      this.stop("Over")
      return link.refused(this, bytes.subarray(start, end))
    }
    const violation = incoming.end()
    const handOver = this.isOpened ? undefined : this.open(incoming)
    this.stop("Over")
    link.finish(
      this,
      violation === undefined
        ? this.user.readEnd(ownBytes(bytes, start, end, owned), link.address)
        : Exit.fail(faulty(link.address, "Protocol", `${this.method}: ${link.address} sent ${violation.problem}`, true))
    )
    handOver?.(Exit.succeed(this))
  }

  override onEnd(end: End): void {
    if (end._tag === "Unsent") {
      this.stop("Waiting")
      this.ends = undefined
    } else {
      this.stop("Over")
    }
    this.link?.end(this, end)
  }

  /** The client has no more items: they have ended, or failed. */
  itemsEnded(exit: Exit.Exit<void, unknown>): void {
    if (!this.isRunning) return
    if (Exit.isSuccess(exit)) return this.link?.endItems(this)
    this.stop("Over")
    this.link?.abandon(this, Exit.failCause(exit.cause))
  }

  private get isRunning(): boolean {
    return this.current === "Sent" || this.current === "Opened"
  }

  /** Its server has taken it: from now on its end comes behind the items that wait. Returns who waits for that. */
  private open(incoming: IncomingItems): Resume {
    const { resume, user } = this
    this.isOpened = true
    this.isAnswered = true
    this.become("Opened")
    this.link?.opened()
    this.resume = (end) => {
      if (Exit.isExit(end)) incoming.finish(endOf(end))
      else user.later(Effect.map(Effect.exit(end), (exit) => incoming.finish(endOf(exit))))
    }
    return resume
  }

  /** Nothing is sent any more. */
  private stop(state: "Over" | "Waiting"): void {
    this.become(state)
    this.ends?.outgoing.close()
    this.link?.streamEnded(this.key, this)
    // Nobody takes its items: its window is free again.
    if (!this.isOpened) this.ends?.incoming.close()
    this.user.stopItems()
  }

  private become(state: StreamState): void {
    checkTransition("a stream of a client", allowed, this.current, state)
    if (state === "Waiting" && this.isAnswered) throw new Error("a stream that has begun is to be made again")
    this.current = state
  }
}

/** What the items of a stream end with, if it ends like that: a result is the value of the end. */
const endOf = (exit: Exit.Exit<unknown, unknown>): Exit.Exit<never, unknown> =>
  Exit.isSuccess(exit) ? Exit.fail(Cause.Done(exit.value)) : Exit.failCause(exit.cause)
