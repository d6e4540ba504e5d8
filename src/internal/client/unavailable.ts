/**
 * The addresses of the endpoints that are unavailable for a call: those in backoff, those that have failed since it
 * began, and those that it has tried.
 *
 * It is a set without a list of its elements: whether an endpoint is in it follows from the numbers that the roster
 * keeps. The list is made where a balancer reads it, and does not change from then on. It must not know why endpoints
 * fail.
 */
import { eligibleOf, type ExcludedSet } from "../balancer/excluded.ts"
import type { Roster } from "./roster.ts"

/** The set of unavailable endpoints, for calls that began after the same failure and have tried the same. */
export class Unavailable implements ExcludedSet {
  private readonly roster: Roster
  private readonly since: number
  private readonly tried: ReadonlySet<string>
  private readonly now: number
  private listed: ReadonlySet<string> | undefined = undefined

  /** `since` is the number of the last failure before the call began; `now` is in milliseconds of the clock. */
  constructor(roster: Roster, since: number, tried: ReadonlySet<string>, now: number) {
    this.roster = roster
    this.since = since
    this.tried = tried
    this.now = now
  }

  has(address: string): boolean {
    return this.listed === undefined ? this.isUnavailable(address) : this.listed.has(address)
  }

  get size(): number {
    return this.all.size
  }

  [eligibleOf](): Iterable<string> {
    return this.roster.available(this.since)
  }

  forEach(each: (value: string, key: string, set: ReadonlySet<string>) => void, self?: unknown): void {
    for (const address of this.all) each.call(self, address, address, this)
  }

  keys(): SetIterator<string> {
    return this.all.keys()
  }

  values(): SetIterator<string> {
    return this.all.values()
  }

  entries(): SetIterator<[string, string]> {
    return this.all.entries()
  }

  [Symbol.iterator](): SetIterator<string> {
    return this.all.values()
  }

  /** The same set with its list: it does not change. */
  get all(): ReadonlySet<string> {
    if (this.listed !== undefined) return this.listed
    const all = new Set(this.tried)
    for (const address of this.roster.down()) if (this.isUnavailable(address)) all.add(address)
    return this.listed = all
  }

  private isUnavailable(address: string): boolean {
    const pool = this.roster.pools.get(address)
    if (pool !== undefined && (pool.failureNumber > this.since || pool.backoffUntil > this.now)) return true
    return this.tried.has(address)
  }
}

// The methods of a Set that only newer runtimes have, and that its type here does not name.
for (
  const name of [
    "union",
    "intersection",
    "difference",
    "symmetricDifference",
    "isSubsetOf",
    "isSupersetOf",
    "isDisjointFrom"
  ]
) {
  const method: unknown = Reflect.get(Set.prototype, name)
  if (typeof method !== "function") continue
  Object.defineProperty(Unavailable.prototype, name, {
    value(this: Unavailable, ...args: ReadonlyArray<unknown>): unknown {
      return Reflect.apply(method, this.all, args)
    }
  })
}
