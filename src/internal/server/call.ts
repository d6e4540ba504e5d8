/**
 * One call that a server has taken, from its request to its answer: it waits for its turn, its handler runs in a fiber
 * and a Scope of its own, and it is answered.
 *
 * It ends exactly once: when its reply is made and its Scope is closed, or where it is stopped or refused while it
 * waits. It must not know the messages of a connection, nor what else its session does.
 */
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import * as Scope from "effect/Scope"
import * as Tracer from "effect/Tracer"
import { Current as CurrentDeadline } from "../ambient/deadline.ts"
import { asEffect, notAnEffect } from "../guard.ts"
import { ownCopy } from "../memory/bytes.ts"
import * as Identities from "../protocol/identities.ts"
import type { TraceContext } from "../protocol/request.ts"
import { errorType } from "../telemetry/span.ts"
import { nowMillis } from "../time/clock.ts"
import { attempt, readReasons } from "../userError.ts"
import type { Startable } from "./admission.ts"
import type { Exchange, ServedConnection, StopReason } from "./model.ts"
import { acknowledge, answer, type Answerable, answerError, answerWith, endDiscarded, logFailure } from "./reply.ts"
import { handlerName, type Incoming, type IncomingCall, type Route } from "./route.ts"

/** What is kept of a request that waits for its turn. */
interface Waiting {
  readonly args: Uint8Array
  readonly trace: TraceContext | undefined
  /** From when on it lets others pass, in milliseconds of the clock. */
  readonly pressedAt: number
}

/** A call whose handler runs, or waits to be run. */
export class ServerCall implements Exchange, Answerable, Startable, IncomingCall {
  readonly id: number
  readonly route: Route
  readonly connection: ServedConnection
  readonly stream = undefined
  deadlineAt: number
  /** When it came, in ticks of the clock. */
  private readonly startedAt: number
  /** Its request, while it waits for its turn. */
  private waiting: Waiting | undefined = undefined
  /** Its request, once it is being served. */
  private incoming: Incoming | undefined = undefined
  private fiber: Fiber.Fiber<unknown, unknown> | undefined = undefined
  /** Why its handler was interrupted, if it was. */
  private stopped: StopReason | undefined = undefined
  /** Whether it was answered while its handler runs on. */
  private acknowledged = false
  /** Whether it no longer counts as one of the calls that run at once. */
  private released = false
  /** What it ends with, where that is known before its fiber ends. */
  private concluded: Exit.Exit<unknown, unknown> | undefined = undefined
  /** The bytes to answer with, where they were made inside its span. */
  private replied: Uint8Array | undefined = undefined

  constructor(id: number, route: Route, deadlineAt: number, startedAt: number, connection: ServedConnection) {
    this.id = id
    this.route = route
    this.deadlineAt = deadlineAt
    this.startedAt = startedAt
    this.connection = connection
  }

  /**
   * Serves the call, at once or when it is its turn; or refuses it, where too many calls wait. Its arguments are
   * `bytes` from `start` to `end`, which may be overwritten when this has returned, unless they are `owned`. `micros`
   * is the time that its caller has given it, 0 for no limit.
   */
  receive(
    bytes: Uint8Array,
    start: number,
    end: number,
    owned: boolean,
    trace: TraceContext | undefined,
    micros: number
  ): void {
    const { connection } = this
    if (!connection.settings.admission.tryStart(connection)) this.wait(bytes, start, end, owned, trace, micros)
    else this.run(this.route.read(bytes, start, end, owned), trace)
  }

  /** Waits for its turn, or is refused. */
  private wait(
    bytes: Uint8Array,
    start: number,
    end: number,
    owned: boolean,
    trace: TraceContext | undefined,
    micros: number
  ): void {
    const { connection } = this
    // It is read when it is its turn: a call that is never started need not be.
    const args = owned ? bytes.subarray(start, end) : ownCopy(bytes, start, end)
    // Half of its time is gone then. Without a deadline there is no half.
    this.waiting = { args, trace, pressedAt: this.deadlineAt - micros / 2000 }
    if (connection.settings.admission.tryQueue(this)) return connection.open(this)
    this.waiting = undefined
    this.count("overloaded")
    answerError(connection, this.id, overloaded)
  }

  isPressed(): boolean {
    return this.waiting !== undefined && this.isPast(this.waiting.pressedAt)
  }

  start(): void {
    const { waiting } = this
    this.waiting = undefined
    // Where the event loop is busy, which is when calls wait, timers are late. No work is done for a caller that has
    // given up.
    if (waiting === undefined || this.isPast(this.deadlineAt)) return this.end(interrupted)
    const { args, trace } = waiting
    this.begin(this.route.read(args, 0, args.length, true), trace)
  }

  refuse(): void {
    this.waiting = undefined
    this.count("overloaded")
    answerError(this.connection, this.id, overloaded)
    this.connection.close(this)
  }

  acknowledge(): void {
    if (this.acknowledged || this.stopped !== undefined) return
    this.acknowledged = true
    // Its deadline was for the answer.
    this.deadlineAt = Infinity
    acknowledge(this, this.incoming)
  }

  exempt(): void {
    this.release()
  }

  conclude(exit: Exit.Exit<unknown, unknown>): void {
    this.concluded = exit
  }

  /** The only message that a call gets after its request is a cancel. */
  onMessage(): void {
    this.stop("canceled")
  }

  stop(why: StopReason): void {
    // An answered call need not end with its connection.
    if (this.stopped !== undefined || (why === "lost" && this.acknowledged)) return
    this.stopped = why
    if (this.waiting === undefined) return this.interrupt()
    this.waiting = undefined
    this.connection.settings.admission.leave(this)
    this.finish(interrupted)
  }

  /** Runs a handler that was admitted. A handler that has its result at once is answered without a fiber. */
  private run(incoming: Incoming, trace: TraceContext | undefined): void {
    const { connection } = this
    if (trace !== undefined || this.route.spans === "all" || incoming.isDiscarded) {
      connection.open(this)
      return this.begin(incoming, trace)
    }
    const handler = this.invoke(incoming)
    if (isExit(handler)) {
      const now = replyNow(incoming, handler)
      if (now !== undefined) {
        this.release()
        return this.count(answerWith(this, incoming, now))
      }
      const replied = replyOf(incoming, handler)
      if (Exit.isExit(replied)) {
        this.release()
        return this.count(answer(this, incoming, replied, false))
      }
    }
    connection.open(this)
    this.fork(incoming, handler, undefined)
  }

  private begin(incoming: Incoming, trace: TraceContext | undefined): void {
    // Called inside the span, where there is one, so that what the handler does before its effect runs is part of it.
    const handler = trace === undefined && this.route.spans !== "all"
      ? this.invoke(incoming)
      : Effect.suspend(() => asEffect(handlerName(this.route), this.invoke(incoming)))
    this.fork(incoming, handler, trace)
  }

  /** Calls the handler. A handler of bytes may give something else than an effect: that is seen when it is run. */
  private invoke(incoming: Incoming): Effect.Effect<unknown, unknown> {
    try {
      return incoming.handle(this)
    } catch (defect) {
      return Effect.die(defect)
    }
  }

  private fork(incoming: Incoming, handler: Effect.Effect<unknown, unknown>, trace: TraceContext | undefined): void {
    this.incoming = incoming
    const { connection, route } = this
    const { clock, context } = connection.settings
    const scope = Scope.makeUnsafe()
    let own = Context.add(route.contextIn(context), Scope.Scope, scope)
    if (this.deadlineAt !== Infinity) own = Context.add(own, CurrentDeadline, { at: this.deadlineAt, clock })
    const parent = trace === undefined ? undefined : Tracer.externalSpan(trace)
    if (route.spans === "all" || (parent !== undefined && route.spans === "traced")) {
      const replying = this.replying(incoming, handler)
      const effect = connection.spans.within(route, parent, replying, (cause) => this.kindOf(cause))
      return this.supervise(incoming, effect, scope, own)
    }
    if (parent !== undefined) own = Context.add(own, Tracer.ParentSpan, parent)
    this.supervise(incoming, handler, scope, own)
  }

  /** A handler with its reply, so that its span says what the caller is told. A result that is still open has none. */
  private replying(incoming: Incoming, handler: Effect.Effect<unknown, unknown>): Effect.Effect<unknown, unknown> {
    return Effect.flatMap(
      Effect.exit(handler),
      (exit) =>
        incoming.isOpen(exit) ? exit : Effect.flatMap(replyOf(incoming, exit), (reply) => {
          this.replied = reply
          return exit
        })
    )
  }

  /** The kind of a failure, for a span. A handler that the deadline has ended was interrupted, too. */
  private kindOf(cause: Cause.Cause<unknown>): string {
    return this.stopped === "deadline" ? "DeadlineExceeded" : errorType(cause)
  }

  /** Runs a handler in its fiber, closes its Scope, and has the call answered. */
  private supervise(
    incoming: Incoming,
    handler: Effect.Effect<unknown, unknown>,
    scope: Scope.Closeable,
    context: Context.Context<never>
  ): void {
    this.forkIn(handler, context, (ended) => {
      const exit = this.concluded ?? this.exitOf(handler, ended)
      if (scope.state._tag === "Empty") return this.reply(incoming, exit, context)
      // Finalizers belong to the call: it is answered when they have run.
      runFork(context, Scope.close(scope, exit), { uninterruptible: true }).addObserver((closed) => {
        if (Exit.isSuccess(closed)) return this.reply(incoming, exit, context)
        if (Exit.isFailure(exit)) {
          logFailure(this, "a finalizer of a call died", closed.cause)
          return this.reply(incoming, exit, context)
        }
        this.replied = undefined
        this.reply(incoming, Exit.failCause(closed.cause), context)
      })
    })
  }

  private forkIn<A>(
    effect: Effect.Effect<A, unknown>,
    context: Context.Context<never>,
    onExit: (exit: Exit.Exit<A, unknown>) => void
  ): void {
    const fiber = runFork(context, effect)
    this.fiber = fiber
    // What it did itself may have stopped it before its fiber was known here.
    if (this.stopped !== undefined) this.interrupt()
    fiber.addObserver(onExit)
  }

  private interrupt(): void {
    this.fiber?.interruptUnsafe(undefined, this.stopped === "canceled" ? this.route.canceled : undefined)
  }

  /**
   * How a handler has ended. Whether it was an effect at all is looked at only here: it would cost each call a part.
   */
  private exitOf(handler: unknown, exit: Exit.Exit<unknown, unknown>): Exit.Exit<unknown, unknown> {
    try {
      if (Exit.isSuccess(exit)) return exit
      // A handler may put an Exit together itself, which throws when it is read.
      readReasons(exit.cause)
      return attempt(() => Effect.isEffect(handler), false)
        ? exit
        : Exit.die(notAnEffect(handlerName(this.route), handler))
    } catch (defect) {
      return Exit.die(defect)
    }
  }

  /** Makes the reply to what the handler has ended with, where there is none yet, and ends the call. */
  private reply(incoming: Incoming, exit: Exit.Exit<unknown, unknown>, context: Context.Context<never>): void {
    if (this.acknowledged || (Exit.isFailure(exit) && (this.stopped !== undefined || this.isPast(this.deadlineAt)))) {
      return this.end(exit)
    }
    if (this.replied !== undefined) {
      // It was made of what the handler has ended with. What died after that is the span.
      if (Exit.isFailure(exit) && Cause.hasDies(exit.cause)) logFailure(this, "the span of a call died", exit.cause)
      return this.end(Exit.succeed(this.replied))
    }
    const replied = replyOf(incoming, exit)
    if (Exit.isExit(replied)) return this.end(replied)
    this.forkIn(replied, context, (exit) => this.end(exit))
  }

  private end(exit: Exit.Exit<unknown, unknown>): void {
    this.release()
    this.finish(exit)
  }

  /** Answers the call, if it is not yet, and leaves. */
  private finish(exit: Exit.Exit<unknown, unknown>): void {
    const isLate = this.stopped === "deadline" || this.isPast(this.deadlineAt)
    this.count(this.acknowledged ? endDiscarded(this, exit) : answer(this, this.incoming, exit, isLate))
    this.connection.close(this)
  }

  /** It no longer counts as one of the calls that run at once. */
  private release(): void {
    if (this.released) return
    this.released = true
    this.connection.settings.admission.ended(this.connection)
  }

  private count(failure: string | undefined): void {
    const { connection } = this
    const { tally } = connection
    if (tally === undefined) return
    tally.add(this.route.key, this.startedAt, failure)
    // There is nothing more to be sent.
    if (this.acknowledged || connection.isOver) tally.count()
  }

  /**
   * Whether a moment in milliseconds of the clock is past. A failure after the deadline counts as DeadlineExceeded: the
   * handler's own calls may have met the deadline first.
   */
  private isPast(moment: number): boolean {
    return moment !== Infinity && moment <= nowMillis(this.connection.settings.clock)
  }
}

const replyNow = (incoming: Incoming, exit: Exit.Exit<unknown, unknown>): Uint8Array | undefined => {
  try {
    return Exit.isSuccess(exit) ? incoming.replyNow(exit.value) : undefined
  } catch {
    // What is wrong is found again, and told, where the reply is asked for in full.
    return undefined
  }
}

/** The bytes to answer with. */
const replyOf = (incoming: Incoming, exit: Exit.Exit<unknown, unknown>): Effect.Effect<Uint8Array, unknown> => {
  try {
    return incoming.reply(exit)
  } catch (defect) {
    return Effect.die(defect)
  }
}

/**
 * Runs an effect. A user's code may have put something else into it; where that cannot even be shown, Effect throws.
 */
const runFork = <A, E>(
  context: Context.Context<never>,
  effect: Effect.Effect<A, E>,
  options?: Effect.RunOptions
): Fiber.Fiber<A, E> => {
  try {
    return Effect.runForkWith(context)(effect, options)
  } catch (defect) {
    return Effect.runForkWith(context)(Effect.die(defect))
  }
}

/** Whether a handler has given its result at once. It may give anything, a proxy too. */
const isExit = (given: unknown): given is Exit.Exit<unknown, unknown> => {
  try {
    return Exit.isExit(given)
  } catch {
    return false
  }
}

const overloaded = [Identities.overloaded]

const interrupted = Exit.interrupt()
