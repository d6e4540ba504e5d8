/**
 * Lists of endpoints: without duplicates, in order, compared. Pure; it knows no resolver.
 */
import type { Endpoint } from "../../Endpoint.ts"

/** The endpoints, each address once. If several have the same address, the first one counts. */
export const distinct = (endpoints: Iterable<Endpoint>): ReadonlyArray<Endpoint> => {
  const byAddress = new Map<string, Endpoint>()
  for (const endpoint of endpoints) {
    if (!byAddress.has(endpoint.address)) byAddress.set(endpoint.address, endpoint)
  }
  return [...byAddress.values()]
}

/** {@link distinct} endpoints in the order of their addresses, so that one set is always the same list. */
export const sorted = (endpoints: Iterable<Endpoint>): ReadonlyArray<Endpoint> =>
  distinct(endpoints).toSorted((a, b) => a.address < b.address ? -1 : 1)

/** Whether two lists have the same addresses and attributes in the same order. */
export const sameEndpoints = (some: ReadonlyArray<Endpoint>, others: ReadonlyArray<Endpoint>): boolean =>
  some.length === others.length && some.every((endpoint, i) => {
    const other = others[i]
    return other !== undefined && endpoint.address === other.address && endpoint.weight === other.weight
      && endpoint.zone === other.zone && endpoint.priority === other.priority
  })
