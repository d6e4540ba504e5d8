/**
 * What a call takes from the context of the fiber that makes it: the options and the deadline that it is under.
 */
import * as Context from "effect/Context"
import { type CallOptions, CurrentOptions } from "./callOptions.ts"
import { Current as CurrentDeadline, type Value as Deadline } from "./deadline.ts"

/**
 * The region of the calls that are being made. Those of one fiber, and of the fibers that it has forked, are made in the same context, and
 * looked up in it once: the lookups are two of the dearest things about a call, some 40 ns.
 */
export class Region {
  options: CallOptions | undefined = undefined
  deadline: Deadline | undefined = undefined
  private kept: Context.Context<never> | undefined = undefined

  /** Reads the region of a context. */
  enter(context: Context.Context<never>): void {
    if (context === this.kept) return
    this.kept = undefined
    this.options = Context.get(context, CurrentOptions)
    this.deadline = Context.get(context, CurrentDeadline)
  }

  /** This is the region of this context, which will be asked for again. To be followed by `leave`. */
  keep(context: Context.Context<never>, options: CallOptions | undefined, deadline: Deadline | undefined): void {
    this.kept = context
    this.options = options
    this.deadline = deadline
  }

  /** Lets go of the context: a caller's services must not live as long as the Connection. */
  leave(): void {
    this.kept = undefined
    this.options = undefined
    this.deadline = undefined
  }
}
