/**
 * Helpers for the updates of several balancers: whether an update changes anything, and full weights. It knows no
 * balancer.
 */
import type { Endpoint } from "../../Endpoint.ts"
import type { EndpointView } from "./model.ts"

/** The arguments of a balancer's last update. */
export interface Known {
  readonly endpoints: ReadonlyArray<Endpoint>
  readonly views: ReadonlyArray<EndpointView> | undefined
}

export const nothingKnown: Known = { endpoints: [], views: undefined }

const areSame = <A>(one: ReadonlyArray<A>, other: ReadonlyArray<A>): boolean =>
  one.length === other.length && one.every((element, index) => element === other[index])

/**
 * Copies of the arguments of an update; undefined if nothing has changed. A balancer of a single call is updated before
 * each pick, and usually nothing has changed.
 */
export const changed = (
  known: Known,
  endpoints: ReadonlyArray<Endpoint>,
  views: ReadonlyArray<EndpointView> | undefined
): Known | undefined => {
  const same = areSame(known.endpoints, endpoints) &&
    (views === undefined ? known.views === undefined : known.views !== undefined && areSame(known.views, views))
  return same ? undefined : { endpoints: endpoints.slice(), views: views?.slice() }
}

/**
 * The weight of an endpoint once it has started. The weight of its view may be less until then. During an update the
 * view still has the weight from before.
 */
export const fullWeight = (endpoint: Endpoint): number => endpoint.weight ?? 1

export const fullWeights = ({ endpoints }: Known): Float64Array<ArrayBuffer> => Float64Array.from(endpoints, fullWeight)
