/**
 * The endpoints of one's own zone first.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Random from "effect/Random"
import type { Endpoint } from "../../Endpoint.ts"
import { pickOf } from "./checks.ts"
import { changed, fullWeight, type Known, nothingKnown } from "./endpoints.ts"
import { isImmediate, pickNow, withPickNow } from "./immediate.ts"
import type { Balancer, EndpointView, PickOptions } from "./model.ts"

/** A zone with so many times as much weight as it needs is taken for the usual case: without 29 % of it, it still is enough. */
const overprovision = 1.4

/** An endpoint has too much to do where more calls are pending for each unit of its weight than this … */
const crowdedPending = 8
/** … and it takes so many times as long as those of the other side. */
const crowdedLatency = 2

/** One's own zone, or all the others. */
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

  /** The priority of the last ones that are used: those behind them are avoided, and that says nothing about how they are. */
  lastPriority(avoid: ReadonlySet<string>): number {
    let last = -1
    for (const { address, priority = 0 } of this.known.endpoints) {
      if (priority > last && !avoid.has(address)) last = priority
    }
    return last
  }

  /** The mean latency in milliseconds; undefined where nothing is known of it. */
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

  /** How much of its weight can take calls, from 0 to 1. */
  wellShare(avoid: ReadonlySet<string>, lastPriority: number, otherLatency: number | undefined): number {
    let all = 0
    let well = 0
    this.known.endpoints.forEach((endpoint, index) => {
      if ((endpoint.priority ?? 0) > lastPriority) return
      const view = this.known.views?.[index]
      const weight = fullWeight(endpoint)
      all += weight
      if (!avoid.has(endpoint.address) && !(view !== undefined && isCrowded(view, otherLatency))) well += weight
    })
    return all === 0 ? 0 : well / all
  }
}

type Belongs = (endpoint: Endpoint) => boolean

const isCrowded = ({ callsPending, latency, weight }: EndpointView, otherLatency: number | undefined): boolean =>
  callsPending > crowdedPending * weight &&
  // Where one side has never answered, the calls that are pending decide.
  (latency === undefined || otherLatency === undefined || latency > crowdedLatency * otherLatency)

export const zoneAware = (zone: string, own: Balancer, others: Balancer): Balancer => {
  const near = new Side(own)
  const far = new Side(others)
  let known = nothingKnown
  /** Which part of the calls stays in the zone. */
  let staying = 1
  /** It is found out anew after as many picks as there are endpoints, and where others are to be avoided. */
  let picksLeft = 0
  let foundWithout: ReadonlySet<string> = new Set()

  const findStaying = (avoid: ReadonlySet<string>): number => {
    const lastPriority = Math.max(near.lastPriority(avoid), far.lastPriority(avoid))
    const nearShare = near.wellShare(avoid, lastPriority, far.latency(avoid))
    const farShare = far.wellShare(avoid, lastPriority, near.latency(avoid))
    // Where the others are no better off, nothing is gained by going there.
    return nearShare >= farShare ? 1 : Math.min(1, overprovision * nearShare)
  }

  const staysHere = ({ avoid }: PickOptions, context: Context.Context<never>): boolean => {
    if (near.isEmpty || far.isEmpty) return far.isEmpty
    // Without views nothing else can be known than what is to be avoided.
    if ((known.views !== undefined && picksLeft-- <= 0) || foundWithout !== avoid) {
      staying = findStaying(avoid)
      picksLeft = known.endpoints.length
      foundWithout = avoid
    }
    return staying === 1 || Context.get(context, Random.Random).nextDoubleUnsafe() < staying
  }

  const balancer: Balancer = {
    update: (endpoints, views) => {
      const update = changed(known, endpoints, views)
      if (update === undefined) return
      near.update(endpoints, views, (endpoint) => endpoint.zone === zone)
      far.update(endpoints, views, (endpoint) => endpoint.zone !== zone)
      // Now that both have taken it: those of a user's own may throw.
      known = update
      picksLeft = 0
      foundWithout = new Set()
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
