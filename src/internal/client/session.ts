/**
 * A client's side of one established connection: it numbers calls, sends them, and gives each answer to its call.
 *
 * This is the hot path, so it is plain synchronous code: Effect begins where a call's fiber is resumed. A call is in the table from the
 * moment it is queued until it ends, in exactly one way: an answer, its deadline, its interruption, or the end of the connection.
 */
import type * as Clock from "effect/Clock"
import type * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Result from "effect/Result"
import type * as Tracer from "effect/Tracer"
import type { Duplex } from "node:stream"
import { type CallError, CommunicationError, DeadlineExceeded, RemoteError } from "../../CallError.ts"
import type { MethodKey } from "../../MethodKey.ts"
import { copyInto, dataView, ownBytes } from "../memory/bytes.ts"
import { decodeErrorChain } from "../protocol/errorChain.ts"
import { clientTypes, headerSize, MessageType, writeHeader } from "../protocol/frame.ts"
import * as Identities from "../protocol/identities.ts"
import { requestHeaderSize, writeDeadline, writeRequestHeader } from "../protocol/request.ts"
import {
  decodeVersion,
  encodeVersion,
  flagAreYouThere,
  flagGoingAway,
  flagNoMoreRequests,
  flagUnderstood,
  protocolVersion
} from "../protocol/version.ts"
import { KeepAlive, type KeepAliveTimes, type Watched } from "../session/keepAlive.ts"
import { Tally } from "../telemetry/calls.ts"
import type { EndpointStats } from "../telemetry/metrics.ts"
import { annotate, errorType, peerAttributes, serverAttributes } from "../telemetry/span.ts"
import { CoarseClock, millisBetween, nowMillis, nowTicks, secondsBetween, toTicks } from "../time/clock.ts"
import { DeadlineTimer } from "../time/timer.ts"
import { Slots } from "../transport/slots.ts"
import { type Over, Transport, type TransportOwner } from "../transport/transport.ts"
import type { Writer } from "../transport/writer.ts"
import { isReset, textOf } from "../userError.ts"
import { type Call, writeLead } from "./call.ts"
import type { Latency } from "./latency.ts"

/** What a session needs to know, the same for all of a Connection's. */
export interface SessionSettings {
  readonly clock: Clock.Clock
  /** The context of fibers that serve several callers. */
  readonly context: Context.Context<never>
  readonly writeFlattenLimit: number
  readonly maxMessageSize: number
  readonly maxUnsentBytes: number
  readonly messageTimeoutMillis: number
  readonly optimisticSpinMillis: number
}

/** Whom a session tells what happened to it. */
export interface SessionOwner {
  /** Is told what answers take. */
  readonly latencies: Latency
  /** The peer's version message has come: calls can be sent. */
  onReady(): void
  /** What was sent in this turn is handed to the socket. */
  onFlush(): void
  /** A call is about to be sent, and none is in flight. */
  onBusy(): void
  /** No call is in flight any more. */
  onIdle(): void
  /** The peer is going away: it is to be sent no more calls. Comes once, and after `onReady`. */
  onGoingAway(): void
  /** There may be room for a call again, or it is over and its calls are ended: whoever waits for room is to look. */
  onRoom(): void
  /** A call was answered on a session that is suspect. */
  onAnswered(): void
  /** The time of a call was up that was sent, or the connection was lost under calls. */
  onCallFailed(): void
  /** The session is over, before any of its `calls` is ended. Comes once. */
  onOver(why: string, calls: number): void
  /** A call whose request was never handed to the socket when the connection was lost. Its arguments are a copy. */
  onUnsent(call: Call, args: Uint8Array): void
  /** The server has refused a typed call, since its contract of the method is another one: it is to be made again. */
  onContractDiffers(call: Call, isNew: boolean): void
}

/** What is asked beside the calls. */
interface Inquiry {
  readonly id: number
  readonly key: MethodKey
  readonly resume: (result: Result.Result<Uint8Array, CallError>) => void
}

const requestPrefix = headerSize + requestHeaderSize

export class ClientSession implements TransportOwner, Watched {
  readonly address: string
  private readonly settings: SessionSettings
  private readonly owner: SessionOwner
  private readonly transport: Transport
  private readonly pending = new Slots<Call>()
  private readonly timer: DeadlineTimer
  private readonly stats: EndpointStats | undefined
  private readonly clock: CoarseClock
  /** When the bytes that are being read have come, in ticks of the clock. */
  readAt = 0
  /** The same in milliseconds. */
  private readMillis = 0
  /** When the answer was sent for that was measured last of what is being read: those that were sent together take as long. */
  private measuredAt = -1
  /** When the requests that are handed to the socket leave: read once for all of a flush; -1 where it has yet to be. */
  private leavingAt = -1
  private readonly tally: Tally | undefined
  private readonly keepAlive: KeepAlive | undefined
  /** When the message began to arrive that is not whole yet, in milliseconds of the clock. */
  private partialSince = 0
  /** The methods, by their keys in hex, of which the server has another contract: calls of them go in JSON. */
  private differing: Set<string> | undefined = undefined
  private nextId = 1
  private inquiry: Inquiry | undefined = undefined
  private ready = false
  private goingAway = false
  /** Whether the peer has ended it before its version message, and given no reason but that it goes away. */
  wasCutShort = false
  /** Whether the owner wants to hear of the next answer: something has failed since the last. */
  isSuspect = false
  private closing = false
  private spinUntil = 0
  private spinning = false
  /** What spans say of the server. */
  private peer: ReadonlyArray<readonly [name: string, value: string | number]> | undefined = undefined

  constructor(
    address: string,
    duplex: Duplex,
    owner: SessionOwner,
    settings: SessionSettings,
    keepAlive: KeepAliveTimes | undefined,
    stats: EndpointStats | undefined
  ) {
    this.address = address
    this.owner = owner
    this.settings = settings
    this.stats = stats
    this.tally = stats === undefined ? undefined : new Tally(stats.calls, () => this.readAt)
    this.clock = new CoarseClock(settings.clock)
    this.transport = new Transport(duplex, this, clientTypes, settings, stats)
    this.keepAlive = keepAlive === undefined
      ? undefined
      : new KeepAlive(settings.clock, keepAlive, 0, this.transport.progress())
    this.timer = new DeadlineTimer(settings.clock, settings.context, (now) => this.expire(now))
  }

  /** Says our version and begins to read. */
  start(): void {
    this.say(flagUnderstood)
    this.transport.writer.flush()
    this.transport.start()
  }

  get callsInFlight(): number {
    return this.pending.size
  }

  get isOver(): boolean {
    return this.transport.isOver
  }

  /** Whether calls may be sent on it: it is not over, and the peer is not going away. */
  get isOpen(): boolean {
    return !this.goingAway && !this.transport.isOver
  }

  /** Whether a call can be sent now. */
  hasRoom(): boolean {
    return this.transport.writer.hasRoom()
  }

  /** Whether a call is to be put into JSON before it can be sent here. */
  needsJson({ key, typed }: Call): boolean {
    return this.differing !== undefined && typed?.method.inJson !== undefined && this.differing.has(key.hex)
  }

  /** Queues a call. It must not be over, there must be room, and it must not need JSON. */
  send(call: Call, args: Uint8Array): void {
    const id = this.nextId++
    call.id = id
    call.sentOn = this
    // Noted elsewhere, and maybe later than this clock was last read.
    if (call.startedAt !== -1) this.clock.forget()
    call.sentAt = this.now()
    if (call.startedAt === -1) call.startedAt = call.sentAt
    if (this.pending.size === 0) this.owner.onBusy()
    this.pending.add(call)
    const hasDeadline = call.deadlineAt !== Infinity
    // The time left is written when the request leaves; until then any deadline will do that says there is one.
    const micros = hasDeadline ? 1 : 0
    const { typed } = call
    const prefix = requestPrefix + (typed === undefined ? 0 : typed.method.leadSize)
    const writer = this.transport.writer
    if (args.length < this.settings.writeFlattenLimit) {
      const size = prefix + args.length
      const batch = writer.reserve(size)
      const { bytes, view } = batch
      const offset = batch.length - size
      writeHeader(view, offset, id, MessageType.request, size - headerSize)
      writeRequestHeader(view, offset + headerSize, call.key.bytes, micros, call.trace)
      if (typed !== undefined) writeLead(typed, bytes, view, offset + requestPrefix)
      copyInto(bytes, offset + prefix, args)
    } else {
      const head = new Uint8Array(prefix)
      const view = dataView(head)
      writeHeader(view, 0, id, MessageType.request, prefix - headerSize + args.length)
      writeRequestHeader(view, headerSize, call.key.bytes, micros, call.trace)
      if (typed !== undefined) writeLead(typed, head, view, requestPrefix)
      writer.reference(id, MessageType.request, head, args)
    }
    if (typed?.span !== undefined) this.describePeer(typed.span)
    writer.requestQueued(id, hasDeadline)
    if (hasDeadline) this.timer.arm(call.deadlineAt)
    if (this.settings.optimisticSpinMillis > 0) this.spin()
  }

  /**
   * Asks the server something about itself, beside the calls: it does not count as one, and the connection does not stay for it. One thing at a
   * time. `resume` hears of the answer, or the end of the connection.
   */
  inquire(key: MethodKey, args: Uint8Array, resume: Inquiry["resume"]): void {
    const id = this.nextId++
    this.inquiry = { id, key, resume }
    const { writer } = this.transport
    const size = requestPrefix + args.length
    const { bytes, length, view } = writer.reserve(size)
    writeHeader(view, length - size, id, MessageType.request, size - headerSize)
    writeRequestHeader(view, length - size + headerSize, key.bytes, 0, undefined)
    bytes.set(args, length - args.length)
    writer.requestQueued(id, false)
  }

  /** Asks no more. */
  stopInquiring(): void {
    const { inquiry } = this
    if (inquiry === undefined) return
    this.inquiry = undefined
    const { isOver, writer } = this.transport
    if (isOver) return
    if (writer.isQueued(inquiry.id)) writer.drop(inquiry.id)
    else writer.empty(inquiry.id, MessageType.cancel)
  }

  /** Gives a call up: a request that is still ours is dropped, else the server is told. */
  cancel(call: Call): void {
    if (this.pending.get(call.id) !== call) return
    this.pending.remove(call.id)
    // Whoever waits for the deadline may be earlier than the timer here.
    const errorType = this.isLate(call) ? "DeadlineExceeded" : "canceled"
    annotate(call.typed?.span, "error.type", errorType)
    this.count(call, errorType)
    this.forget(call)
    this.settled()
  }

  /** Ends the session at once; its calls fail with this reason. */
  close(): void {
    this.closing = true
    this.transport.destroy()
  }

  onRead(): void {
    this.clock.forget()
    this.readMillis = nowMillis(this.settings.clock)
    this.readAt = toTicks(this.readMillis)
    this.measuredAt = -1
  }

  onPartial(): void {
    this.partialSince = nowMillis(this.settings.clock)
    this.timer.arm(this.partialSince + this.settings.messageTimeoutMillis)
  }

  /** Whether the server takes what it is sent is up to the probe. */
  onBlocked(): void {}

  onFlush(): void {
    this.leavingAt = -1
    this.tally?.count()
    this.owner.onFlush()
  }

  onFrame(id: number, type: number, bytes: Uint8Array, start: number, end: number, owned: boolean): void {
    if (type === MessageType.response) {
      const call = this.pending.remove(id)
      if (call === undefined) {
        // Else an answer to a call that was given up.
        if (id === this.inquiry?.id) this.inquired(id, Result.succeed(ownBytes(bytes, start, end, owned)))
        return
      }
      if (this.isSuspect) this.answered()
      if (call.sentAt !== this.measuredAt) this.measure(call)
      if (call.typed === undefined) {
        const result = Exit.succeed(ownBytes(bytes, start, end, owned))
        // Before the caller goes on: a connection that drains is gone by then, if this was its last call.
        this.settled()
        this.countAnswer(call)
        call.resume(result)
      } else {
        call.isAnswered = true
        const result = call.typed.decode(bytes, start, end, owned, this.address)
        this.settled()
        this.finish(call, result)
      }
    } else if (type === MessageType.responseError) {
      this.onErrorChain(id, bytes.subarray(start, end))
    } else {
      this.onVersion(id, bytes.subarray(start, end))
    }
  }

  keepsPayload(id: number, type: number): boolean {
    if (type !== MessageType.response) return false
    const call = this.pending.get(id)
    // A typed call's answer is decoded where it lies.
    return call !== undefined && call.typed === undefined
  }

  onTooLarge(id: number, type: number, length: number): void {
    // To nothing: whoever begins like this is no server of ours, and its dial need not take longer.
    if (!this.ready) return this.transport.refuse(`an answer of ${length} bytes before its version message`)
    const key = this.keyOf(id)
    // An answer to a call that was given up.
    if (key === undefined) return
    const method = nameOf(key)
    const what = type === MessageType.response
      ? `the result of ${method} is ${length} bytes`
      : `the call of ${method} failed, with an error of ${length} bytes`
    this.failed(id, this.faulty("TooLarge", `${what}, expected at most ${this.settings.maxMessageSize}`, true))
  }

  onLeave(id: number, bytes: DataView, payloadAt: number): boolean {
    const call = this.pending.get(id)
    if (call === undefined) return id === this.inquiry?.id
    if (call.deadlineAt === Infinity) return true
    if (this.leavingAt === -1) this.leavingAt = nowMillis(this.settings.clock)
    const left = call.deadlineAt - this.leavingAt
    if (left > 0) {
      writeDeadline(bytes, payloadAt, left * 1000)
      return true
    }
    this.pending.remove(id)
    this.finish(call, Exit.fail(this.deadlineExceeded(call)))
    this.settled()
    return false
  }

  onRoom(): void {
    this.owner.onRoom()
  }

  onOver(over: Over): void {
    this.timer.stop()
    this.onFlush()
    const why = over._tag === "Refused"
      ? `${this.address} sent ${over.problem}`
      : over.error !== undefined
      ? `${this.address}: ${textOf(over.error)}`
      : this.ready
      ? `${this.address} closed the connection`
      : `${this.address} closed the connection before its version message${this.refusalHint}`
    const writer = this.transport.writer
    const calls = this.pending.clear()
    this.wasCutShort ||= !this.ready && over._tag === "Lost" && (over.error === undefined || isReset(over.error))
    const unsent = calls.some((call) => writer.isQueued(call.id)) ? writer.unsent() : undefined
    this.owner.onOver(why, calls.length)
    if (calls.length > 0) {
      if (!this.closing) this.owner.onCallFailed()
      // One error for all that were sent: what it says is the same for each.
      const sent = Exit.fail(this.over(over, why, true))
      const closed = this.closing ? Exit.fail(this.over(over, why, false)) : undefined
      for (const call of calls) {
        const payload = unsent?.get(call.id)
        if (payload === undefined) this.finish(call, sent)
        else if (closed !== undefined) this.finish(call, closed)
        else {this.owner.onUnsent(
            call,
            payload.subarray(requestHeaderSize + (call.typed?.method.leadSize ?? 0))
          )}
      }
    }
    if (this.inquiry !== undefined) this.inquired(this.inquiry.id, Result.fail(this.over(over, why, true)))
    this.onRoom()
  }

  private inquired(id: number, result: Result.Result<Uint8Array, CallError>): void {
    const { inquiry } = this
    if (inquiry?.id !== id) return
    this.inquiry = undefined
    inquiry.resume(result)
  }

  /** With TLS 1.3 a client whose certificate is refused has done its handshake by then, and is told no reason. */
  private get refusalHint(): string {
    const { refusesSilently } = this.transport.capabilities
    return refusesSilently ? " (it may have refused this client's certificate: its log says so)" : ""
  }

  private over(over: Over, why: string, maybeExecuted: boolean): CommunicationError {
    if (this.closing) return closedError(this.address, maybeExecuted)
    return new CommunicationError({
      reason: { _tag: "Lost" },
      endpoint: this.address,
      message: `the connection was lost: ${why}`,
      ...(over._tag === "Lost" && over.error !== undefined ? { cause: over.error } : {}),
      maybeExecuted
    })
  }

  private onVersion(id: number, payload: Uint8Array): void {
    if (id !== 0) return this.transport.refuse(`a version message with id ${id}, expected 0`)
    const version = decodeVersion(payload)
    if (version === undefined) {
      return this.transport.refuse(`a version message of ${payload.length} bytes, expected at least 4`)
    }
    // Of a peer that does not understand flags, whatever follows the version is something else.
    const flags = (version.flags & flagUnderstood) === 0 ? 0 : version.flags
    const leaves = (flags & flagGoingAway) !== 0
    if (!this.ready) {
      // It has been sent nothing: for whoever dials it, it is not there.
      if (leaves) {
        this.wasCutShort = true
        return this.transport.fail(new Error("it is going away"))
      }
      this.ready = true
      if (this.keepAlive !== undefined) this.timer.arm(this.keepAlive.start(nowMillis(this.settings.clock), this))
      this.owner.onReady()
    } else if (leaves && !this.goingAway) {
      this.goingAway = true
      // Behind all requests that were queued before.
      this.say(flagUnderstood | flagNoMoreRequests)
      this.owner.onGoingAway()
    }
    // Where there is no room, it does not take what it has been sent: as soon as it does, that is an answer.
    if ((flags & flagAreYouThere) !== 0 && !this.isOver && this.hasRoom()) this.say(flagUnderstood | flagAreYouThere)
  }

  /** Queues a version message, with flags where the peer is to know them. */
  private say(flags: number | undefined): void {
    const payload = encodeVersion(protocolVersion, flags)
    const batch = this.transport.writer.reserve(headerSize + payload.length)
    const offset = batch.length - headerSize - payload.length
    writeHeader(batch.view, offset, 0, MessageType.version, payload.length)
    batch.bytes.set(payload, offset + headerSize)
  }

  private onErrorChain(id: number, payload: Uint8Array): void {
    const key = this.keyOf(id)
    if (key === undefined) return
    const decoded = decodeErrorChain(payload)
    if (!decoded.ok) {
      const problem = `cannot decode the error of ${nameOf(key)}: ${decoded.reason}`
      return this.failed(id, this.faulty("Protocol", problem, true))
    }
    const { chain } = decoded
    // What a server says itself is a single error. Where a handler has met that elsewhere, its chain is longer.
    const only = chain.length === 1 ? chain[0] : undefined
    if (chain.some(({ identity }) => identity === Identities.deadlineExceeded.identity)) {
      const call = this.pending.get(id)
      if (call !== undefined && call.deadlineAt !== Infinity) {
        // However its handler words that: a Go handler wraps its context's error.
        if (this.isTimeUp(call)) return this.failedLate(call)
        if (only !== undefined) return this.failed(id, this.deadlineExceeded(call))
      }
    } else if (only?.identity === Identities.contractDiffers.identity) {
      const call = this.pending.get(id)
      if (call?.typed?.method.inJson !== undefined) return this.contractDiffers(call)
    } else if (only?.identity === Identities.argumentsTooLargeIdentity) {
      const problem = `${this.address} refused a call of ${nameOf(key)}: ${only.message}`
      return this.failed(id, this.faulty("TooLarge", problem, false))
    } else if (only?.identity === Identities.answerTooLargeIdentity) {
      return this.failed(id, this.faulty("TooLarge", only.message, true))
    }
    this.failed(id, RemoteError.fromChain(chain))
  }

  /** The method that an answer is of; undefined where nobody waits for it. */
  private keyOf(id: number): MethodKey | undefined {
    const { inquiry } = this
    return this.pending.get(id)?.key ?? (id === inquiry?.id ? inquiry.key : undefined)
  }

  /** Ends a call, or what is asked beside them, with an answer that is an error. */
  private failed(id: number, error: CallError): void {
    const call = this.pending.remove(id)
    if (call === undefined) return this.inquired(id, Result.fail(error))
    if (this.isSuspect) this.answered()
    this.measureAtLeast(call)
    this.finish(call, Exit.fail(error))
    this.settled()
  }

  /** Ends a call whose deadline has passed on the server. That is ours, and its answer may be here first. */
  private failedLate(call: Call): void {
    this.pending.remove(call.id)
    this.owner.onCallFailed()
    this.measureAtLeast(call)
    this.finish(call, Exit.fail(this.deadlineExceeded(call)))
    this.settled()
  }

  /** The error of a call where there is something wrong with its own request or answer, and with nothing else. */
  private faulty(reason: "Protocol" | "TooLarge", message: string, maybeExecuted: boolean): CommunicationError {
    return new CommunicationError({ reason: { _tag: reason }, endpoint: this.address, message, maybeExecuted })
  }

  /** The server has another contract of the method, and has run nothing: the call is made again, in JSON. */
  private contractDiffers(call: Call): void {
    this.pending.remove(call.id)
    if (this.isSuspect) this.answered()
    this.measureAtLeast(call)
    const differing = this.differing ??= new Set()
    const isNew = !differing.has(call.key.hex)
    differing.add(call.key.hex)
    this.owner.onContractDiffers(call, isNew)
    this.settled()
  }

  private answered(): void {
    this.isSuspect = false
    this.owner.onAnswered()
  }

  private deadlineExceeded(call: Call): DeadlineExceeded {
    return new DeadlineExceeded({
      message: `deadline exceeded: no answer from ${this.address} to ${call.method} in time`
    })
  }

  /** Does what is due, and returns when the next is. */
  private expire(now: number): number {
    return Math.min(this.expireCalls(now), this.expirePeer(now), this.expirePartial(now))
  }

  /** Gives up a peer that has fallen silent, and does not answer. Returns when to look again. */
  private expirePeer(now: number): number {
    const { keepAlive, transport } = this
    if (keepAlive === undefined || !this.ready || transport.isOver) return Infinity
    const next = keepAlive.look(now, this)
    if (keepAlive.state === "Lost") {
      const silence = keepAlive.silence(now)
      transport.fail(new Error(`nothing was heard of it for ${silence}, and it has not answered when it was asked`))
    }
    return next
  }

  /** We always read. */
  get isDeaf(): boolean {
    return false
  }

  get writer(): Writer {
    return this.transport.writer
  }

  ask(): void {
    this.say(undefined)
    // At once: in a turn that takes long, its time would pass before it has left.
    this.transport.writer.flush()
  }

  /** Refuses a peer whose message does not become whole. Returns when to look again. */
  private expirePartial(now: number): number {
    const { messageTimeoutMillis } = this.settings
    if (!this.transport.isPartial || this.transport.isOver) return Infinity
    const due = this.partialSince + messageTimeoutMillis
    if (now < due) return due
    this.transport.refuse(
      `a message that was not whole after ${Duration.format(Duration.millis(messageTimeoutMillis))}`
    )
    return Infinity
  }

  /** Ends the calls whose time is up; returns the earliest deadline of the others. */
  private expireCalls(now: number): number {
    let next = Infinity
    for (const call of this.pending.values()) {
      if (call.deadlineAt > now) next = Math.min(next, call.deadlineAt)
      // A caller that was resumed may have ended others.
      else if (this.pending.get(call.id) === call) {
        this.pending.remove(call.id)
        // One that is still ours waits for a peer that takes no more.
        if (this.transport.writer.isQueued(call.id)) this.transport.writer.drop(call.id)
        this.late(call)
        this.finish(call, Exit.fail(this.deadlineExceeded(call)))
        this.settled()
      }
    }
    return next
  }

  /** Ends a call that is no longer pending. */
  private finish(call: Call, result: Effect.Effect<unknown, unknown>): void {
    if (this.stats === undefined) return call.resume(result)
    if (Exit.isExit(result)) {
      if (Exit.isSuccess(result)) this.countAnswer(call)
      else this.count(call, errorType(result.cause))
      return call.resume(result)
    }
    // Its outcome is known when it has been decoded.
    call.resume(
      Effect.onExit(
        result,
        (exit) => Effect.sync(() => this.count(call, Exit.isSuccess(exit) ? undefined : errorType(exit.cause)))
      )
    )
  }

  /** Counts a call that has succeeded with what is being read. */
  private countAnswer(call: Call): void {
    if (this.tally === undefined) return
    call.counted = true
    this.tally.add(call.key, call.startedAt, undefined)
  }

  private count(call: Call, failure: string | undefined): void {
    if (this.stats === undefined) return
    call.counted = true
    this.stats.calls.method(call.key).record(secondsBetween(call.startedAt, this.now()), failure)
  }

  /** For durations. Where no flush is due, as with deadlines that pass one after another, nothing would say that a turn has ended. */
  private now(): number {
    if (!this.transport.writer.isFlushDue) this.clock.forget()
    return this.clock.now()
  }

  private forget(call: Call): void {
    const writer = this.transport.writer
    const isLate = this.isLate(call)
    if (writer.isQueued(call.id)) writer.drop(call.id)
    // At the deadline the server ends the call by itself.
    else if (!isLate) writer.empty(call.id, MessageType.cancel)
    if (isLate) this.late(call)
  }

  /** The time of a call is up that was sent, or was to be. */
  private late(call: Call): void {
    this.measureAtLeast(call)
    this.owner.onCallFailed()
  }

  private measure(call: Call): void {
    this.measuredAt = call.sentAt
    this.owner.latencies.observe(millisBetween(call.sentAt, this.readAt), this.readMillis)
  }

  /** For what does not say how fast the endpoint is, as a refusal, which may come at once; but may say how slow. */
  private measureAtLeast({ sentAt }: Call): void {
    const { clock } = this.settings
    this.owner.latencies.observeAtLeast(millisBetween(sentAt, nowTicks(clock)), nowMillis(clock))
  }

  /**
   * Whether the time of a call is up, or may be for its server.
   *
   * The server is told whole microseconds, so that its deadline may be one earlier than ours. And the clocks of two
   * machines run at different speeds: one that is being set right may be off by 0.05 %, so two are 0.1 % apart at most.
   */
  private isTimeUp({ deadlineAt, sentAt }: Call): boolean {
    const now = nowMillis(this.settings.clock)
    return deadlineAt - now <= 0.001 * millisBetween(sentAt, toTicks(now)) + 0.01
  }

  private isLate({ deadlineAt }: Call): boolean {
    return deadlineAt !== Infinity && deadlineAt <= nowMillis(this.settings.clock)
  }

  /** Tells a client span whom the call was sent to. */
  private describePeer(span: Tracer.Span): void {
    this.peer ??= Object.entries({
      ...serverAttributes(this.address),
      ...peerAttributes(this.transport.capabilities.remote)
    })
    for (const [name, value] of this.peer) annotate(span, name, value)
  }

  private settled(): void {
    if (this.pending.size === 0) this.owner.onIdle()
  }

  /** Keeps the event loop from sleeping for a while, so that an answer is seen without a wake-up. */
  private spin(): void {
    this.spinUntil = performance.now() + this.settings.optimisticSpinMillis
    if (this.spinning) return
    this.spinning = true
    const turn = () => {
      this.spinning = this.pending.size > 0 && performance.now() < this.spinUntil
      if (this.spinning) setImmediate(turn)
    }
    setImmediate(turn)
  }
}

const nameOf = ({ component, method }: MethodKey): string => `${component}.${method}`

/** The error of calls on a Connection that was closed. */
export const closedError = (endpoint: string | undefined, maybeExecuted: boolean): CommunicationError =>
  new CommunicationError({
    reason: { _tag: "Closed" },
    ...(endpoint === undefined ? {} : { endpoint }),
    message: "the Connection was closed",
    maybeExecuted
  })
