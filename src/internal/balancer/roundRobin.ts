/**
 * Round robin: each endpoint in turn. It does not know why an endpoint is excluded.
 */
import type { Endpoint } from "../../Endpoint.ts"
import { eligibleOf, listsEligible, noAddresses } from "./excluded.ts"
import { allExcluded, type ImmediateBalancer, make, noEndpoints } from "./immediate.ts"

/**
 * A pick looks at this many endpoints. After that, it asks the excluded set for the eligible ones, if the set can list
 * them.
 */
const longestSearch = 16

/**
 * This many addresses are remembered, also of endpoints that have left the list: so the rotation survives lists that
 * change often.
 */
const rememberedAddresses = 1024

/**
 * Each pick has a number, which is kept with the endpoint. After an update, the rotation goes on with the endpoint of
 * the lowest number, wherever it is in the new list. An endpoint that was never picked has number 0. If numbers are
 * equal, the first in the list is next.
 */
export const roundRobin = (): ImmediateBalancer => {
  let endpoints: ReadonlyArray<Endpoint> = []
  /** The number of the last pick of each endpoint, by index; 0: never picked. */
  let pickedAt: Array<number> = []
  let next = 0
  let picks = 0
  /** The same by address, as of the last update. */
  const lastPicks = new Map<string, number>()
  /** The index of each address; undefined until it is needed after an update. */
  let indices: Map<string, number> | undefined

  const take = (index: number): Endpoint | undefined => {
    pickedAt[index] = ++picks
    next = index + 1 === endpoints.length ? 0 : index + 1
    return endpoints[index]
  }

  /**
   * The next endpoint in turn among `eligible`. It is for sets that exclude most endpoints: to look at each endpoint
   * would take long.
   */
  const takeEligible = (eligible: Iterable<string>, avoid: ReadonlySet<string>): Endpoint | undefined => {
    const count = endpoints.length
    indices ??= new Map(endpoints.map(({ address }, index) => [address, index]))
    let best = -1
    let fewest = count
    for (const address of eligible) {
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
        // Moved to the end: the map is in the order in which endpoints leave the list.
        lastPicks.delete(address)
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
      if (avoid === noAddresses) return take(next)
      const listing = listsEligible(avoid) ? avoid : undefined
      if (listing === undefined && avoid.size === 0) return take(next)
      const search = listing === undefined ? count : Math.min(count, longestSearch)
      for (let step = 0, index = next; step < search; step++, index = index + 1 === count ? 0 : index + 1) {
        const endpoint = endpoints[index]
        if (endpoint !== undefined && !avoid.has(endpoint.address)) return take(index)
      }
      return listing === undefined || search === count ? undefined : takeEligible(listing[eligibleOf](), listing)
    },
    () => endpoints.length === 0 ? noEndpoints : allExcluded
  )
}
