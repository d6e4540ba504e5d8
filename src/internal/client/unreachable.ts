/**
 * The error of a call that has no endpoint left: the last failure of each endpoint, and what the resolver says.
 *
 * To make such an error for a thousand endpoints takes as long as the rest of some hundred calls, so calls share it
 * where it is the same for them. It must not decide anything: it only says what has happened.
 */
import * as Cause from "effect/Cause"
import type * as Clock from "effect/Clock"
import { Unreachable } from "../../CallError.ts"
import type { Resolution, ResolverError } from "../../Resolver.ts"
import { noAddresses } from "../balancer/excluded.ts"
import { nowMillis } from "../time/clock.ts"
import { isInstance, textOf } from "../userError.ts"
import type { Attempts } from "./attempts.ts"
import type { Roster } from "./roster.ts"

/** An error that calls share. */
interface SharedError {
  readonly error: Unreachable
  /** Whether it is about all endpoints, or only about those in backoff. */
  readonly isOfAll: boolean
  /** Until when it holds, in milliseconds of the clock. */
  readonly until: number
}

/** Makes the errors of a client, and remembers what the resolver has said last. */
export class UnreachableErrors {
  private readonly clock: Clock.Clock
  private readonly roster: Roster
  /** The error that calls share; undefined where something has changed since it was made. */
  private shared: SharedError | undefined = undefined
  /** Why there are no endpoints, or fewer than there should be, as the resolver says. */
  private problem: string | undefined = undefined
  /** Why the resolver has failed; undefined where it has answered since. */
  private resolverFailure: string | undefined = undefined
  /** How many endpoints are listed. */
  private listed = 0

  constructor(clock: Clock.Clock, roster: Roster) {
    this.clock = clock
    this.roster = roster
  }

  /** Something has changed: the next error is a new one. */
  forget(): void {
    this.shared = undefined
  }

  /** So many endpoints are listed now. */
  update(listed: number): void {
    this.listed = listed
    this.shared = undefined
  }

  resolverAnswered({ problem }: Resolution): void {
    this.problem = problem === undefined ? undefined : textOf(problem)
    this.resolverFailure = undefined
    this.shared = undefined
  }

  resolverFailed(cause: Cause.Cause<ResolverError>): void {
    this.resolverFailure = textOf(Cause.squash(cause))
    this.shared = undefined
  }

  /** The message of a call that has no endpoint, with what the resolver has to do with that. */
  withResolver(message: string): string {
    const { listed, problem, resolverFailure } = this
    const why = problem === undefined ? "" : `${listed === 0 ? ":" : ";"} ${problem}`
    return resolverFailure === undefined
      ? `${message}${why}`
      : `${message}${why}; the resolver failed: ${resolverFailure}`
  }

  /** The message of a call whose deadline has passed. */
  lateMessage(method: string, attempts: Attempts): string {
    const late = `deadline exceeded: no answer to ${method} in time`
    if (this.listed === 0 && !attempts.wasSent) return this.withResolver(`${late}; there are no endpoints`)
    const failures = attempts.describe()
    return failures === "" ? late : this.withResolver(`${late}; ${failures}`)
  }

  /**
   * The error of a call. Its balancer has failed with `error`, when the endpoints `unavailable` could not be called, in
   * this `version` of the roster.
   */
  make(error: Unreachable, attempts: Attempts, unavailable: ReadonlySet<string>, version: number): Unreachable {
    const now = nowMillis(this.clock)
    const { roster, shared } = this
    roster.settle(now)
    const isOfAll = !roster.hasAvailable(attempts.since)
    const isOfBackoffs = attempts.since >= roster.failures && attempts.tried.size === 0
    if (unavailable === noAddresses || !(isOfAll || isOfBackoffs) || !this.isCommon(attempts)) {
      return this.own(error, attempts, unavailable)
    }
    if (shared !== undefined && (isOfAll ? shared.isOfAll : !shared.isOfAll && now < shared.until)) return shared.error
    const made = this.own(error, attempts, unavailable)
    // Where the balancer has taken its time, more is known now than this error says.
    if (made.attempts.length > 0 && version === roster.version) {
      this.shared = { error: made, isOfAll, until: roster.until }
    }
    return made
  }

  /** Whether a call has met no other failures than the last ones of the endpoints. */
  private isCommon({ failures }: Attempts): boolean {
    for (const [address, message] of failures) {
      const pool = this.roster.pools.get(address)
      if (pool?.listed !== true || pool.lastFailure !== message) return false
    }
    return true
  }

  private own(error: Unreachable, attempts: Attempts, unavailable: ReadonlySet<string>): Unreachable {
    const failures = new Map(attempts.failures)
    for (const address of unavailable) {
      const failure = this.roster.pools.get(address)?.lastFailure
      if (failure !== undefined && !failures.has(address)) failures.set(address, failure)
    }
    const known = failures.size === 0
      ? error
      : Unreachable.fromAttempts([...failures].map(([endpoint, message]) => ({ endpoint, message })))
    const message = this.withResolver(known.message)
    return message === known.message ? known : new Unreachable({ message, attempts: known.attempts })
  }
}

/** The failure of a balancer as an error. Whatever its type says, a user's balancer may fail with anything. */
export const unreachableOf = (failure: unknown): Unreachable =>
  isInstance(failure, Unreachable)
    ? failure
    : new Unreachable({ message: `the balancer failed: ${textOf(failure)}`, attempts: [] })
