/**
 * Which endpoints calls are to avoid.
 *
 * Those that cannot be called: tried already by this call, or in backoff. Of the others, those that had better not be, as long as there are
 * any better ones, in this order:
 *
 * 1. where connections are opened ahead of need, those without one;
 * 2. those whose servers say that they are not serving, unless that would leave fewer than half of all endpoints: the few that are left would
 *    be next;
 * 3. those that are left alone because their calls keep failing;
 * 4. all but those with the best priority.
 */
import { nothing } from "../balancer/free.ts"
import type { Pool } from "./pool.ts"

/** What is to be avoided, until something changes or some time. */
export interface Avoided {
  /** The addresses of what cannot be called. */
  readonly hard: ReadonlySet<string>
  /** The same, and what is avoided for keys that have one endpoint each. */
  readonly forShards: ReadonlySet<string>
  /** The same as in `hard`, and what had better not be called. */
  readonly all: ReadonlySet<string>
  /** Until when this holds, in milliseconds of the clock. */
  readonly until: number
}

export const nothingAvoided: Avoided = { hard: nothing, forShards: nothing, all: nothing, until: Infinity }

/** Of these, those that are better; all where none is. */
const better = (pools: ReadonlyArray<Pool>, isBetter: (pool: Pool) => boolean): ReadonlyArray<Pool> => {
  const best = pools.filter(isBetter)
  return best.length === 0 ? pools : best
}

/** Which of the endpoints had better not be called, with what cannot be. */
export const avoid = (
  pools: ReadonlyArray<Pool>,
  hard: ReadonlySet<string>,
  ejected: ReadonlySet<string>,
  onlyOpen: boolean
): ReadonlySet<string> => {
  const usable = pools.filter(({ address }) => !hard.has(address))
  let left = onlyOpen ? better(usable, ({ isOpen }) => isOpen) : usable
  const serving = left.filter(({ isServing }) => isServing)
  if (serving.length * 2 >= pools.length) left = serving
  const sound = better(left, ({ address }) => !ejected.has(address))
  const priority = sound.reduce((best, pool) => Math.min(best, pool.priority), Infinity)
  const used = new Set(sound.filter((pool) => pool.priority === priority))
  if (used.size === usable.length) return hard
  return new Set(pools.filter((pool) => !used.has(pool)).map(({ address }) => address))
}
