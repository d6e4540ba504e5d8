/**
 * How the package's own balancers pick: at once, without running an Effect, so that a call on an open connection stays
 * plain code.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Random from "effect/Random"
import type { Balancer, EndpointView, PickOptions } from "../../Balancer.ts"
import { Unreachable } from "../../CallError.ts"
import type { Endpoint } from "../../Endpoint.ts"
import { effectOf, unexpected } from "../guard.ts"
import { freeOf, isAvoiding, nothing } from "./free.ts"

/**
 * The key of a balancer's immediate pick.
 */
export const pickNow: unique symbol = Symbol("effect-call/Balancer/pickNow")

/**
 * A balancer that can also pick without an Effect. Its `pick` does the same and, where there is nothing to pick, says
 * why.
 */
export interface ImmediateBalancer extends Balancer {
  /** The endpoint for a call, or undefined where `pick` would fail. */
  [pickNow](options: PickOptions, context: Context.Context<never>): Endpoint | undefined
}

/**
 * Whether a balancer can pick without an Effect. Only its own property counts: an object made from such a balancer
 * (`Object.create`, or a spread, which leaves the property behind) may have another `pick`, and must be asked through
 * that.
 */
export const isImmediate = (balancer: Balancer): balancer is ImmediateBalancer => Object.hasOwn(balancer, pickNow)

/** Makes a balancer that can pick without an Effect, too. */
export const withPickNow = (balancer: Balancer, now: ImmediateBalancer[typeof pickNow]): ImmediateBalancer => {
  Object.defineProperty(balancer, pickNow, { value: now, enumerable: false })
  // `defineProperty` has added what the type asks for.
  return balancer as ImmediateBalancer
}

/** Whether a value is a balancer. */
const isBalancer = (u: unknown): u is Balancer =>
  typeof u === "object" && u !== null && "update" in u && typeof u.update === "function" && "pick" in u &&
  typeof u.pick === "function"

/** What a user's code gives as a balancer. It throws where that is none. */
export const checkedBalancer = (given: unknown): Balancer => {
  if (!isBalancer(given)) throw unexpected("the balancer", "an object with update and pick", given)
  // Whatever its type says, it may be anything.
  const stickiness: unknown = given.stickiness
  if (stickiness !== undefined && stickiness !== "key") {
    throw unexpected("the stickiness of the balancer", `"key" or undefined`, stickiness)
  }
  return given
}

/** Whether a balancer has exactly one endpoint for each shard key: a call with a key then has no alternative. */
export const isSticky = (balancer: Balancer): boolean => balancer.stickiness === "key"

/** A balancer that a user's effect makes. */
export const balancerOf = (make: () => Effect.Effect<Balancer>): Effect.Effect<Balancer> =>
  Effect.map(effectOf("what makes the balancer", make), checkedBalancer)

/** What a balancer picks, which may be one of a user's own. */
export const pickOf = (balancer: Balancer, options: PickOptions): Effect.Effect<Endpoint, Unreachable> =>
  effectOf("the pick of the balancer", () => balancer.pick(options))

/** A balancer from how it picks at once, and why it does not where there is nothing to pick. */
export const make = (
  update: (endpoints: ReadonlyArray<Endpoint>, views: ReadonlyArray<EndpointView> | undefined) => void,
  now: ImmediateBalancer[typeof pickNow],
  why: (options: PickOptions) => string,
  stickiness?: Balancer["stickiness"]
): ImmediateBalancer =>
  withPickNow({
    stickiness,
    update,
    pick: (options) =>
      Effect.withFiber((fiber) => {
        const endpoint = now(options, fiber.context)
        return endpoint === undefined
          ? Effect.fail(new Unreachable({ message: why(options), attempts: [] }))
          : Effect.succeed(endpoint)
      })
  }, now)

/** Why there is nothing to pick where there are no endpoints. */
export const noEndpoints = "no endpoints"

/** Why there is nothing to pick where there are some. */
export const allAvoided = "every endpoint was tried, is in backoff or is left alone"

/** What is wrong with a shard key outside u64. */
export const notAShardKey = (shardKey: bigint): string =>
  `shard key ${String(shardKey)} is out of range: a shard key is a u64, from 0 to ${maxShardKey}`

/** So many endpoints in turn are looked at before it is asked which are left, where the set to avoid can say that. */
const longestSearch = 16

// Endpoints that have gone are remembered up to this many, so that a rotation survives lists that come and go.
const rememberedAddresses = 1024

/**
 * The endpoints in turn. Each pick leaves its number beside the endpoint; an update lets the rotation go on with the
 * endpoint whose last pick is the longest ago (one never picked before all others, the earliest in the list among
 * equals), whatever the update has moved.
 */
export const roundRobin = (): ImmediateBalancer => {
  let endpoints: ReadonlyArray<Endpoint> = []
  let pickedAt: Array<number> = [] // by index; 0: never
  let next = 0
  let picks = 0
  const lastPicks = new Map<string, number>() // by address, as of the last update
  let indices: Map<string, number> | undefined // by address, where they were asked for since the last update

  const take = (index: number): Endpoint | undefined => {
    pickedAt[index] = ++picks
    next = index + 1 === endpoints.length ? 0 : index + 1
    return endpoints[index]
  }

  /**
   * The next one of those that are left, where most are to be avoided: to look at all would take long for many calls.
   */
  const takeLeft = (left: Iterable<string>, avoid: ReadonlySet<string>): Endpoint | undefined => {
    const count = endpoints.length
    indices ??= new Map(endpoints.map(({ address }, index) => [address, index]))
    let best = -1
    let fewest = count
    for (const address of left) {
      const index = indices.get(address)
      if (index === undefined) continue
      const steps = index < next ? index + count - next : index - next
      if (steps >= fewest || avoid.has(address)) continue
      best = index
      fewest = steps
    }
    return best === -1 ? undefined : take(best)
  }

  return make(
    (update) => {
      indices = undefined
      endpoints.forEach(({ address }, index) => {
        lastPicks.delete(address) // entered anew at the end, the map is in the order of departure
        lastPicks.set(address, pickedAt[index] ?? 0)
      })
      endpoints = update.slice()
      pickedAt = endpoints.map(({ address }) => lastPicks.get(address) ?? 0)
      next = 0
      pickedAt.forEach((picked, index) => {
        if (picked < (pickedAt[next] ?? 0)) next = index
      })
      for (const address of lastPicks.keys()) {
        if (lastPicks.size <= rememberedAddresses) break
        lastPicks.delete(address)
      }
    },
    ({ avoid }) => {
      const count = endpoints.length
      if (count === 0) return undefined
      if (avoid === nothing) return take(next)
      const left = isAvoiding(avoid) ? avoid : undefined
      if (left === undefined && avoid.size === 0) return take(next)
      const search = left === undefined ? count : Math.min(count, longestSearch)
      for (let step = 0, index = next; step < search; step++, index = index + 1 === count ? 0 : index + 1) {
        const endpoint = endpoints[index]
        if (endpoint !== undefined && !avoid.has(endpoint.address)) return take(index)
      }
      return left === undefined || search === count ? undefined : takeLeft(left[freeOf](), left)
    },
    () => endpoints.length === 0 ? noEndpoints : allAvoided
  )
}

/** The largest shard key: they are u64. */
export const maxShardKey = 2n ** 64n - 1n

/**
 * `key` mod `count` for a u64, -1 for any other key. Nearly all keys are small enough to be computed with as numbers:
 * whatever rounds to a safe integer is that integer. Comparing and dividing as `bigint` costs several times as much.
 */
const shardOf = (key: bigint, count: number): number => {
  const small = Number(key)
  if (small >= 0 && small <= Number.MAX_SAFE_INTEGER) return small % count
  return key >= 0n && key <= maxShardKey ? Number(key % BigInt(count)) : -1
}

/** Whether a key is a u64. Whatever its type says, it may be anything. */
export const isShardKey = (key: bigint): boolean => typeof key === "bigint" && BigInt.asUintN(64, key) === key

/** How often an endpoint is drawn from all of them before the free ones are counted. */
const firstTries = 4

/**
 * The endpoint that the shard key names, and no other; without a key, one at random.
 */
export const sharded = (): ImmediateBalancer => {
  let endpoints: ReadonlyArray<Endpoint> = []

  const atRandom = (avoid: ReadonlySet<string>, context: Context.Context<never>): Endpoint | undefined => {
    const count = endpoints.length
    const random = Context.get(context, Random.Random)
    if (avoid.size === 0) return endpoints[Math.floor(random.nextDoubleUnsafe() * count)]
    // Where most are free, as they are among many, one of the first tries is: to count them would cost a look at each.
    for (let i = 0; i < firstTries; i++) {
      const endpoint = endpoints[Math.floor(random.nextDoubleUnsafe() * count)]
      if (endpoint !== undefined && !avoid.has(endpoint.address)) return endpoint
    }
    let free = 0
    for (const { address } of endpoints) if (!avoid.has(address)) free++
    if (free === 0) return undefined
    let skip = Math.floor(random.nextDoubleUnsafe() * free)
    for (const endpoint of endpoints) if (!avoid.has(endpoint.address) && skip-- === 0) return endpoint
    return undefined
  }

  return make(
    (update) => {
      endpoints = update.slice()
    },
    ({ avoid, shardKey }, context) => {
      if (endpoints.length === 0) return undefined
      if (shardKey === undefined) return atRandom(avoid, context)
      const endpoint = endpoints[shardOf(shardKey, endpoints.length)]
      return endpoint !== undefined && avoid.size > 0 && avoid.has(endpoint.address) ? undefined : endpoint
    },
    ({ shardKey }) => {
      if (shardKey !== undefined && !isShardKey(shardKey)) {
        return notAShardKey(shardKey)
      }
      if (endpoints.length === 0) return noEndpoints
      if (shardKey === undefined) return allAvoided
      const address = endpoints[shardOf(shardKey, endpoints.length)]?.address
      return `the endpoint of shard key ${shardKey} (${address}) is not reachable: it was tried, is in backoff or is left alone`
    },
    "key"
  )
}
