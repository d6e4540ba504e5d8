/**
 * Consistent hashing with bounded loads: the balancer around the ring. It does not know where points lie on the ring.
 */
import type { Endpoint } from "../../Endpoint.ts"
import { changed, fullWeights, nothingKnown } from "./endpoints.ts"
import { hashKey } from "./hash.ts"
import { allExcluded, type ImmediateBalancer, make, noEndpoints, pickNow } from "./immediate.ts"
import { leastPending } from "./leastPending.ts"
import { Ring } from "./ring.ts"
import { isShardKey, notAShardKey } from "./shardKey.ts"

/** The calls that may be pending at an endpoint, as a multiple of the mean. */
const boundFactor = 1.25

/** This many calls may always be pending at an endpoint: with few calls, the mean says nothing. */
const leastBound = 4

export const consistentHash = (): ImmediateBalancer => {
  let known = nothingKnown
  let avoid: ReadonlySet<string> = new Set()
  const ring = new Ring()
  const withoutKey = leastPending()

  /**
   * The calls pending at endpoints that are not excluded, including the call to pick for, and the weight of these
   * endpoints.
   */
  let pending = 0
  let totalWeight = 0
  /**
   * Counts down the picks until the next count. It starts at the number of endpoints, so that a pick counts one
   * endpoint on average.
   */
  let picksLeft = 0
  let countedFor = avoid

  const count = (): void => {
    pending = 0
    totalWeight = 0
    for (const view of known.views ?? []) {
      if (avoid.size > 0 && avoid.has(view.endpoint.address)) continue
      pending += view.callsPending
      totalWeight += view.weight
    }
    picksLeft = known.endpoints.length
    countedFor = avoid
  }

  const isFree = (index: number): boolean => {
    const endpoint = known.endpoints[index]
    return endpoint !== undefined && !(avoid.size > 0 && avoid.has(endpoint.address))
  }

  const hasRoom = (index: number): boolean => {
    const view = known.views?.[index]
    if (view === undefined) return isFree(index)
    const { callsPending } = view
    return (callsPending < leastBound || callsPending < Math.ceil(boundFactor * pending * view.weight / totalWeight)) &&
      isFree(index)
  }

  return make(
    (endpoints, views) => {
      const update = changed(known, endpoints, views)
      if (update === undefined) return
      known = update
      // By full weights, not by the weights of the views: an endpoint that starts has its keys from the beginning, and
      // the bound keeps its load low.
      ring.update(update.endpoints, fullWeights(update))
      withoutKey.update(endpoints, views)
      picksLeft = 0
    },
    (options, context): Endpoint | undefined => {
      const { shardKey } = options
      if (shardKey === undefined) return withoutKey[pickNow](options, context)
      if (!isShardKey(shardKey)) return undefined
      avoid = options.avoid
      if (known.views !== undefined) {
        if (picksLeft-- <= 0 || countedFor !== avoid) count()
        // Adds the call to pick for. Calls that have ended since the last count still count, so one endpoint is always
        // below the bound.
        pending++
      }
      const hash = hashKey(shardKey)
      let index = ring.find(hash, hasRoom)
      if (index < 0) index = ring.find(hash, isFree)
      return known.endpoints[index]
    },
    ({ shardKey }) => {
      if (shardKey !== undefined && !isShardKey(shardKey)) return notAShardKey(shardKey)
      return known.endpoints.length === 0 ? noEndpoints : allExcluded
    }
  )
}
