/**
 * What runs the handler of one exchange: in a fiber and a Scope of its own, with its deadline and span, until its reply
 * is made.
 *
 * Calls and streams are kinds of it: it must not know when a handler may start, nor which further messages an exchange
 * gets, nor how it leaves its connection.
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
import type { TraceContext } from "../protocol/request.ts"
import { nowMillis } from "../time/clock.ts"
import { attempt, readReasons } from "../userError.ts"
import { kindOfFailure } from "./failure.ts"
import type { Exchange, ServedConnection, StopReason } from "./model.ts"
import { type Answerable, logFailure } from "./reply.ts"
import { handlerName, type Incoming, type IncomingCall, type Route, type StreamSides } from "./route.ts"

/** An exchange whose handler runs, or will run. */
export abstract class Serving implements Exchange, Answerable, IncomingCall {
  readonly id: number
  readonly route: Route
  readonly connection: ServedConnection
  deadlineAt: number
  /** When it came, in ticks of the clock. */
  protected readonly startedAt: number
  /** Its request, once it is being served. */
  protected incoming: Incoming | undefined = undefined
  private fiber: Fiber.Fiber<unknown, unknown> | undefined = undefined
  /** Why its handler was interrupted, if it was. */
  protected stopped: StopReason | undefined = undefined
  /** Whether it was answered while its handler runs on. */
  protected answered = false
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

  abstract readonly stream: StreamSides | undefined
  abstract acknowledge(): void
  abstract exempt(): void
  abstract onMessage(type: number, bytes: Uint8Array, start: number, end: number, owned: boolean): void
  abstract stop(why: StopReason): void
  /** The handler has ended, its Scope is closed and its reply is made: answers, if it is not answered, and leaves. */
  protected abstract end(exit: Exit.Exit<unknown, unknown>): void

  get isCanceled(): boolean {
    return this.stopped === "canceled"
  }

  conclude(exit: Exit.Exit<unknown, unknown>): void {
    this.concluded = exit
  }

  protected begin(incoming: Incoming, trace: TraceContext | undefined): void {
    // Called inside the span, where there is one, so that what the handler does before its effect runs is part of it.
    const handler = trace === undefined && this.route.spans !== "all"
      ? this.invoke(incoming)
      : Effect.suspend(() => asEffect(handlerName(this.route), this.invoke(incoming)))
    this.fork(incoming, handler, trace)
  }

  /** Calls the handler. A handler of bytes may give something else than an effect: that is seen when it is run. */
  protected invoke(incoming: Incoming): Effect.Effect<unknown, unknown> {
    try {
      return incoming.handle(this)
    } catch (defect) {
      return Effect.die(defect)
    }
  }

  protected fork(incoming: Incoming, handler: Effect.Effect<unknown, unknown>, trace: TraceContext | undefined): void {
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
    return this.stopped === "deadline" ? "DeadlineExceeded" : kindOfFailure(cause)
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

  protected interrupt(): void {
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
    if (this.answered || (Exit.isFailure(exit) && (this.stopped !== undefined || this.isPast(this.deadlineAt)))) {
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

  protected count(failure: string | undefined): void {
    const { connection } = this
    const { tally } = connection
    if (tally === undefined) return
    tally.add(this.route.key, this.startedAt, failure)
    // There is nothing more to be sent.
    if (this.answered || connection.isOver) tally.count()
  }

  /**
   * Whether a moment in milliseconds of the clock is past. A failure after the deadline counts as DeadlineExceeded: the
   * handler's own calls may have met the deadline first.
   */
  protected isPast(moment: number): boolean {
    return moment !== Infinity && moment <= nowMillis(this.connection.settings.clock)
  }
}

/** The bytes to answer with. */
export const replyOf = (incoming: Incoming, exit: Exit.Exit<unknown, unknown>): Effect.Effect<Uint8Array, unknown> => {
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
