/**
 * Consistent hashing with bounded loads.
 */
import type { Endpoint } from "../../Endpoint.ts"
import { changed, fullWeights, nothingKnown } from "./endpoints.ts"
import { hashKey } from "./hash.ts"
import { allExcluded, type ImmediateBalancer, make, noEndpoints, pickNow } from "./immediate.ts"
import { leastPending } from "./leastPending.ts"
import { Ring } from "./ring.ts"
import { isShardKey, notAShardKey } from "./shardKey.ts"

/** How many times as many calls as the mean may be pending at an endpoint. */
const boundFactor = 1.25

/** So many calls may always be pending at an endpoint: with few of them, the mean says nothing. */
const leastBound = 4

export const consistentHash = (): ImmediateBalancer => {
  let known = nothingKnown
  let avoid: ReadonlySet<string> = new Set()
  const ring = new Ring()
  const withoutKey = leastPending()

  /** How many calls are pending at those not to be avoided, with the one to be picked for, and what they weigh. */
  let pending = 0
  let totalWeight = 0
  /** They are counted anew after as many picks as there are endpoints, which then costs a pick no more than one look at one of them. */
  let picksLeft = 0
  let countedWithout = avoid

  const count = (): void => {
    pending = 0
    totalWeight = 0
    for (const view of known.views ?? []) {
      if (avoid.size > 0 && avoid.has(view.endpoint.address)) continue
      pending += view.callsPending
      totalWeight += view.weight
    }
    picksLeft = known.endpoints.length
    countedWithout = avoid
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
      // Not those of the views: an endpoint that starts has keys of its own from the beginning, and the bound keeps its load low.
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
        if (picksLeft-- <= 0 || countedWithout !== avoid) count()
        // The call to be picked for. Those that have ended since the count still count, so that there is always one below the bound.
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
