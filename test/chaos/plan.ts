/**
 * What a caller is going to do: a call with its method, its size, how long it may take and whether it is given up.
 */
import { headerSize } from "./payload.ts"
import type { Random } from "./random.ts"

export interface Plan {
  readonly api: "bytes" | "typed"
  /** `note`, which is typed, is discarded. */
  readonly method: "echo" | "slow" | "never" | "fail" | "die" | "note"
  readonly size: number
  /** For how long the handler works, in ms. */
  readonly work: number
  /** In ms; undefined for no deadline. */
  readonly timeout: number | undefined
  /** Whether the deadline is that of a region, and not an option of the call. */
  readonly within: boolean
  /** After how many ms it is given up; 0 is in the same turn. */
  readonly interruptAfter: number | undefined
  readonly shardKey: bigint | undefined
  readonly waitForReady: boolean
}

/** What the callers of a Connection have in common. */
export interface Habits {
  /** What part of the calls is typed. */
  readonly typed: number
  /** What part has a shard key. */
  readonly keyed: number
  /** What part waits for endpoints. */
  readonly waiting: number
  /** What part has no deadline. */
  readonly untimed: number
  /** What part are streams. */
  readonly streams: number
}

/** In ms. */
export const longestTimeout = 5000

const mebibyte = 2 ** 20

const sizeOf = (random: Random): number => {
  switch (random.weighted({ none: 4, small: 70, medium: 20, large: 5.5, huge: 0.3 })) {
    case "none":
      return 0
    case "small":
      return random.magnitude(headerSize, 2048)
    case "medium":
      return random.magnitude(2048, 65_536)
    case "large":
      return random.magnitude(65_536, mebibyte)
    case "huge":
      return random.whole(mebibyte, 4 * mebibyte)
  }
}

const interruptionOf = (random: Random): number => {
  switch (random.weighted({ atOnce: 1, soon: 3, later: 1 })) {
    case "atOnce":
      return 0
    case "soon":
      return random.between(0, 20)
    case "later":
      return random.between(20, 500)
  }
}

const timeoutOf = (random: Random, method: Plan["method"]): number => {
  if (method === "never") return random.magnitude(5, 500)
  return random.chance(0.15) ? random.magnitude(5, 50) : random.magnitude(50, longestTimeout)
}

const methodOf = (random: Random, typed: boolean): Plan["method"] => {
  const method = random.weighted({ echo: 78, slow: 12, never: 3, fail: 4, die: 0.3, note: 3 })
  return method === "note" && !typed ? "echo" : method
}

/** The next call of a caller. */
export const planOf = (random: Random, habits: Habits): Plan => {
  const typed = random.chance(habits.typed)
  const method = methodOf(random, typed)
  const untimed = random.chance(habits.untimed)
  const interrupted = random.chance(method === "never" ? 0.5 : 0.06)
  return {
    api: typed ? "typed" : "bytes",
    method,
    size: sizeOf(random),
    work: method === "slow" || method === "note" ? random.magnitude(1, 300) : 0,
    // A call without an answer has to be given up.
    timeout: untimed && (interrupted || method !== "never") ? undefined : timeoutOf(random, method),
    within: random.chance(0.2),
    interruptAfter: interrupted ? interruptionOf(random) : undefined,
    shardKey: random.chance(habits.keyed) ? BigInt(random.whole(0, 2 ** 32)) : undefined,
    waitForReady: random.chance(habits.waiting)
  }
}

/** A plan in a few words. */
export const describePlan = (plan: Plan): string => {
  const words = [plan.api, plan.method, `${plan.size} B`]
  if (plan.work > 0) words.push(`works ${plan.work} ms`)
  words.push(plan.timeout === undefined ? "no deadline" : `${plan.timeout} ms${plan.within ? " of a region" : ""}`)
  if (plan.interruptAfter !== undefined) words.push(`given up after ${plan.interruptAfter.toFixed(1)} ms`)
  if (plan.shardKey !== undefined) words.push(`key ${plan.shardKey}`)
  if (plan.waitForReady) words.push("waits")
  return words.join(", ")
}
