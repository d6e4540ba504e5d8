/**
 * The addresses of the endpoints that a call cannot be sent to: those in backoff, those that have failed since it
 * began, and those that it has tried.
 *
 * It is asked whether an endpoint is among them, and knows without a list of them. That is made where somebody wants to
 * see it: from then on it stays as it is.
 */
import { type Avoiding, freeOf } from "../balancer/free.ts"
import type { Roster } from "./roster.ts"

export class Down implements Avoiding {
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
    return this.listed === undefined ? this.isDown(address) : this.listed.has(address)
  }

  get size(): number {
    return this.all.size
  }

  [freeOf](): Iterable<string> {
    return this.roster.free(this.since)
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

  get all(): ReadonlySet<string> {
    if (this.listed !== undefined) return this.listed
    const all = new Set(this.tried)
    for (const address of this.roster.down(this.since)) if (this.isDown(address)) all.add(address)
    return this.listed = all
  }

  private isDown(address: string): boolean {
    const pool = this.roster.pools.get(address)
    if (pool !== undefined && (pool.failureNumber > this.since || pool.backoffUntil > this.now)) return true
    return this.tried.has(address)
  }
}

// What newer runtimes offer of a Set, which no type of ours names.
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
  Object.defineProperty(Down.prototype, name, {
    value(this: Down, ...args: ReadonlyArray<unknown>): unknown {
      return Reflect.apply(method, this.all, args)
    }
  })
}
