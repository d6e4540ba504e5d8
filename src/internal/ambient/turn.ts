/**
 * What the calls of one turn of the event loop share: the options and the deadline that their fiber is under.
 *
 * It must not know what a call does with them.
 */
import * as Context from "effect/Context"
import { type CallOptions, CurrentOptions } from "./callOptions.ts"
import { Current as CurrentDeadline, type Value as Deadline } from "./deadline.ts"

/**
 * The options and the deadline of the calls that are being made. The calls of one fiber, and of the fibers that it has
 * forked, have the same context, which is read once for all of them: these reads cost some 40 ns, a large part of a
 * call.
 */
export class Turn {
  options: CallOptions | undefined = undefined
  deadline: Deadline | undefined = undefined
  /** The context that was read, where it may be asked for again. */
  private kept: Context.Context<never> | undefined = undefined

  /** Reads the options and the deadline of a context. */
  enter(context: Context.Context<never>): void {
    if (context === this.kept) return
    this.kept = undefined
    this.options = Context.get(context, CurrentOptions)
    this.deadline = Context.get(context, CurrentDeadline)
  }

  /** Keeps what was read of a context, since further calls of this turn may ask for it. `leave` has to follow. */
  keep(context: Context.Context<never>, options: CallOptions | undefined, deadline: Deadline | undefined): void {
    this.kept = context
    this.options = options
    this.deadline = deadline
  }

  /** Forgets the context: a caller's services must not live as long as the Connection. */
  leave(): void {
    this.kept = undefined
    this.options = undefined
    this.deadline = undefined
  }
}
