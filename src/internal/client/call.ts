/**
 * One call on its way: an entry of a session's table, and what is needed to send it again elsewhere while it has not
 * left.
 *
 * It must not know how endpoints are picked, or what a session does. How calls of one connection are measured and
 * counted is up to its link.
 */
import * as Effect from "effect/Effect"
import * as Effectable from "effect/Effectable"
import * as Exit from "effect/Exit"
import type * as Tracer from "effect/Tracer"
import type { CallError } from "../../CallError.ts"
import { isMethodKey, type MethodKey } from "../../MethodKey.ts"
import type { CallOptions } from "../ambient/callOptions.ts"
import { isBytes, ownBytes } from "../memory/bytes.ts"
import { MessageType } from "../protocol/frame.ts"
import { methodName } from "../protocol/methodName.ts"
import type { TraceContext } from "../protocol/request.ts"
import { noLead } from "../session/messages.ts"
import type { CountedStream } from "../telemetry/streams.ts"
import type { Latency } from "./latency.ts"
import type { End, Pending, PendingStream } from "./pending.ts"
import type { Resume, TypedRequest } from "./typed.ts"

/** The endpoint of a call, as its calls see it: it hears at once what happens to them. */
export interface CalledEndpoint {
  readonly address: string
  /** How many connections there should be. */
  readonly size: number
  /** Why it could not be dialed, or was lost, the last time; undefined since it last answered. */
  readonly lastFailure: string | undefined
  /** How long its answers take. */
  readonly latencies: Latency
  /** How many calls have failed since the last was answered. */
  readonly failuresInARow: number
  /** A call is about to be sent on a connection on which none is in flight. */
  onBusy(): void
  /** A call was answered on an open connection, after others had failed. */
  onAnswered(): void
  /** A call has failed: its time was up, or its connection was lost. Calls that are lost together count once. */
  onCallFailed(): void
}

/** Takes a call back that no handler has seen, to send it elsewhere or in another form. */
export interface CallOwner {
  /** The connection was lost before its request had left. The arguments are a copy. */
  onUnsent(call: Call, endpoint: CalledEndpoint, args: Uint8Array): void
  /** The server has refused it, since its contract of the method is another one. Only what {@link Call.hasJson}. */
  onRefused(call: Call): void
}

/** What a call is sent on: it measures the calls of one connection and counts their ends. */
export interface CallLink {
  /** The address of its endpoint. */
  readonly address: string
  /** A call is given up. */
  cancel(call: Call): void
  /** The answer of a call is here. */
  answered(call: Call): void
  /** Counts a call that has succeeded with what is being read. */
  countAnswer(call: Call): void
  /** Ends a call whose answer was decoded, or is being decoded. */
  finish(call: Call, result: Effect.Effect<unknown, unknown>): void
  /** Ends a call with an answer that is an error, or has it made again. */
  refused(call: Call, chain: Uint8Array): void
  /** Ends a call that gets no answer. */
  end(call: Call, end: End): void
  /** A stream was opened: its items are counted from now on. */
  streamBegan(key: MethodKey, stream: CountedStream): void
  /** No more items of a stream are sent or taken. It can be repeated. */
  streamEnded(key: MethodKey, stream: CountedStream): void
  /** The server has sent the first item of a stream, or its end. */
  opened(): void
  /** The client has no more items for a stream. */
  endItems(call: Call): void
  /** Ends a stream from this side with a failure, such as that of its items. */
  abandon(call: Call, failure: Exit.Exit<never, unknown>): void
}

/** A call, or a stream. As an effect it is its own cancellation: one object for each call instead of three. */
export class Call extends Effectable.Class<void> implements Pending {
  /** The id on the connection that it was sent on; 0 before. */
  id = 0
  readonly key: MethodKey
  readonly options: CallOptions | undefined
  readonly deadlineAt: number
  readonly trace: TraceContext | undefined
  /** The request of a typed call; undefined for a call of bytes. It may be replaced by one in JSON. */
  typed: TypedRequest<unknown, unknown> | undefined
  resume: Resume
  owner: CallOwner
  /** What it was sent on; undefined before. */
  link: CallLink | undefined = undefined
  /** The number of the last failed dial before it began. */
  since = 0
  /** When it was made, in ticks of the Connection's clock; -1 if that was not noted. */
  startedAt = -1
  /** When it was sent, in the same ticks. */
  sentAt = -1
  /** Whether its end has been counted. */
  counted = false
  /**
   * Whether its answer is here, though it may still be being decoded. Of a stream: whether an item, or the end, is
   * here, or an item was taken from the client. It is not made again then.
   */
  isAnswered = false

  constructor(
    key: MethodKey,
    options: CallOptions | undefined,
    deadlineAt: number,
    trace: TraceContext | undefined,
    typed: TypedRequest<unknown, unknown> | undefined,
    resume: Resume,
    owner: CallOwner
  ) {
    super()
    this.key = key
    this.options = options
    this.deadlineAt = deadlineAt
    this.trace = trace
    this.typed = typed
    this.resume = resume
    this.owner = owner
  }

  /** Gives it up. */
  override asEffect(): Effect.Effect<void> {
    this.link?.cancel(this)
    return Exit.void
  }

  /** The same call, to be made once more, of this owner. */
  again(owner: CallOwner): Call {
    return new Call(this.key, this.options, this.deadlineAt, this.trace, this.typed, this.resume, owner)
  }

  get method(): string {
    return methodName(this.key)
  }

  /** The arguments, where it has them with it. */
  get ownArgs(): Uint8Array | undefined {
    return this.typed?.args
  }

  get lead(): Uint8Array {
    return this.typed === undefined ? noLead : this.typed.lead
  }

  get isCall(): boolean {
    return true
  }

  get stream(): PendingStream | undefined {
    return undefined
  }

  /** Whether it can be put into JSON, for a server whose contract is another one. */
  get hasJson(): boolean {
    return this.typed?.method.inJson !== undefined
  }

  /** Puts it into JSON, if it `hasJson`. Returns its arguments, or those that were given. */
  inJson(args: Uint8Array): Effect.Effect<Uint8Array, CallError> {
    const { typed } = this
    if (typed?.method.inJson === undefined) return Effect.succeed(args)
    return Effect.map(typed.method.inJson(typed), (typed) => {
      this.typed = typed
      return typed.args
    })
  }

  /** Its client span, if there is one. */
  get span(): Tracer.Span | undefined {
    return this.typed?.span
  }

  /** The answer of a typed call is decoded where it lies. */
  get keepsAnswer(): boolean {
    return this.typed === undefined
  }

  onMessage(type: number, bytes: Uint8Array, start: number, end: number, owned: boolean): void {
    const { link, typed } = this
    if (link === undefined) return
    if (type !== MessageType.response) return link.refused(this, bytes.subarray(start, end))
    link.answered(this)
    if (typed === undefined) {
      const result = Exit.succeed(ownBytes(bytes, start, end, owned))
      link.countAnswer(this)
      this.resume(result)
    } else {
      this.isAnswered = true
      link.finish(this, typed.decode(bytes, start, end, owned, link.address))
    }
  }

  onEnd(end: End): void {
    this.link?.end(this, end)
  }
}

/**
 * The error of a call whose key or arguments have a wrong type, as code without types may give. It has to be found
 * before anything is queued: a text would be sent as zeros, and an exception would leave an unfinished message in the
 * batch.
 */
export const misuse = (key: unknown, args: unknown): TypeError | undefined => {
  if (!isMethodKey(key)) return new TypeError(`the key of a call is a MethodKey, got ${typeof key}`)
  if (!isBytes(args)) {
    return new TypeError(`the arguments of ${methodName(key)} are a Uint8Array, got ${typeof args}`)
  }
  return undefined
}
