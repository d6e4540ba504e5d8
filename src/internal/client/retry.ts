/**
 * Retries: calls that are made again after they have failed, where the caller has asked for that.
 *
 * A call that has surely not run is made again in any case. A call that may have run, since its connection was lost, is
 * made again only where its method is declared idempotent. A budget that all calls of a Connection share bounds the
 * load that retries add. It must not know how a call is made: each try begins at the entry of the client.
 */
import * as Cause from "effect/Cause"
import type * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import { type CallError, CommunicationError, RemoteError, Unreachable } from "../../CallError.ts"
import { isShardKey } from "../balancer/shardKey.ts"
import { effectOf, unexpected } from "../guard.ts"
import { nowMillis, sleepMillis } from "../time/clock.ts"
import { isInstance } from "../userError.ts"
import type { Call, CallOwner } from "./call.ts"
import { closedError } from "./errors.ts"

/** How many retries the calls of a Connection may make together. */
export interface RetryBudget {
  /** How much each call that may be retried adds to the budget. */
  readonly ratio: number
  /** How much there is at first, and at most. */
  readonly burst: number
}

/** Makes a call once, from its start. It is called where `Effect.callback` registers. */
export type Attempt = (call: Call) => Effect.Effect<void> | void

/** Makes the calls of a Connection again, within its budget. */
export class Retries {
  private readonly clock: Clock.Clock
  private readonly budget: RetryBudget
  /** Ends when the Connection is closed. */
  private readonly closed: Effect.Effect<void>
  /** How much of the budget is left; each retry takes 1. */
  private left: number

  constructor(clock: Clock.Clock, budget: RetryBudget, closed: Effect.Effect<void>) {
    this.clock = clock
    this.budget = budget
    this.closed = closed
    this.left = budget.burst
  }

  /** From now on, when this call fails and can be made again, `attempt` makes it again. */
  watch(call: Call, schedule: Schedule.Schedule<unknown, CallError>, attempt: Attempt): void {
    const { owner, resume } = call
    this.left = Math.min(this.budget.burst, this.left + this.budget.ratio)
    const again = (error: CallError) => this.again(call, owner, schedule, attempt, error)
    call.resume = (result) => {
      // The cost for a call that succeeds is this comparison.
      if (Exit.isExit(result)) {
        const error = Exit.isFailure(result) ? retryable(call, result.cause) : undefined
        resume(error === undefined ? result : again(error))
      } else {
        resume(Effect.catchCause(result, (cause) => {
          const error = retryable(call, cause)
          return error === undefined ? Effect.failCause(cause) : again(error)
        }))
      }
    }
  }

  private readonly again = Effect.fnUntraced({ self: this }, function*(
    first: Call,
    owner: CallOwner,
    schedule: Schedule.Schedule<unknown, CallError>,
    attempt: Attempt,
    failure: CallError
  ): Effect.fn.Return<unknown, unknown> {
    const step = yield* Schedule.toStep(schedule)
    let error = failure
    // The error of the last try that may have run. After it no error may say that no handler has seen the call.
    let maybeRun: CommunicationError | undefined
    while (true) {
      if (error instanceof CommunicationError && error.maybeExecuted) maybeRun = error
      // Schedules get the time of day, which some depend on.
      const said = effectOf("the schedule of retries", () => step(this.clock.currentTimeMillisUnsafe(), error))
      const next = yield* this.inTime(first, said)
      if (next === "closed") return yield* closedError(maybeRun?.endpoint, maybeRun !== undefined)
      if (Option.isNone(next)) return yield* maybeRun ?? error
      const now = nowMillis(this.clock)
      const delay = delayOf(next.value)
      // There is no time for another try: the last error says more than that the deadline has passed.
      if (now + delay >= first.deadlineAt || this.left < 1) return yield* maybeRun ?? error
      this.left--
      yield* Effect.raceFirst(sleepMillis(this.clock, delay), this.closed)
      const call = first.again(owner)
      const exit = yield* Effect.exit(Effect.callback<unknown, unknown>((resume) => {
        call.resume = resume
        return attempt(call)
      }))
      const failed = Exit.isFailure(exit) ? retryable(call, exit.cause) : undefined
      if (failed !== undefined) error = failed
      else return yield* (maybeRun === undefined ? undefined : unsure(call, exit, maybeRun)) ?? exit
    }
  })

  /**
   * The result of an effect, where it comes before the deadline of the call and before the Connection is closed: a
   * schedule may take its time to say when the next try is, or never end.
   */
  private inTime<A>(
    { deadlineAt }: Call,
    effect: Effect.Effect<A, unknown>
  ): Effect.Effect<Option.Option<A> | "closed"> {
    const given = Effect.raceFirst(Effect.option(effect), Effect.as(this.closed, "closed" as const))
    if (deadlineAt === Infinity) return given
    const late = Effect.suspend(() => sleepMillis(this.clock, deadlineAt - nowMillis(this.clock)))
    return Effect.raceFirst(given, Effect.as(late, Option.none<A>()))
  }
}

/** The delay that a schedule has given. A user's schedule may give anything, whatever its type says. */
const delayOf = (said: unknown): number => {
  const delay = Array.isArray(said) ? Duration.fromInput(said[1]) : Option.none()
  if (Option.isNone(delay)) {
    throw unexpected("the schedule of retries", "an output and a duration", said)
  }
  return Math.max(0, Duration.toMillis(delay.value))
}

/**
 * The error of a call whose last try has not run, while an earlier try may have run. The last try failed since its
 * Connection was closed, or its arguments are too large for this server.
 */
const unsure = (
  call: Call,
  exit: Exit.Exit<unknown, unknown>,
  maybeRun: CommunicationError
): CommunicationError | undefined => {
  if (call.isAnswered || !Exit.isFailure(exit)) return undefined
  const error = Option.getOrUndefined(Cause.findErrorOption(exit.cause))
  if (!isInstance(error, CommunicationError) || error.maybeExecuted) return undefined
  const { message, reason } = error
  const endpoint = error.endpoint ?? maybeRun.endpoint
  return new CommunicationError({
    reason,
    ...(endpoint === undefined ? {} : { endpoint }),
    message,
    maybeExecuted: true
  })
}

/** The failure of a call that can be made again; undefined where it is the call's end. */
const retryable = (call: Call, cause: Cause.Cause<unknown>): CallError | undefined => {
  // The decoded answer is the application's own error, whatever it looks like.
  if (call.isAnswered) return undefined
  const error = Option.getOrUndefined(Cause.findErrorOption(cause))
  if (isInstance(error, Unreachable)) {
    // A shard key that is not a u64 would be refused again.
    const shardKey = call.options?.shardKey
    return shardKey === undefined || isShardKey(shardKey) ? error : undefined
  }
  if (isInstance(error, RemoteError)) return error.isOverloaded ? error : undefined
  if (isInstance(error, CommunicationError) && error.reason._tag === "Lost") {
    return call.key.isIdempotent || !error.maybeExecuted ? error : undefined
  }
  return undefined
}
