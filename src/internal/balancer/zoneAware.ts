/**
 * Prefers the endpoints of the client's own zone. It does not know how the balancers of the two sides pick.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Random from "effect/Random"
import type { Endpoint } from "../../Endpoint.ts"
import { pickOf } from "./checks.ts"
import { changed, fullWeight, type Known, nothingKnown } from "./endpoints.ts"
import { isImmediate, pickNow, withPickNow } from "./immediate.ts"
import type { Balancer, EndpointView, PickOptions } from "./model.ts"

/** A zone usually has this many times the weight that it needs: if 29 % of it fails, the rest is still enough. */
const overprovision = 1.4

/** An endpoint is overloaded if more calls than this are pending for its weight … */
const overloadedPending = 8
/** … and its latency is more than this many times the mean of the other side. */
const overloadedLatency = 2

/** One of the two sides: the own zone, or all others. */
class Side {
  readonly balancer: Balancer
  known: Known = nothingKnown

  constructor(balancer: Balancer) {
    this.balancer = balancer
  }

  update(endpoints: ReadonlyArray<Endpoint>, views: ReadonlyArray<EndpointView> | undefined, isOurs: Belongs): void {
    const ours = endpoints.map(isOurs)
    this.known = {
      endpoints: endpoints.filter((_, index) => ours[index]),
      views: views?.filter((_, index) => ours[index])
    }
    this.balancer.update(this.known.endpoints, this.known.views)
  }

  get isEmpty(): boolean {
    return this.known.endpoints.length === 0
  }

  /** The highest priority number in use. Endpoints with a higher number are excluded, whatever their condition is. */
  lastPriority(avoid: ReadonlySet<string>): number {
    let last = -1
    for (const { address, priority = 0 } of this.known.endpoints) {
      if (priority > last && !avoid.has(address)) last = priority
    }
    return last
  }

  /** The mean latency in milliseconds; undefined if none is known. */
  latency(avoid: ReadonlySet<string>): number | undefined {
    let sum = 0
    let count = 0
    for (const { endpoint, latency } of this.known.views ?? []) {
      if (latency === undefined || avoid.has(endpoint.address)) continue
      sum += latency
      count++
    }
    return count === 0 ? undefined : sum / count
  }

  /** The part of its weight that is healthy, from 0 to 1. */
  healthyShare(avoid: ReadonlySet<string>, lastPriority: number, otherLatency: number | undefined): number {
    let all = 0
    let well = 0
    this.known.endpoints.forEach((endpoint, index) => {
      if ((endpoint.priority ?? 0) > lastPriority) return
      const view = this.known.views?.[index]
      const weight = fullWeight(endpoint)
      all += weight
      if (!avoid.has(endpoint.address) && !(view !== undefined && isOverloaded(view, otherLatency))) well += weight
    })
    return all === 0 ? 0 : well / all
  }
}

type Belongs = (endpoint: Endpoint) => boolean

const isOverloaded = ({ callsPending, latency, weight }: EndpointView, otherLatency: number | undefined): boolean =>
  callsPending > overloadedPending * weight &&
  // If one side has never answered, the pending calls decide.
  (latency === undefined || otherLatency === undefined || latency > overloadedLatency * otherLatency)

export const zoneAware = (zone: string, own: Balancer, others: Balancer): Balancer => {
  const near = new Side(own)
  const far = new Side(others)
  let known = nothingKnown
  /** The part of the calls that stays in the zone, from 0 to 1. */
  let staying = 1
  /**
   * Counts down the picks until `staying` is computed again: after as many picks as there are endpoints, or when the
   * excluded endpoints change.
   */
  let picksLeft = 0
  let computedFor: ReadonlySet<string> = new Set()

  const computeStaying = (avoid: ReadonlySet<string>): number => {
    const lastPriority = Math.max(near.lastPriority(avoid), far.lastPriority(avoid))
    const nearShare = near.healthyShare(avoid, lastPriority, far.latency(avoid))
    const farShare = far.healthyShare(avoid, lastPriority, near.latency(avoid))
    // If the others are no better, there is nothing to gain.
    return nearShare >= farShare ? 1 : Math.min(1, overprovision * nearShare)
  }

  const staysHere = ({ avoid }: PickOptions, context: Context.Context<never>): boolean => {
    if (near.isEmpty || far.isEmpty) return far.isEmpty
    // Without views, only the excluded endpoints can change the result.
    if ((known.views !== undefined && picksLeft-- <= 0) || computedFor !== avoid) {
      staying = computeStaying(avoid)
      picksLeft = known.endpoints.length
      computedFor = avoid
    }
    return staying === 1 || Context.get(context, Random.Random).nextDoubleUnsafe() < staying
  }

  const balancer: Balancer = {
    update: (endpoints, views) => {
      const update = changed(known, endpoints, views)
      if (update === undefined) return
      near.update(endpoints, views, (endpoint) => endpoint.zone === zone)
      far.update(endpoints, views, (endpoint) => endpoint.zone !== zone)
      // Only after both updates: the balancers may be custom ones, and throw.
      known = update
      picksLeft = 0
      computedFor = new Set()
    },
    pick: (options) =>
      Effect.withFiber((fiber) => {
        const [first, second] = staysHere(options, fiber.context) ? [near, far] : [far, near]
        const pick = pickOf(first.balancer, options)
        return second.isEmpty ? pick : Effect.catch(pick, () => pickOf(second.balancer, options))
      })
  }
  if (!isImmediate(own) || !isImmediate(others)) return balancer
  return withPickNow(balancer, (options, context) => {
    if (staysHere(options, context)) return own[pickNow](options, context) ?? others[pickNow](options, context)
    return others[pickNow](options, context) ?? own[pickNow](options, context)
  })
}
