/**
 * A server's side of one connection: it reads requests, runs a handler for each and writes the answers.
 *
 * Like the client's side it is plain synchronous code up to where a handler's fiber begins. A call is in the table while its handler runs
 * or waits to run; the server's connection ends only when the table is empty.
 */
import * as Cause from "effect/Cause"
import type * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import * as Scope from "effect/Scope"
import * as Tracer from "effect/Tracer"
import { Socket } from "node:net"
import type { Duplex } from "node:stream"
import type { Entry } from "../../HandlerMap.ts"
import { copyInto, isBytes, ownBytes } from "../bytes.ts"
import { Current as CurrentDeadline } from "../deadline.ts"
import { encodeErrorChain, type ErrorChain, plainError } from "../protocol/errorChain.ts"
import { headerSize, MessageType, serverTypes, writeHeader } from "../protocol/frame.ts"
import * as Identities from "../protocol/identities.ts"
import type { KeyTable } from "../protocol/keyTable.ts"
import { readDeadlineMicros, readTraceContext, requestHeaderSize, type TraceContext } from "../protocol/request.ts"
import { decodeVersion, encodeVersion, protocolVersion } from "../protocol/version.ts"
import { nowMillis } from "../time.ts"
import { DeadlineTimer } from "../timer.ts"
import { Slots } from "../transport/slots.ts"
import { type Over, Transport, type TransportOwner } from "../transport/transport.ts"
import type { Admission, Startable } from "./admission.ts"
import { chainOfCause } from "./failure.ts"

/** What the sessions of one server share. */
export interface SessionSettings {
  readonly clock: Clock.Clock
  /** What the handlers need, without anything that belongs to a single call. */
  readonly context: Context.Context<never>
  readonly admission: Admission
  readonly writeFlattenLimit: number
  readonly maxMessageSize: number
}

/** Why a handler is interrupted. */
type Stop = "canceled" | "deadline" | "lost"

export class ServerSession implements TransportOwner {
  readonly settings: SessionSettings
  private readonly handlers: KeyTable<Entry<never>>
  private readonly transport: Transport
  private readonly calls = new Slots<RunningCall>()
  private readonly timer: DeadlineTimer
  private readonly onEnded: () => void
  private idleWaiters: Array<() => void> = []
  private paused = false
  private ending = false
  private done = false
  private readonly endWaiters: Array<() => void> = []

  /** `onEnded` is called once, when the connection is over and no handler of its calls runs any more. */
  constructor(duplex: Duplex, handlers: KeyTable<Entry<never>>, settings: SessionSettings, onEnded: () => void) {
    this.settings = settings
    this.handlers = handlers
    this.onEnded = onEnded
    this.transport = new Transport(duplex, this, serverTypes, settings.maxMessageSize)
    this.timer = new DeadlineTimer(settings.clock, settings.context, (now) => this.expire(now))
  }

  start(): void {
    this.transport.start(undefined)
  }

  /** Ends when no call is in flight. */
  readonly whenIdle: Effect.Effect<void> = Effect.callback<void>((resume) => {
    if (this.calls.size === 0) return resume(Effect.void)
    const wake = () => resume(Effect.void)
    this.idleWaiters.push(wake)
    return Effect.sync(() => {
      this.idleWaiters = this.idleWaiters.filter((waiter) => waiter !== wake)
    })
  })

  /**
   * Ends the connection's writing half, and waits until the client, who has then read every answer, has closed the connection. What it
   * still sends is read and dropped: a connection that is closed before that is reset, which takes along answers that are on their way.
   */
  readonly flushed: Effect.Effect<void> = Effect.callback<void>((resume) => {
    this.ending = true
    this.transport.end(() => resume(Effect.void))
    this.onRoom()
  })

  /** Ends when the connection is over and no handler runs any more. */
  readonly whenEnded: Effect.Effect<void> = Effect.callback<void>((resume) => {
    if (this.done) return resume(Effect.void)
    this.endWaiters.push(() => resume(Effect.void))
  })

  /** Ends the connection at once and interrupts its calls; answers that are there go out as far as the socket takes them. */
  destroy(): void {
    this.transport.writer.flush()
    this.transport.destroy()
  }

  onRead(): void {
    this.settings.admission.beginTurn()
  }

  onFrame(id: number, type: number, bytes: Uint8Array, start: number, end: number, owned: boolean): void {
    if (this.ending) return
    if (type === MessageType.request) this.onRequest(id, bytes, start, end, owned)
    else if (type === MessageType.cancel) this.calls.get(id)?.stop("canceled")
    else this.onVersion(id, bytes.subarray(start, end))
  }

  keepsPayload(_id: number, type: number): boolean {
    return type === MessageType.request
  }

  onLeave(): boolean {
    return true
  }

  onRoom(): void {
    if (!this.paused) return
    this.paused = false
    this.transport.duplex.resume()
  }

  onOver(over: Over): void {
    this.timer.stop()
    if (over._tag === "Refused") this.logRefused(over.problem)
    // A copy: a handler that is interrupted may end, and leave the table, at once.
    for (const call of this.calls.values()) call.stop("lost")
    this.finishIfIdle()
  }

  /** Answers a call, unless nobody listens any more, and takes it out of the table. */
  answer(call: RunningCall, exit: Exit.Exit<Uint8Array, unknown>): void {
    this.calls.remove(call.id)
    const { deadlineAt } = call
    // A handler that failed because its own calls met the deadline has met it too.
    const late = deadlineAt !== Infinity && deadlineAt <= nowMillis(this.settings.clock)
    this.respond(call.id, call.entry, exit, call.stopped === "deadline" || late)
    this.finishIfIdle()
  }

  private finishIfIdle(): void {
    if (this.calls.size > 0) return
    const waiters = this.idleWaiters
    this.idleWaiters = []
    for (const wake of waiters) wake()
    if (!this.transport.isOver || this.done) return
    this.done = true
    this.onEnded()
    for (const wake of this.endWaiters) wake()
  }

  private onRequest(id: number, bytes: Uint8Array, start: number, end: number, owned: boolean): void {
    if (end - start < requestHeaderSize) {
      return this.transport.refuse(`a request of ${end - start} bytes, expected at least ${requestHeaderSize}`)
    }
    if (this.calls.get(id) !== undefined) return this.transport.refuse(`request ${id} twice`)
    const entry = this.handlers.get(bytes, start)
    if (entry === undefined) return this.respondError(id, [Identities.unknownMethod])
    const micros = readDeadlineMicros(bytes, start)
    if (micros < 0) return this.respondError(id, [Identities.deadlineExceeded])
    const deadlineAt = micros === 0 ? Infinity : nowMillis(this.settings.clock) + micros / 1000
    const trace = readTraceContext(bytes, start)
    const args = ownBytes(bytes, start + requestHeaderSize, end, owned)
    const { admission } = this.settings
    if (admission.tryStart()) {
      this.run(id, entry, args, deadlineAt, trace)
      return
    }
    const call = new RunningCall(id, entry, deadlineAt, this)
    call.queue(() => this.begin(call, args, trace))
    if (!admission.tryQueue(call)) return this.respondError(id, [Identities.overloaded])
    this.enter(call)
  }

  /** Runs a handler that was admitted. One that has its result at once is answered without a fiber. */
  private run(
    id: number,
    entry: Entry<never>,
    args: Uint8Array,
    deadlineAt: number,
    trace: TraceContext | undefined
  ): void {
    if (trace !== undefined) {
      const call = new RunningCall(id, entry, deadlineAt, this)
      this.enter(call)
      return this.begin(call, args, trace)
    }
    const effect = this.invoke(entry, args)
    if (Exit.isExit(effect)) {
      this.settings.admission.ended()
      // The handler's type says what it is an exit of.
      return this.respond(id, entry, effect as Exit.Exit<Uint8Array, unknown>, false)
    }
    const call = new RunningCall(id, entry, deadlineAt, this)
    this.enter(call)
    this.fork(call, effect, undefined)
  }

  private begin(call: RunningCall, args: Uint8Array, trace: TraceContext | undefined): void {
    // Called inside the span, where there is one, so that what the handler does before its effect runs is part of it.
    const effect = trace === undefined
      ? this.invoke(call.entry, args)
      : Effect.suspend(() => this.invoke(call.entry, args))
    this.fork(call, effect, trace)
  }

  private enter(call: RunningCall): void {
    // The handler itself may have ended the connection before its call got here.
    if (this.transport.isOver) return call.stop("lost")
    this.calls.add(call)
    if (call.deadlineAt !== Infinity) this.timer.arm(call.deadlineAt)
  }

  private invoke(entry: Entry<never>, args: Uint8Array): Effect.Effect<Uint8Array, unknown> {
    try {
      return entry.handler(args)
    } catch (defect) {
      return Effect.die(defect)
    }
  }

  private fork(call: RunningCall, handler: Effect.Effect<Uint8Array, unknown>, trace: TraceContext | undefined): void {
    const { clock, context } = this.settings
    const scope = Scope.makeUnsafe()
    let own = Context.add(context, Scope.Scope, scope)
    if (call.deadlineAt !== Infinity) own = Context.add(own, CurrentDeadline, { at: call.deadlineAt, clock })
    const { component, method } = call.entry.key
    const effect = trace === undefined ? handler : Effect.withSpan(handler, `${component}.${method}`, {
      kind: "server",
      parent: Tracer.externalSpan(trace),
      captureStackTrace: false
    })
    call.run(Effect.runForkWith(own)(effect), scope, own)
  }

  private respond(
    id: number,
    entry: Entry<never>,
    exit: Exit.Exit<Uint8Array, unknown>,
    late: boolean
  ): void {
    if (Exit.isSuccess(exit)) {
      const result = exit.value
      if (!isBytes(result)) {
        const problem = new TypeError(`a handler's result is a Uint8Array, got ${typeof result}`)
        return this.failed(id, entry, Cause.die(problem))
      }
      if (result.length > this.settings.maxMessageSize) {
        const { component, method } = entry.key
        const text =
          `the result of ${component}.${method} is ${result.length} bytes, expected at most ${this.settings.maxMessageSize}`
        return this.respondError(id, [plainError(text)])
      }
      this.send(id, MessageType.response, result)
    } else if (late) {
      this.respondError(id, [Identities.deadlineExceeded])
    } else {
      this.failed(id, entry, exit.cause)
    }
  }

  private failed(id: number, entry: Entry<never>, cause: Cause.Cause<unknown>): void {
    const chain = chainOfCause(cause)
    if (Cause.hasDies(cause)) {
      const { component, method } = entry.key
      this.log(Effect.annotateLogs(Effect.logError("a handler died", cause), { component, method }))
    }
    this.respondError(id, chain)
  }

  private respondError(id: number, chain: ErrorChain): void {
    const payload = encodeErrorChain(chain)
    const { maxMessageSize } = this.settings
    if (payload.length <= maxMessageSize) return this.send(id, MessageType.responseError, payload)
    const text = `the call failed, with an error of ${payload.length} bytes, expected at most ${maxMessageSize}`
    this.send(id, MessageType.responseError, encodeErrorChain([plainError(text)]))
  }

  private send(id: number, type: number, payload: Uint8Array): void {
    if (this.transport.isOver) return
    const writer = this.transport.writer
    const length = payload.length
    if (length < this.settings.writeFlattenLimit) {
      const batch = writer.reserve(headerSize + length)
      const offset = batch.length - headerSize - length
      writeHeader(batch.bytes, offset, id, type, length)
      copyInto(batch.bytes, offset + headerSize, payload)
    } else {
      const head = new Uint8Array(headerSize)
      writeHeader(head, 0, id, type, length)
      writer.reference(id, type, head, payload)
    }
    if (!writer.hasRoom() && !this.paused) {
      // A reader that is slow to take its answers gets no more of them made.
      this.paused = true
      this.transport.duplex.pause()
    }
  }

  private onVersion(id: number, payload: Uint8Array): void {
    if (id !== 0) return this.transport.refuse(`a version message with id ${id}, expected 0`)
    if (decodeVersion(payload) === undefined) {
      return this.transport.refuse(`a version message of ${payload.length} bytes, expected at least 4`)
    }
    this.send(0, MessageType.version, encodeVersion(protocolVersion))
  }

  /** Ends the calls whose time is up; returns the earliest deadline of the others. */
  private expire(now: number): number {
    let next = Infinity
    for (const call of this.calls.values()) {
      if (call.deadlineAt <= now) call.stop("deadline")
      else next = Math.min(next, call.deadlineAt)
    }
    return next
  }

  private logRefused(problem: string): void {
    const peer = peerOf(this.transport.duplex)
    this.log(Effect.annotateLogs(Effect.logWarning(`a connection was closed: its peer sent ${problem}`), { peer }))
  }

  private log(effect: Effect.Effect<void>): void {
    Effect.runForkWith(this.settings.context)(effect)
  }
}

/** A call whose handler runs, or waits to be run. */
class RunningCall implements Startable {
  readonly id: number
  readonly entry: Entry<never>
  readonly deadlineAt: number
  /** Why its handler was interrupted, if it was. */
  stopped: Stop | undefined = undefined
  private readonly session: ServerSession
  private fiber: Fiber.Fiber<Uint8Array, unknown> | undefined = undefined
  private begin: (() => void) | undefined = undefined

  constructor(id: number, entry: Entry<never>, deadlineAt: number, session: ServerSession) {
    this.id = id
    this.entry = entry
    this.deadlineAt = deadlineAt
    this.session = session
  }

  /** It waits; `begin` starts its handler. */
  queue(begin: () => void): void {
    this.begin = begin
  }

  start(): void {
    const begin = this.begin
    this.begin = undefined
    begin?.()
  }

  run(fiber: Fiber.Fiber<Uint8Array, unknown>, scope: Scope.Closeable, context: Context.Context<never>): void {
    this.fiber = fiber
    // Stopped by what it did itself before its fiber was known here.
    if (this.stopped !== undefined) fiber.interruptUnsafe()
    fiber.addObserver((exit) => {
      if (scope.state._tag === "Empty") return this.end(exit)
      // Finalizers belong to the call: it is answered when they have run.
      Effect.runForkWith(context)(Scope.close(scope, exit), { uninterruptible: true }).addObserver((closed) =>
        this.end(Exit.isFailure(closed) && Exit.isSuccess(exit) ? Exit.failCause(closed.cause) : exit)
      )
    })
  }

  /** Interrupts the handler, or takes the call out of the queue. */
  stop(why: Stop): void {
    if (this.stopped !== undefined) return
    this.stopped = why
    if (this.begin !== undefined) {
      this.begin = undefined
      this.session.settings.admission.leave(this)
      this.session.answer(this, interrupted)
    } else {
      this.fiber?.interruptUnsafe()
    }
  }

  private end(exit: Exit.Exit<Uint8Array, unknown>): void {
    this.session.settings.admission.ended()
    this.session.answer(this, exit)
  }
}

const interrupted = Exit.interrupt()

/** Who is at the other end, for logs. */
const peerOf = (duplex: Duplex): string =>
  duplex instanceof Socket && duplex.remoteAddress !== undefined
    ? `${duplex.remoteAddress}:${duplex.remotePort}`
    : "a local peer"
