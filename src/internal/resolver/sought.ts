/**
 * What a look asks DNS for, and need not wait for.
 *
 *     settled ── begin ──▶ under way ── answer or failure ──▶ settled
 *                              │
 *                              └── nobody waits for endpoints any more ──▶ settled, as it was
 *
 * Of each there is one attempt under way at most, which may go on when the look that began it has ended.
 */
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import type { DnsError } from "effect/net/Dns"
import { nowMillis, sleepMillis } from "../time/clock.ts"
import type { Later } from "./polled.ts"

export class Sought<A> {
  /** What was answered last. */
  last: A | undefined = undefined
  /** Why there has been no answer since. It stays while it is tried again. */
  failure: DnsError | undefined = undefined
  /** What the last attempt has ended with in place of an answer or a failure. */
  defect: Cause.Cause<DnsError> | undefined = undefined
  private attempt: Fiber.Fiber<A, DnsError> | undefined = undefined

  get isUnderWay(): boolean {
    return this.attempt !== undefined
  }

  /** Waits until it is settled. */
  get settled(): Effect.Effect<void> {
    return this.attempt === undefined ? Effect.void : Effect.asVoid(Fiber.await(this.attempt))
  }

  /** Begins an attempt; `told` is called when it has an answer, a failure or a defect. */
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

/**
 * How long those that are under way are waited for once one is settled: where there is something to use, and where
 * there is nothing.
 */
export interface Waits {
  readonly graceMillis: number
  readonly patienceMillis: number
}

/** Waits for `all` of them. Those that are `old`, of an earlier look, are not waited for longer than the others. */
export const waitFor = Effect.fnUntraced(function*(
  all: ReadonlyArray<Sought<unknown>>,
  old: ReadonlySet<Sought<unknown>>,
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
    if (left.every((sought) => old.has(sought))) return
    const now = nowMillis(clock)
    since ??= now
    const millis = since + (isUsable() ? graceMillis : patienceMillis) - now
    if (millis <= 0) return
    yield* Effect.raceFirst(one, sleepMillis(clock, millis))
  }
})
