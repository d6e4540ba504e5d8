/**
 * Sharding: the endpoint that a shard key belongs to, and no other; without a key, one at random. It does not know what
 * a shard is.
 */
import * as Context from "effect/Context"
import * as Random from "effect/Random"
import type { Endpoint } from "../../Endpoint.ts"
import { allExcluded, type ImmediateBalancer, make, noEndpoints } from "./immediate.ts"
import { isShardKey, notAShardKey, shardOf } from "./shardKey.ts"

/** This many endpoints are drawn from the whole list before the eligible ones are counted. */
const firstTries = 4

export const sharded = (): ImmediateBalancer => {
  let endpoints: ReadonlyArray<Endpoint> = []

  const atRandom = (avoid: ReadonlySet<string>, context: Context.Context<never>): Endpoint | undefined => {
    const count = endpoints.length
    const random = Context.get(context, Random.Random)
    if (avoid.size === 0) return endpoints[Math.floor(random.nextDoubleUnsafe() * count)]
    // Usually few endpoints are excluded, so one of the first draws is eligible. To count looks at each endpoint.
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
      if (shardKey !== undefined && !isShardKey(shardKey)) return notAShardKey(shardKey)
      if (endpoints.length === 0) return noEndpoints
      if (shardKey === undefined) return allExcluded
      const address = endpoints[shardOf(shardKey, endpoints.length)]?.address
      return `the endpoint of shard key ${shardKey} (${address}) is not reachable: it was tried, is in backoff or is ejected`
    },
    "key"
  )
}
