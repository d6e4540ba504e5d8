/**
 * One call that a server has taken: it waits for its turn, its handler runs in a fiber and a Scope of its own, and then it is answered.
 *
 * It ends exactly once, with `answer`: when it has its reply and its Scope has closed, or where it was stopped while it waited.
 */
import * as Cause from "effect/Cause"
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import * as Scope from "effect/Scope"
import { notAnEffect } from "../guard.ts"
import { attempt, readReasons } from "../userError.ts"
import type { Admission, AdmittedConnection, Startable } from "./admission.ts"
import { handlerName, type Incoming, type IncomingCall, type Route } from "./route.ts"

/** Why a handler is interrupted. */
type Stop = "canceled" | "deadline" | "lost"

/** The connection that a call came in on. */
export interface CallOwner extends AdmittedConnection {
  readonly settings: { readonly admission: Admission }
  /** Answers a call whose handler runs on. */
  acknowledge(call: RunningCall): void
  /** Answers a call that will not be started, since there are too many. */
  refuse(call: RunningCall): void
  /** Answers a call that has ended. */
  answer(call: RunningCall, exit: Exit.Exit<Uint8Array, unknown>): void
  /** Logs what has died beside a call that is answered as if it had not. */
  died(call: RunningCall, message: string, cause: Cause.Cause<unknown>): void
  /** Whether it is past a moment in milliseconds of the clock. A failure past the call's deadline is one because there is no time left. */
  isLate(deadlineAt: number): boolean
  /** The bytes to answer with. */
  reply(incoming: Incoming, exit: Exit.Exit<unknown, unknown>): Effect.Effect<Uint8Array, unknown>
}

/** A call whose handler runs, or waits to be run. */
export class RunningCall implements Startable, IncomingCall {
  readonly id: number
  readonly route: Route
  deadlineAt: number
  /** When it came, in ticks of the clock. */
  readonly startedAt: number
  /** The request, once it is being served. */
  incoming: Incoming | undefined = undefined
  /** Why its handler was interrupted, if it was. */
  stopped: Stop | undefined = undefined
  /** Whether it was answered while its handler runs on. */
  acknowledged = false
  /** The bytes to answer with, where they have been made with the handler's end. */
  replied: Uint8Array | undefined = undefined
  private released = false
  private concluded: Exit.Exit<unknown, unknown> | undefined = undefined
  private readonly owner: CallOwner
  private fiber: Fiber.Fiber<unknown, unknown> | undefined = undefined
  private begin: (() => void) | undefined = undefined
  private pressedAt = Infinity

  constructor(id: number, route: Route, deadlineAt: number, startedAt: number, owner: CallOwner) {
    this.id = id
    this.route = route
    this.deadlineAt = deadlineAt
    this.startedAt = startedAt
    this.owner = owner
  }

  get connection(): AdmittedConnection {
    return this.owner
  }

  acknowledge(): void {
    if (this.acknowledged || this.stopped !== undefined) return
    this.acknowledged = true
    this.owner.acknowledge(this)
  }

  exempt(): void {
    this.release()
  }

  /** It no longer counts as one of the calls that run at once. */
  release(): void {
    if (this.released) return
    this.released = true
    this.owner.settings.admission.ended(this.owner)
  }

  conclude(exit: Exit.Exit<unknown, unknown>): void {
    this.concluded = exit
  }

  /** It waits; `begin` starts its handler. From `pressedAt` on it lets others pass. */
  queue(begin: () => void, pressedAt: number): void {
    this.begin = begin
    this.pressedAt = pressedAt
  }

  isPressed(): boolean {
    return this.owner.isLate(this.pressedAt)
  }

  start(): void {
    const begin = this.begin
    this.begin = undefined
    // Where the event loop is busy, which is when calls wait, timers are late: nobody works for a caller who has given up.
    if (this.owner.isLate(this.deadlineAt)) return this.end(interrupted)
    begin?.()
  }

  refuse(): void {
    this.begin = undefined
    this.owner.refuse(this)
  }

  run(
    handler: Effect.Effect<unknown, unknown>,
    incoming: Incoming,
    scope: Scope.Closeable,
    context: Context.Context<never>
  ): void {
    this.incoming = incoming
    this.fork(handler, context, (ended) => {
      const exit = this.concluded ?? this.exitOf(handler, ended)
      if (scope.state._tag === "Empty") return this.reply(incoming, exit, context)
      // Finalizers belong to the call: it is answered when they have run.
      runFork(context, Scope.close(scope, exit), { uninterruptible: true }).addObserver((closed) => {
        if (Exit.isSuccess(closed)) return this.reply(incoming, exit, context)
        if (Exit.isFailure(exit)) {
          this.owner.died(this, "a finalizer of a call died", closed.cause)
          return this.reply(incoming, exit, context)
        }
        this.replied = undefined
        this.reply(incoming, Exit.failCause(closed.cause), context)
      })
    })
  }

  /** Interrupts the handler, or takes the call out of the queue. */
  stop(why: Stop): void {
    if (this.stopped !== undefined) return
    this.stopped = why
    if (this.begin !== undefined) {
      this.begin = undefined
      this.owner.settings.admission.leave(this)
      this.owner.answer(this, interrupted)
    } else {
      this.interrupt(this.fiber)
    }
  }

  private interrupt(fiber: Fiber.Fiber<unknown, unknown> | undefined): void {
    fiber?.interruptUnsafe(undefined, this.stopped === "canceled" ? this.route.canceled : undefined)
  }

  private fork<A>(
    effect: Effect.Effect<A, unknown>,
    context: Context.Context<never>,
    onExit: (exit: Exit.Exit<A, unknown>) => void
  ): void {
    const fiber = runFork(context, effect)
    this.fiber = fiber
    // Stopped by what it did itself before its fiber was known here.
    if (this.stopped !== undefined) this.interrupt(fiber)
    fiber.addObserver(onExit)
  }

  /**
   * How a handler has ended. One that is no effect is looked at only here, since that would cost the others a part of a
   * call.
   */
  private exitOf(handler: unknown, exit: Exit.Exit<unknown, unknown>): Exit.Exit<unknown, unknown> {
    try {
      if (Exit.isSuccess(exit)) return exit
      // It may be an Exit that the handler has put together, and so may throw where it is read.
      readReasons(exit.cause)
      return attempt(() => Effect.isEffect(handler), false)
        ? exit
        : Exit.die(notAnEffect(handlerName(this.route), handler))
    } catch (defect) {
      return Exit.die(defect)
    }
  }

  private reply(incoming: Incoming, exit: Exit.Exit<unknown, unknown>, context: Context.Context<never>): void {
    if (this.acknowledged) return this.end(Exit.map(exit, () => nothing))
    if (Exit.isFailure(exit) && (this.stopped !== undefined || this.owner.isLate(this.deadlineAt))) {
      return this.end(Exit.failCause(exit.cause))
    }
    if (this.replied !== undefined) {
      // Made of what the handler has ended with: what died after that is its span.
      if (Exit.isFailure(exit) && Cause.hasDies(exit.cause)) {
        this.owner.died(this, "the span of a call died", exit.cause)
      }
      return this.end(Exit.succeed(this.replied))
    }
    const replied = this.owner.reply(incoming, exit)
    // What an exit is one of, the type guard has forgotten.
    if (Exit.isExit(replied)) return this.end(replied as Exit.Exit<Uint8Array, unknown>)
    this.fork(replied, context, (exit) => this.end(exit))
  }

  private end(exit: Exit.Exit<Uint8Array, unknown>): void {
    this.release()
    this.owner.answer(this, exit)
  }
}

/**
 * Runs an effect. What a user's code has put into it may be no effect, and where it cannot even be shown, Effect
 * throws.
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

const interrupted = Exit.interrupt()

const nothing = new Uint8Array(0)
