/**
 * Some of many endpoints, chosen by rendezvous hashing: every client puts all endpoints into its own order, by a hash
 * of both names, and uses the first ones. When an endpoint joins or leaves, the order of the others stays.
 *
 * It does not know how the balancers inside it pick.
 */
import * as Effect from "effect/Effect"
import type { Endpoint } from "../../Endpoint.ts"
import { pickOf } from "./checks.ts"
import { changed, nothingKnown } from "./endpoints.ts"
import { hashText, mix } from "./hash.ts"
import { isImmediate, pickNow, withPickNow } from "./immediate.ts"
import type { Balancer, EndpointView } from "./model.ts"

interface Ranked {
  readonly endpoint: Endpoint
  readonly view: EndpointView | undefined
  readonly hash: number
}

/** The endpoints in the order of a client. For all clients, endpoints with a lower priority number come first. */
const inOrderOf = (
  client: number,
  endpoints: ReadonlyArray<Endpoint>,
  views: ReadonlyArray<EndpointView> | undefined
): ReadonlyArray<Ranked> =>
  endpoints
    .map((endpoint, index): Ranked => ({
      endpoint,
      view: views?.[index],
      hash: mix(hashText(endpoint.address) ^ client)
    }))
    .sort((one, other) =>
      (one.endpoint.priority ?? 0) - (other.endpoint.priority ?? 0) ||
      one.hash - other.hash ||
      (one.endpoint.address < other.endpoint.address ? -1 : 1)
    )

const give = (balancer: Balancer, ranked: ReadonlyArray<Ranked>): void => {
  const views = ranked.flatMap(({ view }) => view === undefined ? [] : [view])
  balancer.update(
    ranked.map(({ endpoint }) => endpoint),
    views.length === ranked.length && views.length > 0 ? views : undefined
  )
}

/** `own` balances over the subset. `spare` balances over the stand-ins while the whole subset is excluded. */
export const subset = (size: number, client: string, own: Balancer, spare: Balancer): Balancer => {
  const seed = hashText(client)
  let known = nothingKnown
  let order: ReadonlyArray<Ranked> = []
  /** The endpoints that stand in. */
  let standIns: ReadonlyArray<Ranked> = []

  const standIn = (avoid: ReadonlySet<string>): void => {
    const next: Array<Ranked> = []
    for (let i = size; i < order.length && next.length < size; i++) {
      const ranked = order[i]
      if (ranked !== undefined && !avoid.has(ranked.endpoint.address)) next.push(ranked)
    }
    if (next.length === standIns.length && next.every((ranked, index) => ranked === standIns[index])) return
    give(spare, next)
    standIns = next
  }

  const balancer: Balancer = {
    update: (endpoints, views) => {
      const update = changed(known, endpoints, views)
      if (update === undefined) return
      order = inOrderOf(seed, endpoints, views)
      give(own, order.slice(0, size))
      standIns = []
      give(spare, standIns)
      // Only after both updates: the balancers may be custom ones, and throw.
      known = update
    },
    pick: (options) =>
      order.length <= size
        ? pickOf(own, options)
        : Effect.catch(pickOf(own, options), (error) => {
          standIn(options.avoid)
          return standIns.length === 0 ? Effect.fail(error) : pickOf(spare, options)
        })
  }
  if (!isImmediate(own) || !isImmediate(spare)) return balancer
  return withPickNow(balancer, (options, context) => {
    const endpoint = own[pickNow](options, context)
    if (endpoint !== undefined || order.length <= size) return endpoint
    standIn(options.avoid)
    return spare[pickNow](options, context)
  })
}
