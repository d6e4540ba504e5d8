/**
 * Which endpoints are excluded for a call, that is, which ones its balancer is asked to avoid.
 *
 * Unavailable endpoints are always excluded: those in backoff, and those that the call has tried. Available ones are
 * excluded as long as there are better ones, in this order:
 *
 * 1. where the client is eager, those without a connection;
 * 2. those whose servers say that they are not serving, unless fewer than half of all endpoints were left: the few that
 *    serve would be overloaded next;
 * 3. those that are ejected because their calls keep failing;
 * 4. all but those with the best priority.
 *
 * The result of a look at the endpoints holds until there is a change, or until an ejection or a backoff ends. It must
 * not know calls, and it wakes none.
 */
import type * as Clock from "effect/Clock"
import type { Balancer } from "../../Balancer.ts"
import { noAddresses } from "../balancer/excluded.ts"
import { isImmediate } from "../balancer/immediate.ts"
import { isSticky } from "../balancer/model.ts"
import { nowMillis } from "../time/clock.ts"
import type { ClientSettings } from "./options.ts"
import type { Outliers } from "./outliers.ts"
import type { Pool } from "./pool.ts"
import type { Roster } from "./roster.ts"
import { Unavailable } from "./unavailable.ts"

/** The addresses of excluded endpoints. */
export interface Exclusion {
  /** The unavailable ones. */
  readonly unavailable: ReadonlySet<string>
  /** What is excluded for keys that have one endpoint each. */
  readonly forKeys: ReadonlySet<string>
  /** What is excluded for all other calls. */
  readonly all: ReadonlySet<string>
  /** Until when this holds, in milliseconds of the clock. */
  readonly until: number
}

const nothingExcluded: Exclusion = { unavailable: noAddresses, forKeys: noAddresses, all: noAddresses, until: Infinity }

/** What decides which endpoints are better than others. */
type ExclusionSettings = Pick<ClientSettings, "eager" | "health" | "outlierEjection">

/** The result of a look at the endpoints, and for which calls it is the same. */
interface Look {
  readonly exclusion: Exclusion
  /** The number of the last failure before a call began. */
  readonly since: number
  /** The version of the roster. */
  readonly version: number
}

/** What is excluded for a call, as a balancer gets it. */
export const excludedFor = (
  exclusion: Exclusion,
  balancer: Balancer,
  shardKey: bigint | undefined
): ReadonlySet<string> => {
  if (exclusion === nothingExcluded) return noAddresses
  const { all, forKeys } = exclusion
  return stableFor(balancer, all === forKeys || shardKey === undefined || !isSticky(balancer) ? all : forKeys)
}

/** A user's own balancer may keep the set that it is given: it gets one that does not change. */
export const stableFor = (balancer: Balancer, excluded: ReadonlySet<string>): ReadonlySet<string> =>
  excluded instanceof Unavailable && !isImmediate(balancer) ? excluded.all : excluded

/** The exclusions of a client: looked up once for all calls that they are the same for. */
export class Exclusions {
  private readonly clock: Clock.Clock
  private readonly roster: Roster
  private readonly outliers: Outliers | undefined
  private readonly settings: ExclusionSettings
  /** The listed endpoints, in their order. */
  private pools: ReadonlyArray<Pool> = []
  private hasPriorities = false
  /** What is excluded for calls that begin now; undefined where that must be looked up. */
  private current: Exclusion | undefined = nothingExcluded
  /** The last look, where others may have the same result. */
  private lastLook: Look | undefined = undefined

  constructor(clock: Clock.Clock, roster: Roster, outliers: Outliers | undefined, settings: ExclusionSettings) {
    this.clock = clock
    this.roster = roster
    this.outliers = outliers
    this.settings = settings
  }

  /**
   * Whether an available endpoint may be better than another: then it matters which of them are open, serve, or have
   * what priority.
   */
  get hasChoice(): boolean {
    return this.settings.eager || this.settings.health !== undefined || this.hasPriorities
  }

  /** What was looked up last; nothing excluded where that does not hold any more. */
  get known(): Exclusion {
    return this.current ?? nothingExcluded
  }

  /** These endpoints are listed now; `hasPriorities` is whether their priorities differ. */
  update(pools: ReadonlyArray<Pool>, hasPriorities: boolean): void {
    this.pools = pools
    this.hasPriorities = hasPriorities
    this.current = undefined
  }

  /** Something has changed: what is excluded must be looked up again. */
  forget(): void {
    this.current = undefined
  }

  /** What is excluded for calls that begin now. Nearly always that is nothing, and the clock is not read. */
  now(): Exclusion {
    const { current } = this
    if (current !== undefined && (current.until === Infinity || current.until > nowMillis(this.clock))) return current
    return this.current = this.look(Infinity, noAddresses)
  }

  /** What is excluded for a call that has begun after the failure `since`, and has tried some endpoints itself. */
  look(since: number, tried: ReadonlySet<string>): Exclusion {
    const { outliers, roster } = this
    const now = nowMillis(this.clock)
    roster.settle(now)
    const isPlain = tried.size === 0 && !this.hasChoice && (outliers === undefined || outliers.size === 0)
    const last = this.lastLook
    // Many calls may fail at a time, and balancers find out once what it means for them.
    if (isPlain && last !== undefined && last.since === since && last.version === roster.version) return last.exclusion
    const exclusion = this.lookAt(now, since, tried)
    this.lastLook = isPlain ? { exclusion, since, version: roster.version } : undefined
    return exclusion
  }

  private lookAt(now: number, since: number, tried: ReadonlySet<string>): Exclusion {
    const { outliers, roster, settings } = this
    const unavailable = since >= roster.failures && tried.size === 0 && !roster.hasBackoff
      ? noAddresses
      : new Unavailable(roster, since, tried, now)
    const ejected = new Set<string>()
    let { until } = roster
    if (outliers !== undefined && outliers.size > 0) until = Math.min(until, outliers.addTo(ejected, now))
    if (unavailable === noAddresses && ejected.size === 0 && !this.hasChoice) return nothingExcluded
    const forKeys = ejected.size === 0 || settings.outlierEjection?.ejectsShards !== true
      ? unavailable
      : new Set([...unavailable, ...ejected])
    const all = ejected.size === 0 && !this.hasChoice
      ? unavailable
      : withWorse(this.pools, unavailable, ejected, settings.eager)
    return { unavailable, forKeys, all, until }
  }
}

/** Of these, those that are better; all where none is. */
const better = (pools: ReadonlyArray<Pool>, isBetter: (pool: Pool) => boolean): ReadonlyArray<Pool> => {
  const best = pools.filter(isBetter)
  return best.length === 0 ? pools : best
}

/** The unavailable endpoints, and the available ones that have better alternatives. */
const withWorse = (
  pools: ReadonlyArray<Pool>,
  unavailable: ReadonlySet<string>,
  ejected: ReadonlySet<string>,
  onlyOpen: boolean
): ReadonlySet<string> => {
  const available = pools.filter(({ address }) => !unavailable.has(address))
  let left = onlyOpen ? better(available, ({ isOpen }) => isOpen) : available
  const serving = left.filter(({ isServing }) => isServing)
  if (serving.length * 2 >= pools.length) left = serving
  const notEjected = better(left, ({ address }) => !ejected.has(address))
  const priority = notEjected.reduce((best, pool) => Math.min(best, pool.priority), Infinity)
  const eligible = new Set(notEjected.filter((pool) => pool.priority === priority))
  if (eligible.size === available.length) return unavailable
  return new Set(pools.filter((pool) => !eligible.has(pool)).map(({ address }) => address))
}
