/**
 * A query of DNS for which a look does not have to wait. It does not know the question.
 */
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import type { DnsError } from "effect/net/Dns"
import { nowMillis, sleepMillis } from "../time/clock.ts"
import type { Later } from "./polled.ts"

/**
 * A repeated query, with its last answer. At most one attempt is under way at a time. It can go on after the end of the
 * look that has begun it.
 *
 *     settled ── begin ──▶ under way ── answer, failure or defect ──▶ settled
 *                              │
 *                              └── the last waiter has left ──▶ settled, as it was
 */
export class Query<A> {
  /** The last answer. */
  last: A | undefined = undefined
  /** Why there has been no answer since then. It stays during the next attempt. */
  failure: DnsError | undefined = undefined
  /** The defect of the last attempt. */
  defect: Cause.Cause<DnsError> | undefined = undefined
  private attempt: Fiber.Fiber<A, DnsError> | undefined = undefined

  get isUnderWay(): boolean {
    return this.attempt !== undefined
  }

  /** Waits until no attempt is under way. */
  get settled(): Effect.Effect<void> {
    return this.attempt === undefined ? Effect.void : Effect.asVoid(Fiber.await(this.attempt))
  }

  /** Begins an attempt. `told` is called when it ends with an answer, a failure or a defect. */
  begin(later: Later, effect: Effect.Effect<A, DnsError>, told: () => void): Effect.Effect<void> {
    return Effect.map(later.fork(effect), (attempt) => {
      this.attempt = attempt
      this.defect = undefined
      attempt.addObserver((exit) => this.settle(exit, told))
    })
  }

  private settle(exit: Exit.Exit<A, DnsError>, told: () => void): void {
    this.attempt = undefined
    if (Exit.isSuccess(exit)) {
      this.last = exit.value
      this.failure = undefined
      return told()
    }
    const failure = exit.cause.reasons.find(Cause.isFailReason)
    if (failure === undefined) this.defect = exit.cause
    else this.failure = failure.error
    if (!Cause.hasInterruptsOnly(exit.cause)) told()
  }
}

/** How long a look waits for pending queries once one query is settled. */
export interface Waits {
  /** If there is a usable result. */
  readonly graceMillis: number
  /** If there is no usable result. */
  readonly patienceMillis: number
}

/**
 * Waits for `all` queries, within the limits of `waits`. The queries in `old` were begun by an earlier look. It does
 * not wait for them after the others.
 */
export const waitFor = Effect.fnUntraced(function*(
  all: ReadonlyArray<Query<unknown>>,
  old: ReadonlySet<Query<unknown>>,
  isUsable: () => boolean,
  { graceMillis, patienceMillis }: Waits
) {
  const clock = yield* Clock.Clock
  let since: number | undefined
  while (true) {
    const left = all.filter(({ isUnderWay }) => isUnderWay)
    if (left.length === 0 || all.some(({ defect }) => defect !== undefined)) return
    const one = Effect.raceAllFirst(left.map(({ settled }) => settled))
    if (left.length === all.length && !isUsable()) {
      yield* one
      continue
    }
    if (left.every((query) => old.has(query))) return
    const now = nowMillis(clock)
    since ??= now
    const millis = since + (isUsable() ? graceMillis : patienceMillis) - now
    if (millis <= 0) return
    yield* Effect.raceFirst(one, sleepMillis(clock, millis))
  }
})
