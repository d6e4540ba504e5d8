/**
 * A server's side of one connection: it reads requests, runs a handler for each and writes the answers.
 *
 * Like the client's side it is plain synchronous code up to where a handler's fiber begins. A call is in the table while its handler runs
 * or waits to run; the server's connection ends only when the table is empty.
 */
import * as Cause from "effect/Cause"
import type * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Scope from "effect/Scope"
import * as Tracer from "effect/Tracer"
import type { Duplex } from "node:stream"
import { Current as CurrentDeadline } from "../ambient/deadline.ts"
import { asEffect, unexpected } from "../guard.ts"
import { logIn } from "../log.ts"
import { copyInto, dataView, isBytes, ownCopy } from "../memory/bytes.ts"
import { encodeErrorChain, type ErrorChain } from "../protocol/errorChain.ts"
import { headerSize, MessageType, serverTypes, writeHeader } from "../protocol/frame.ts"
import * as Identities from "../protocol/identities.ts"
import type { KeyTable } from "../protocol/keyTable.ts"
import { readDeadlineMicros, readTraceContext, requestHeaderSize, type TraceContext } from "../protocol/request.ts"
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
import type { ServerStats } from "../telemetry/metrics.ts"
import {
  type Attributes,
  errorType,
  methodAttributes,
  peerAttributes,
  recordFailure,
  spanName
} from "../telemetry/span.ts"
import { nowMillis, nowTicks } from "../time/clock.ts"
import { DeadlineTimer } from "../time/timer.ts"
import type { Remote } from "../transport/capabilities.ts"
import { isTaken, markTaken } from "../transport/given.ts"
import type { Progress } from "../transport/progress.ts"
import { Slots } from "../transport/slots.ts"
import { type Over, Transport, type TransportOwner } from "../transport/transport.ts"
import type { Writer } from "../transport/writer.ts"
import { clip, readReasons, textOf } from "../userError.ts"
import type { Warnings } from "../warnings.ts"
import type { Admission, AdmittedConnection } from "./admission.ts"
import { type CallOwner, RunningCall } from "./call.ts"
import { Drain, holdAt } from "./drain.ts"
import { chainOfCause } from "./failure.ts"
import { handlerName, type Incoming, methodName, type Route } from "./route.ts"
import { UnsentAnswers } from "./unsent.ts"

/** What the sessions of one server share. */
export interface SessionSettings {
  readonly clock: Clock.Clock
  /** What the handlers need, without anything that belongs to a single call. */
  readonly context: Context.Context<never>
  readonly admission: Admission
  readonly warnings: Warnings
  readonly writeFlattenLimit: number
  readonly maxMessageSize: number
  readonly maxUnsentBytes: number
  readonly unsentMillis: number
  readonly messageTimeoutMillis: number
  readonly keepAlive: KeepAliveTimes | undefined
  /** Whether clients of the in-memory network are asked, too. */
  readonly keepAliveInMemory: boolean
  readonly firstMessageMillis: number
  readonly idleMillis: number
  readonly shutdownGraceMillis: number
  /** Undefined where nothing is to be counted. */
  readonly stats: ServerStats | undefined
}

/**
 * For so long a client must have asked for nothing before a server that goes away closes its connection, where the client cannot say that
 * nothing more is on its way. In milliseconds.
 */
const quietPeriod = 100

/**
 * For so long at least, in milliseconds, a client of a server that stops may take to close its end after the server has
 * ended its own: a connection that is closed with bytes unread is reset, which takes along answers that are on their
 * way.
 */
const lingering = 500

export class ServerSession implements TransportOwner, CallOwner, AdmittedConnection, Watched {
  readonly settings: SessionSettings
  private readonly routes: KeyTable<Route>
  private readonly transport: Transport
  private readonly calls = new Slots<RunningCall>()
  private readonly timer: DeadlineTimer
  private readonly drain = new Drain()
  private readonly unsent: UnsentAnswers
  /** Who is at the other end, for logs: a socket that is closed does not know any more. */
  private readonly name: string
  /** When the bytes that are being read have come, in ticks of the clock. */
  readAt = 0
  /** Calls whose answers have yet to be handed to the socket: they are counted when that is done, all with one look at the clock. */
  private readonly tally: Tally | undefined
  private readonly onEnded: () => void
  running = 0
  /** Whether nothing is read from the client, since it does not take its answers. */
  paused = false
  /** Whether a message has come. */
  private spoken = false
  /** Whether the client understands flags. */
  private understands = false
  /** Finds out whether a client that understands flags is still there. */
  private readonly keepAlive: KeepAlive | undefined
  /** How often the client was asked whether it is there, and has not answered. */
  private unanswered = 0
  /** Whether the server stops, and does not only end a connection that is idle. */
  private stopping = false
  /** Until when the client's calls may end after that, in milliseconds of the clock. */
  private graceUntil = Infinity
  /** When the answers to a client that does not understand begin to be held, and when they began to be. */
  private holdAt = Infinity
  private heldSince = 0
  /** When the last request came, or the last call ended; noted only where that makes a difference. */
  private quietSince = 0
  private startedAt = 0
  /** When the message began to arrive that is not whole yet, in milliseconds of the clock. */
  private partialSince = 0
  /** What the client has taken, of one whose connection was idle. */
  private readonly progress: Progress
  private done = false
  /** What spans say of the client. */
  private peer: Attributes | undefined = undefined
  /** The attributes of spans by what is served. */
  private readonly attributes = new Map<Route, Attributes>()
  private readonly endWaiters: Array<() => void> = []

  /**
   * `onEnded` is called once, when the connection is over and no handler of its calls runs any more. It throws where
   * the connection is none, or is served already.
   */
  constructor(duplex: Duplex, routes: KeyTable<Route>, settings: SessionSettings, onEnded: () => void) {
    if (isTaken(duplex)) throw new TypeError("the connection is served already, expected each one once")
    this.settings = settings
    this.tally = settings.stats === undefined
      ? undefined
      : new Tally(settings.stats.calls, () => nowTicks(settings.clock))
    this.routes = routes
    this.onEnded = onEnded
    this.transport = new Transport(duplex, this, serverTypes, settings, settings.stats)
    const { mayVanish, remote } = this.transport.capabilities
    this.name = nameOfPeer(remote)
    const { clock, keepAlive, maxUnsentBytes, messageTimeoutMillis, unsentMillis } = settings
    const { writer } = this.transport
    this.keepAlive = keepAlive === undefined || (!mayVanish && !settings.keepAliveInMemory)
      ? undefined
      : new KeepAlive(clock, keepAlive, messageTimeoutMillis, this.transport.progress())
    // Each asks what the client has taken since it asked itself.
    this.unsent = new UnsentAnswers(writer, this.transport.progress(), maxUnsentBytes, unsentMillis)
    this.progress = this.transport.progress()
    this.timer = new DeadlineTimer(settings.clock, settings.context, (now) => this.expire(now))
    markTaken(duplex)
  }

  start(): void {
    this.startedAt = nowMillis(this.settings.clock)
    this.quietSince = this.startedAt
    this.timer.arm(this.startedAt + Math.min(this.settings.firstMessageMillis, this.settings.idleMillis))
    this.logConnection(Effect.logDebug("a connection was accepted"))
    // It is not known yet whether the client can be asked.
    if (this.keepAlive !== undefined) {
      const { interval, timeout } = this.keepAlive.times
      this.transport.keepAlive(interval, timeout)
    }
    this.transport.start()
  }

  get callsInFlight(): number {
    return this.calls.size
  }

  /** Whether its connection is still there: it may be over while handlers that cannot be interrupted run on. */
  get isOpen(): boolean {
    return !this.transport.isOver
  }

  /**
   * Lets the client know that it should start no more calls here, lets those in flight end, as long as the grace lasts, and ends the
   * connection. It can be repeated.
   */
  leave(): void {
    if (this.stopping || this.done) return
    this.stopping = true
    const { clock, shutdownGraceMillis } = this.settings
    if (shutdownGraceMillis === 0) return this.destroy()
    const now = nowMillis(clock)
    this.goAway(now, shutdownGraceMillis)
    this.holdAt = holdAt(this.graceUntil, shutdownGraceMillis)
    this.timer.arm(this.expire(now))
  }

  /** Ends when the connection is over and no handler runs any more. */
  readonly whenEnded: Effect.Effect<void> = Effect.callback<void>((resume) => {
    if (this.done) return resume(Effect.void)
    this.endWaiters.push(() => resume(Effect.void))
  })

  /** Ends the connection at once and interrupts its calls; answers that are there go out as far as the socket takes them. */
  destroy(): void {
    this.transport.writer.flush()
    this.transport.destroy()
    for (const call of this.calls.values()) call.stop("lost")
  }

  onRead(): void {
    if (this.settings.stats !== undefined || this.keepAlive !== undefined) this.readAt = nowTicks(this.settings.clock)
    this.settings.admission.beginTurn()
  }

  onPartial(): void {
    this.partialSince = nowMillis(this.settings.clock)
    this.timer.arm(this.partialSince + this.settings.messageTimeoutMillis)
  }

  onFlush(): void {
    this.tally?.count()
  }

  onBlocked(): void {
    if (this.unsent.needsWatch) this.timer.arm(this.unsent.watch(nowMillis(this.settings.clock)))
  }

  onFrame(id: number, type: number, bytes: Uint8Array, start: number, end: number, owned: boolean): void {
    if (this.drain.state === "ended") return
    this.spoken = true
    if (type === MessageType.request) this.onRequest(id, bytes, start, end, owned)
    else if (type === MessageType.cancel) this.calls.get(id)?.stop("canceled")
    else this.onVersion(id, bytes.subarray(start, end))
  }

  keepsPayload(_id: number, type: number): boolean {
    return type === MessageType.request
  }

  /** Only requests are skipped. */
  onTooLarge(id: number, _type: number, length: number): void {
    if (this.drain.state === "ended") return
    this.spoken = true
    if (!this.takes(id)) return
    this.settings.stats?.calls.other.record(0, "too_large")
    const limit = this.settings.maxMessageSize - requestHeaderSize
    this.respondError(id, [Identities.argumentsTooLarge(length - requestHeaderSize, limit)])
  }

  onLeave(): boolean {
    return true
  }

  onRoom(): void {
    if (!this.paused) return
    this.paused = false
    const { admission, clock } = this.settings
    // What it has taken says that it is there, as what it said meanwhile would have.
    this.readAt = nowTicks(clock)
    // It was not for its sender that it did not become whole.
    if (this.transport.isPartial) this.onPartial()
    // Now: of one that asks for much there may be no room whenever it is looked, until the grace is over.
    if (this.drain.state === "leaving") this.timer.arm(this.expireHold(nowMillis(clock)))
    this.transport.resume()
    admission.resume(this)
  }

  onOver(over: Over): void {
    this.tally?.count()
    if (over._tag === "Refused") this.logClosed(`its peer sent ${over.problem}`, over.problem)
    else if (over.isBroken) this.logBroken(over.error)
    else {
      const reason = over.error === undefined ? undefined : textOf(over.error)
      this.logConnection(Effect.logDebug("a connection has ended"), reason)
    }
    // A copy: a handler that is interrupted may end, and leave the table, at once.
    for (const call of this.calls.values()) {
      // Whoever has got the answer need not stay for the rest.
      if (!call.acknowledged) call.stop("lost")
    }
    this.finishIfIdle()
  }

  /** Answers a call, unless nobody listens any more, and takes it out of the table. */
  answer(call: RunningCall, exit: Exit.Exit<Uint8Array, unknown>): void {
    this.calls.remove(call.id)
    const late = call.stopped === "deadline" || this.isLate(call.deadlineAt)
    this.count(call, call.acknowledged ? this.discarded(call.route, exit) : this.respond(call, exit, late))
    this.finishIfIdle()
  }

  /** Refuses a call that has waited: its place has gone to another connection's. */
  refuse(call: RunningCall): void {
    this.calls.remove(call.id)
    this.count(call, "overloaded")
    this.respondError(call.id, [Identities.overloaded])
    this.finishIfIdle()
  }

  /** Answers a discarded call, whose handler runs on. */
  acknowledge(call: RunningCall): void {
    // Its deadline was for the answer.
    call.deadlineAt = Infinity
    this.send(call.id, MessageType.response, call.incoming?.replyFormat ?? -1, nothing)
  }

  died(call: RunningCall, message: string, cause: Cause.Cause<unknown>): void {
    this.logFailed(call.route, message, cause)
  }

  /** Whether a failure at this moment is one because there is no time left: a handler's own calls may have met the deadline first. */
  isLate(deadlineAt: number): boolean {
    return deadlineAt !== Infinity && deadlineAt <= nowMillis(this.settings.clock)
  }

  private count({ acknowledged, route, startedAt }: RunningCall, failure: string | undefined): void {
    if (this.tally === undefined) return
    this.tally.add(route.key, startedAt, failure)
    // There is nothing more to be sent.
    if (acknowledged || this.transport.isOver) this.tally.count()
  }

  private finishIfIdle(): void {
    if (this.calls.size > 0) return
    if (!this.transport.isOver) return this.idle()
    if (this.done) return
    this.done = true
    this.timer.stop()
    this.onEnded()
    for (const wake of this.endWaiters) wake()
  }

  /** No call is in flight. */
  private idle(): void {
    const { clock, idleMillis } = this.settings
    if (this.drain.isGoingAway) {
      this.progress.forget()
      if (this.drain.isLast) this.end()
      else if (!this.understands) this.timer.arm(this.quietSince + quietPeriod)
    } else if (idleMillis !== Infinity) {
      this.quietSince = nowMillis(clock)
      this.timer.arm(this.quietSince + idleMillis)
    }
  }

  private goAway(now: number, graceMillis: number): void {
    this.graceUntil = now + graceMillis
    if (this.drain.isGoingAway) return
    this.drain.become("leaving")
    this.quietSince = now
    if (this.understands) this.say(0)
  }

  /**
   * Ends the connection's writing half; it is over when the client, who has then read every answer, has closed the connection. What it still
   * sends is read and dropped: a connection that is closed before that is reset, which takes along answers that are on their way.
   */
  private end(): void {
    if (!this.drain.isGoingAway || this.drain.state === "ended") return
    this.drain.become("ended")
    this.graceUntil = Math.max(this.graceUntil, nowMillis(this.settings.clock) + lingering)
    this.transport.end()
    this.onRoom()
  }

  private onRequest(id: number, bytes: Uint8Array, start: number, end: number, owned: boolean): void {
    if (end - start < requestHeaderSize) {
      return this.transport.refuse(`a request of ${end - start} bytes, expected at least ${requestHeaderSize}`)
    }
    if (!this.takes(id)) return
    const route = this.routes.get(bytes, start)
    const { admission, stats } = this.settings
    if (route === undefined) {
      stats?.calls.other.record(0, "unknown_method")
      return this.respondError(id, [Identities.unknownMethod])
    }
    const micros = readDeadlineMicros(bytes, start)
    if (micros < 0) {
      stats?.calls.method(route.key).record(0, "DeadlineExceeded")
      return this.respondError(id, [Identities.deadlineExceeded])
    }
    const deadlineAt = micros === 0 ? Infinity : nowMillis(this.settings.clock) + micros / 1000
    const trace = readTraceContext(bytes, start)
    const argsAt = start + requestHeaderSize
    const call = new RunningCall(id, route, deadlineAt, this.readAt, this)
    if (admission.tryStart(this)) return this.run(call, route.read(bytes, argsAt, end, owned), trace)
    // Read when it is its turn: one that is never started need not be.
    const args = owned ? bytes.subarray(argsAt, end) : ownCopy(bytes, argsAt, end)
    // Half of its time is gone then. Without a deadline there is no half.
    const pressedAt = deadlineAt - micros / 2000
    call.queue(() => this.begin(call, route.read(args, 0, args.length, true), trace), pressedAt)
    if (!admission.tryQueue(call)) {
      this.count(call, "overloaded")
      return this.respondError(id, [Identities.overloaded])
    }
    this.enter(call)
  }

  /** Whether a request with this id may come now. A client that sends one that may not is refused. */
  private takes(id: number): boolean {
    if (this.calls.get(id) !== undefined) {
      this.transport.refuse(`request ${id} twice`)
      return false
    }
    const { state } = this.drain
    if (state === "closing") return false
    if (state === "lastWord") {
      this.transport.refuse(`request ${id} after it had said that there are no more`)
      return false
    }
    if (state !== "serving" || this.settings.idleMillis !== Infinity) {
      this.quietSince = nowMillis(this.settings.clock)
      this.progress.forget()
    }
    return true
  }

  /** Runs a handler that was admitted. One that has its result at once is answered without a fiber. */
  private run(call: RunningCall, incoming: Incoming, trace: TraceContext | undefined): void {
    if (trace !== undefined || call.route.spans === "all" || incoming.isDiscarded) {
      this.enter(call)
      return this.begin(call, incoming, trace)
    }
    const effect = this.invoke(call, incoming)
    if (isExit(effect)) {
      const now = this.replyNow(incoming, effect)
      if (now !== undefined) {
        call.release()
        call.incoming = incoming
        return this.count(call, this.respondWith(call, now))
      }
      const replied = this.reply(incoming, effect)
      if (Exit.isExit(replied)) {
        call.release()
        // The type guard forgets what the exit is one of.
        const exit = replied as Exit.Exit<Uint8Array, unknown>
        call.incoming = incoming
        return this.count(call, this.respond(call, exit, false))
      }
    }
    this.enter(call)
    this.fork(call, incoming, effect, undefined)
  }

  private begin(call: RunningCall, incoming: Incoming, trace: TraceContext | undefined): void {
    // Called inside the span, where there is one, so that what the handler does before its effect runs is part of it.
    const effect = trace === undefined && call.route.spans !== "all"
      ? this.invoke(call, incoming)
      : Effect.suspend(() => asEffect(handlerName(call.route), this.invoke(call, incoming)))
    this.fork(call, incoming, effect, trace)
  }

  private enter(call: RunningCall): void {
    // The handler itself may have ended the connection before its call got here.
    if (this.transport.isOver) return call.stop("lost")
    this.calls.add(call)
    if (call.deadlineAt !== Infinity) this.timer.arm(call.deadlineAt)
  }

  /** What it gives may be no effect, where the handler is of bytes: that is seen when it is run. */
  private invoke(call: RunningCall, incoming: Incoming): Effect.Effect<unknown, unknown> {
    try {
      return incoming.handle(call)
    } catch (defect) {
      return Effect.die(defect)
    }
  }

  private fork(
    call: RunningCall,
    incoming: Incoming,
    handler: Effect.Effect<unknown, unknown>,
    trace: TraceContext | undefined
  ): void {
    const { clock, context } = this.settings
    const { route } = call
    const scope = Scope.makeUnsafe()
    let own = Context.add(route.contextIn(context), Scope.Scope, scope)
    if (call.deadlineAt !== Infinity) own = Context.add(own, CurrentDeadline, { at: call.deadlineAt, clock })
    const parent = trace === undefined ? undefined : Tracer.externalSpan(trace)
    let effect = handler
    if (route.spans === "all" || (parent !== undefined && route.spans === "traced")) {
      effect = this.inSpan(call, this.answered(call, incoming, handler), parent)
    } else if (parent !== undefined) {
      own = Context.add(own, Tracer.ParentSpan, parent)
    }
    call.run(effect, incoming, scope, own)
  }

  /** Runs a handler in a server span, a root where the caller has sent no trace context. */
  private inSpan(
    call: RunningCall,
    handler: Effect.Effect<unknown, unknown>,
    parent: Tracer.ExternalSpan | undefined
  ): Effect.Effect<unknown, unknown> {
    const attributes = this.attributesOf(call.route)
    return Effect.useSpan(
      spanName(call.route.key),
      parent === undefined ? { kind: "server", attributes } : { kind: "server", attributes, parent },
      (span) => {
        // A handler that the deadline has ended was interrupted, too.
        const kindOf = (cause: Cause.Cause<unknown>) =>
          call.stopped === "deadline" ? "DeadlineExceeded" : errorType(cause)
        return Effect.provideService(recordFailure(span, handler, kindOf), Tracer.ParentSpan, span)
      }
    )
  }

  private attributesOf(route: Route): Attributes {
    let attributes = this.attributes.get(route)
    if (attributes === undefined) {
      this.peer ??= peerAttributes(this.transport.capabilities.remote)
      attributes = { ...methodAttributes(route.key), ...this.peer }
      this.attributes.set(route, attributes)
    }
    return attributes
  }

  /** A handler with its reply, so that its span says what the caller is told; but for a result that is still to come. */
  private answered(
    call: RunningCall,
    incoming: Incoming,
    handler: Effect.Effect<unknown, unknown>
  ): Effect.Effect<unknown, unknown> {
    return Effect.flatMap(
      Effect.exit(handler),
      (exit) =>
        incoming.isOpen(exit) ? exit : Effect.flatMap(this.reply(incoming, exit), (reply) => {
          call.replied = reply
          return exit
        })
    )
  }

  private replyNow(incoming: Incoming, exit: Exit.Exit<unknown, unknown>): Uint8Array | undefined {
    try {
      return Exit.isSuccess(exit) ? incoming.replyNow(exit.value) : undefined
    } catch {
      // What is wrong is found again, and told, where the reply is asked for in full.
      return undefined
    }
  }

  /** The bytes to answer with. */
  reply(incoming: Incoming, exit: Exit.Exit<unknown, unknown>): Effect.Effect<Uint8Array, unknown> {
    try {
      return incoming.reply(exit)
    } catch (defect) {
      return Effect.die(defect)
    }
  }

  /** Gives back what kind of failure the answer is, if it is one. */
  private respond(call: RunningCall, exit: Exit.Exit<Uint8Array, unknown>, late: boolean): string | undefined {
    const { id, route } = call
    let cause: Cause.Cause<unknown> | undefined
    let result: unknown
    try {
      if (Exit.isFailure(exit)) cause = readReasons(exit.cause)
      else result = exit.value
    } catch (defect) {
      // It may be an Exit that the handler has put together.
      cause = Cause.die(defect)
    }
    if (cause !== undefined) {
      if (!late) return this.failed(id, route, cause)
      this.respondError(id, [Identities.deadlineExceeded])
      return "DeadlineExceeded"
    }
    if (isBytes(result)) return this.respondWith(call, result)
    return this.failed(id, route, Cause.die(unexpected(`the result of ${methodName(route)}`, "a Uint8Array", result)))
  }

  private respondWith({ id, incoming, route }: RunningCall, result: Uint8Array): string | undefined {
    const format = incoming?.replyFormat ?? -1
    const size = sizeOf(result)
    if (size < 0) {
      const problem = unexpected(`the result of ${methodName(route)}`, "a Uint8Array whose bytes can be read", result)
      return this.failed(id, route, Cause.die(problem))
    }
    const length = format < 0 ? size : size + 1
    if (length > this.settings.maxMessageSize) {
      this.respondTooLarge(id, `the result of ${nameOf(route)} is ${length} bytes`)
      return "too_large"
    }
    this.send(id, MessageType.response, format, result)
    return incoming?.failure
  }

  private failed(id: number, route: Route, cause: Cause.Cause<unknown>): string {
    const payload = encodeErrorChain(chainOfCause(cause))
    if (Cause.hasDies(cause)) {
      this.logFailed(route, "a handler died", cause)
    }
    if (payload.length <= this.settings.maxMessageSize) this.send(id, MessageType.responseError, -1, payload)
    else this.respondTooLarge(id, `the call of ${nameOf(route)} failed, with an error of ${payload.length} bytes`)
    return errorType(cause)
  }

  /** Nobody waits for the end of a discarded call: its failure is told here. Gives back what kind that is. */
  private discarded(route: Route, exit: Exit.Exit<unknown, unknown>): string | undefined {
    if (Exit.isSuccess(exit)) return undefined
    if (!Cause.hasInterruptsOnly(exit.cause)) {
      this.logFailed(route, "the handler of a discarded call failed", exit.cause)
    }
    return errorType(exit.cause)
  }

  private logFailed({ key: { component, method } }: Route, message: string, cause: Cause.Cause<unknown>): void {
    this.log(Effect.annotateLogs(Effect.logError(message, cause), { component, method }))
  }

  /** Answers a call whose handler has run, and whose answer is over the limit: `problem` says of how many bytes. */
  private respondTooLarge(id: number, problem: string): void {
    this.respondError(id, [
      Identities.answerTooLarge(`${problem}, expected at most ${this.settings.maxMessageSize}`)
    ])
  }

  /** Answers with a chain of ours, which always fits. */
  private respondError(id: number, chain: ErrorChain): void {
    this.send(id, MessageType.responseError, -1, encodeErrorChain(chain))
  }

  /** Queues a message; `format` is a byte that goes before the payload, or -1. */
  private send(id: number, type: number, format: number, payload: Uint8Array): void {
    if (this.transport.isOver || this.drain.state === "ended") return
    const writer = this.transport.writer
    const prefix = format < 0 ? headerSize : headerSize + 1
    const length = payload.length
    if (length < this.settings.writeFlattenLimit) {
      const batch = writer.reserve(prefix + length)
      const offset = batch.length - prefix - length
      writeHeader(batch.view, offset, id, type, prefix - headerSize + length)
      if (format >= 0) batch.bytes[offset + headerSize] = format
      copyInto(batch.bytes, offset + prefix, payload)
    } else {
      const head = new Uint8Array(prefix)
      writeHeader(dataView(head), 0, id, type, prefix - headerSize + length)
      if (format >= 0) head[headerSize] = format
      writer.reference(id, type, head, payload)
    }
    if (!writer.hasRoom()) this.onFull(prefix + length)
  }

  /** A message of this size was queued, and is one more than there is room for. */
  private onFull(size: number): void {
    const { writer } = this.transport
    if (!this.paused) {
      // A reader that is slow to take its answers gets no more of them made, but for those of handlers that run.
      this.paused = true
      this.unsent.fill()
      this.transport.pause()
      this.settings.admission.pause(this)
    }
    if (this.drain.state === "holding") this.drain.become("closing")
    // So much is not to be held.
    writer.release()
    if (!this.unsent.add(size)) return
    this.timer.arm(this.unsent.press(nowMillis(this.settings.clock)))
    if (this.unsent.state === "CutOff") this.cutOff()
  }

  /** Closes the connection of a client that does not take its answers. */
  private cutOff(): void {
    const { problem } = this.unsent
    this.logClosed(`its peer ${problem}`)
    this.transport.fail(new Error(problem))
  }

  private onVersion(id: number, payload: Uint8Array): void {
    if (id !== 0) return this.transport.refuse(`a version message with id ${id}, expected 0`)
    const version = decodeVersion(payload)
    if (version === undefined) {
      return this.transport.refuse(`a version message of ${payload.length} bytes, expected at least 4`)
    }
    let isAnswer = false
    // Of a peer that does not understand flags, whatever follows the version is something else.
    if ((version.flags & flagUnderstood) !== 0) {
      if (!this.understands) this.startKeepAlive()
      if (this.drain.state === "holding") {
        this.drain.become("leaving")
        this.transport.writer.release()
      }
      // It answers that we go away, or are there. Where we have not said so, it means something else to whoever says
      // it.
      if (this.drain.state === "leaving" && (version.flags & flagNoMoreRequests) !== 0) this.drain.become("lastWord")
      isAnswer = this.unanswered > 0 && (version.flags & flagAreYouThere) !== 0
    }
    if (isAnswer) this.unanswered--
    else this.say(0)
    if (this.drain.isLast && this.calls.size === 0) this.end()
  }

  /** The client understands flags, and so can be asked whether it is there. */
  private startKeepAlive(): void {
    this.understands = true
    if (this.keepAlive !== undefined) this.timer.arm(this.keepAlive.start(nowMillis(this.settings.clock), this))
  }

  get isDeaf(): boolean {
    return this.paused
  }

  get writer(): Writer {
    return this.transport.writer
  }

  ask(): void {
    this.unanswered++
    this.say(flagAreYouThere)
    // At once: in a turn that takes long, its time would pass before it has left.
    this.transport.writer.flush()
  }

  /** Says our version, with flags where the client is to know them. */
  private say(more: number): void {
    const flags = more | (this.drain.isGoingAway ? flagUnderstood | flagGoingAway : flagUnderstood)
    this.send(0, MessageType.version, -1, encodeVersion(protocolVersion, this.understands ? flags : undefined))
  }

  /** Does what is due, and returns when the next is. */
  private expire(now: number): number {
    if (now >= this.graceUntil) this.expireGrace(now)
    if (this.transport.isOver) return Infinity
    const next = Math.min(
      this.expireSilence(now),
      this.expirePeer(now),
      this.expireQuiet(now),
      this.expireHold(now),
      this.expirePartial(now),
      this.expireUnsent(now),
      this.expireCalls(now)
    )
    // Read only now: a connection that was idle may just have begun to end.
    return Math.min(next, this.graceUntil)
  }

  /** The grace is over, of a server that stops or of a connection that was idle. */
  private expireGrace(now: number): void {
    if (!this.stopping && (this.calls.size > 0 || this.takesAnswers())) {
      // It was idle, and then had calls after all, or is still taking its answers: nobody is in a hurry.
      this.graceUntil = now + this.settings.messageTimeoutMillis
    } else if (!this.stopping || this.drain.state === "ended") {
      this.destroy()
    } else {
      // Those that are interrupted get no answer, by which their callers see that they were lost. Those that have one
      // do, also where the client has yet to take it.
      this.end()
      for (const call of this.calls.values()) call.stop("lost")
    }
  }

  /**
   * Holds the answers to a client that cannot be told to send no more, and then serves no more. Returns when to look
   * again.
   */
  private expireHold(now: number): number {
    const { drain, transport } = this
    if (this.understands || transport.isOver || now < this.holdAt) return this.understands ? Infinity : this.holdAt
    if (drain.state === "leaving") {
      // While it takes no answers, none are to be held, and what it has sent before is to be served: it is looked again
      // when there is room.
      if (this.paused) return Infinity
      drain.become("holding")
      transport.writer.hold()
      this.heldSince = now
    }
    if (drain.state !== "holding") return Infinity
    const due = this.heldSince + quietPeriod
    if (now < due) return due
    drain.become("closing")
    if (this.calls.size === 0) this.end()
    return Infinity
  }

  /** Cuts off a client that does not take what waits for it. Returns when to look again. */
  private expireUnsent(now: number): number {
    const { transport, unsent } = this
    if (transport.isOver) return Infinity
    const due = unsent.expire(now)
    if (unsent.state === "CutOff") this.cutOff()
    return due
  }

  /** Refuses a client that has said nothing. Returns when to look again. */
  private expireSilence(now: number): number {
    if (this.spoken || this.transport.isOver) return Infinity
    const { firstMessageMillis } = this.settings
    const due = this.startedAt + firstMessageMillis
    if (now < due) return due
    this.transport.refuse(`no message within ${Duration.format(Duration.millis(firstMessageMillis))}`)
    return Infinity
  }

  /** Closes the connection of a client that has vanished. Returns when to look again. */
  private expirePeer(now: number): number {
    const { keepAlive, transport } = this
    // One that ends has its time, and nothing more can be said to the client.
    if (keepAlive === undefined || !this.understands || this.drain.state === "ended" || transport.isOver) {
      return Infinity
    }
    const next = keepAlive.look(now, this)
    if (keepAlive.state === "Lost") {
      transport.refuse(
        `nothing for ${keepAlive.silence(now)}, and has not answered when it was asked whether it is there`
      )
    }
    return next
  }

  /** Ends a connection that has been quiet for long enough. Returns when to look again. */
  private expireQuiet(now: number): number {
    if (this.calls.size > 0 || this.drain.state === "ended" || this.transport.isOver) return Infinity
    const awaitsWord = this.drain.isGoingAway && this.understands
    if (awaitsWord) return Infinity
    // In the middle of a message it is not quiet, and of one that is not read from it is not known: what it has sent before is to be served.
    if (this.transport.isPartial || (this.drain.isGoingAway && this.paused)) this.quietSince = now
    const due = this.quietSince + (this.drain.isGoingAway ? quietPeriod : this.settings.idleMillis)
    if (now < due) return due
    if (this.drain.isGoingAway) {
      this.end()
      return Infinity
    }
    // What a client that is alive has to say takes no longer than any message.
    this.takesAnswers()
    this.goAway(now, this.settings.messageTimeoutMillis)
    return this.understands ? Infinity : now + quietPeriod
  }

  /** Whether answers wait for the client, and it has taken or been given some since this was last asked. */
  private takesAnswers(): boolean {
    return this.progress.look() && this.transport.writer.pendingBytes > 0
  }

  /** Refuses a client whose message does not become whole. Returns when to look again. */
  private expirePartial(now: number): number {
    if (!this.transport.isPartial || this.paused || this.transport.isOver) return Infinity
    const { messageTimeoutMillis } = this.settings
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
    for (const call of this.calls.values()) {
      if (call.deadlineAt <= now) call.stop("deadline")
      else next = Math.min(next, call.deadlineAt)
    }
    return next
  }

  private logClosed(why: string, reason = why): void {
    const others = this.settings.warnings.next()
    if (others === undefined) return
    this.logConnection(Effect.logWarning(`a connection was closed: ${why}${others}`), reason)
  }

  private logBroken(error: Error | undefined): void {
    this.logConnection(Effect.logError("a connection was lost: it is broken", Cause.die(error)))
  }

  private logConnection(line: Effect.Effect<void>, reason?: string): void {
    this.log(Effect.annotateLogs(line, { peer: this.name, ...(reason === undefined ? {} : { reason }) }))
  }

  private log(effect: Effect.Effect<void>): void {
    logIn(this.settings.context, effect)
  }
}

const nothing = new Uint8Array(0)

/** Longer names are cut: an error that names a method has to fit into the smallest limit that there can be. */
const maxNameLength = 200

/** The name of a method, for the text of an error. */
const nameOf = ({ key: { component, method } }: Route): string => clip(`${component}.${method}`, maxNameLength)

/** Who is at the other end, for logs. */
const nameOfPeer = (remote: Remote | undefined): string =>
  remote === undefined ? "a local peer" : `${remote.address}:${remote.port}`

/** Whether a handler has given its result at once. What it gave may be anything, a proxy too. */
const isExit = (given: unknown): given is Exit.Exit<unknown, unknown> => {
  try {
    return Exit.isExit(given)
  } catch {
    return false
  }
}

/**
 * How many bytes a result has; -1 where they cannot be read: somebody has taken them to another thread, or has put a
 * proxy around them.
 */
const sizeOf = (result: Uint8Array): number => {
  try {
    const { length } = result
    return length === 0 && "detached" in result.buffer && result.buffer.detached === true ? -1 : length
  } catch {
    return -1
  }
}
