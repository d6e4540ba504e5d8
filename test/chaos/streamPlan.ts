/**
 * What a caller is going to do with a stream: which method, what goes up and what comes down, how it is read, how long
 * it may take and whether it is given up.
 */
import { longestPauses, nothing, type Order, orderSize, type Sequence } from "./order.ts"
import { headerSize } from "./payload.ts"
import { describePlan, type Habits, type Plan } from "./plan.ts"
import type { Random } from "./random.ts"

export interface StreamPlan {
  readonly api: "bytes" | "typed"
  /** `queue` gives a Dequeue from its handler, and is typed. `upload` has one result. */
  readonly method: "feed" | "queue" | "upload" | "chat"
  /** How many bytes its arguments have. */
  readonly size: number
  readonly order: Order
  /** Whether a typed client takes a Dequeue. */
  readonly asQueue: boolean
  /** After how many items the reader has enough; undefined for never. */
  readonly take: number | undefined
  /** How long the reader takes for a chunk, in ms; Infinity where it takes one and no other. */
  readonly pause: number
  readonly timeout: number | undefined
  readonly within: boolean
  readonly interruptAfter: number | undefined
  readonly shardKey: bigint | undefined
  readonly waitForReady: boolean
}

/** What is made on a Connection. */
export type AnyPlan = Plan | StreamPlan

const isStream = (plan: AnyPlan): plan is StreamPlan => "order" in plan

const mebibyte = 2 ** 20

/** A stream has at most about so many bytes, in one direction. */
const mostBytes = 4 * mebibyte

const sizesOf = (random: Random): { readonly smallest: number; readonly largest: number } => {
  switch (random.weighted({ empty: 2, tiny: 20, small: 55, medium: 16, large: 6, huge: 1 })) {
    case "empty":
      return { smallest: 0, largest: 0 }
    case "tiny":
      return { smallest: headerSize, largest: headerSize }
    case "small":
      return { smallest: headerSize, largest: random.magnitude(headerSize, 2048) }
    case "medium":
      return { smallest: random.magnitude(headerSize, 2048), largest: random.magnitude(2048, 65_536) }
    case "large":
      return { smallest: 1024, largest: random.magnitude(65_536, mebibyte / 2) }
    case "huge":
      return { smallest: mebibyte / 4, largest: random.whole(mebibyte / 2, 3 * mebibyte) }
  }
}

/** Items that have an end, or have none. */
const sequenceOf = (random: Random, isEndless: boolean): Sequence => {
  const sizes = sizesOf(random)
  const most = Math.max(1, Math.floor(mostBytes / (sizes.largest + 4)))
  const count = Math.min(most, random.chance(0.05) ? 0 : random.magnitude(1, 2000))
  const chunk = Math.min(Math.max(1, count), random.magnitude(1, 256))
  const pauses = random.chance(0.4) ? random.magnitude(10, longestPauses) : 0
  return {
    ...sizes,
    count: isEndless ? undefined : count,
    chunk,
    // What never ends is not to take all of the machine.
    pause: isEndless ? random.magnitude(2, 100) : Math.floor(pauses / Math.ceil(Math.max(1, count) / chunk)),
    end: isEndless ? "clean" : random.weighted({ clean: 90, fail: 8, die: 2 })
  }
}

const methodOf = (random: Random, typed: boolean): StreamPlan["method"] => {
  const method = random.weighted({ feed: 40, queue: 10, upload: 25, chat: 25 })
  return method === "queue" && !typed ? "feed" : method
}

const orderOf = (random: Random, method: StreamPlan["method"]): Order => {
  const comes = method === "feed" || method === "queue"
  const isEndless = random.chance(comes ? 0.25 : 0.1)
  // What ends like that is the handler of the client's items.
  const end = { ...nothing, end: random.weighted({ clean: 90, fail: 8, die: 2 }) }
  const up = comes ? nothing : sequenceOf(random, isEndless)
  return {
    down: comes ? sequenceOf(random, isEndless) : end,
    // A client's items fail, or they do not: they do not die.
    up: up.end === "die" ? { ...up, end: "clean" } : up,
    takes: comes || !random.chance(0.2) ? undefined : random.magnitude(1, 200),
    work: comes || !random.chance(0.2) ? 0 : random.magnitude(1, 20),
    stops: !comes && random.chance(0.05),
    leaving: random.pick(isEndless ? ["fails", "ends"] : ["goesOn", "goesOn", "fails", "ends"])
  }
}

/** How many items come back to the client, as far as it is known; Infinity where that has no end. */
export const comesBack = ({ method, order: { down, takes, up } }: StreamPlan): number => {
  switch (method) {
    case "feed":
    case "queue":
      return down.count ?? Infinity
    case "chat":
      return Math.min(up.count ?? Infinity, takes ?? Infinity)
    case "upload":
      return 1
  }
}

/** In ms. */
const longestTimeout = 3000

/** The next stream of a caller. */
export const streamPlanOf = (random: Random, habits: Habits): StreamPlan => {
  const typed = random.chance(habits.typed)
  const method = methodOf(random, typed)
  const order = orderOf(random, method)
  const isEndless = order.stops ||
    ((order.down.count === undefined || order.up.count === undefined) && order.takes === undefined)
  const stops = method !== "upload" && random.chance(0.04)
  const take = method !== "upload" && random.chance(isEndless ? 0.4 : 0.1) ? random.magnitude(1, 500) : undefined
  const interrupted = stops || random.chance(0.08)
  const untimed = random.chance(habits.untimed)
  // What does not end by itself has to be given up.
  const mustEnd = isEndless && (take === undefined || order.stops) && !interrupted
  const asQueue = typed && method !== "upload" && random.chance(0.2)
  // From a queue, items are taken one by one, and all that wait come before the end: pauses would take far too long.
  const pause = !random.chance(0.2) || asQueue ? 0 : random.magnitude(1, 30)
  return {
    api: typed ? "typed" : "bytes",
    method,
    size: random.chance(0.02) ? random.whole(mebibyte / 4, mebibyte) : random.magnitude(orderSize, 4096),
    order,
    asQueue,
    take,
    pause: stops ? Infinity : pause,
    timeout: untimed && !mustEnd ? undefined : random.magnitude(20, longestTimeout),
    within: random.chance(0.2),
    interruptAfter: interrupted ? random.chance(0.1) ? 0 : random.magnitude(1, 1500) : undefined,
    shardKey: random.chance(habits.keyed) ? BigInt(random.whole(0, 2 ** 32)) : undefined,
    waitForReady: random.chance(habits.waiting)
  }
}

const describeItems = (name: string, { chunk, count, end, largest, pause, smallest }: Sequence): string =>
  `${name} ${count ?? "endless"} of ${smallest}-${largest} B by ${chunk} every ${pause} ms${
    end === "clean" ? "" : `, then ${end}`
  }`

const describeStream = (plan: StreamPlan): string => {
  const { down, leaving, stops, takes, up, work } = plan.order
  const words = [plan.api, plan.method, `${plan.size} B`]
  if (down.count !== 0 || down.end !== "clean") words.push(describeItems("down", down))
  if (up.count !== 0) words.push(describeItems("up", up))
  if (takes !== undefined) words.push(`takes ${takes}`)
  if (work > 0) words.push(`works ${work} ms`)
  if (stops) words.push("stops taking")
  if (leaving !== "goesOn") words.push(`leaving ${leaving}`)
  if (plan.asQueue) words.push("as queue")
  if (plan.take !== undefined) words.push(`reads ${plan.take}`)
  if (plan.pause > 0) words.push(plan.pause === Infinity ? "stops reading" : `reads every ${plan.pause} ms`)
  words.push(plan.timeout === undefined ? "no deadline" : `${plan.timeout} ms${plan.within ? " of a region" : ""}`)
  if (plan.interruptAfter !== undefined) words.push(`given up after ${plan.interruptAfter} ms`)
  if (plan.shardKey !== undefined) words.push(`key ${plan.shardKey}`)
  if (plan.waitForReady) words.push("waits")
  return words.join(", ")
}

/** A plan in a few words. */
export const describe = (plan: AnyPlan): string => isStream(plan) ? describeStream(plan) : describePlan(plan)
