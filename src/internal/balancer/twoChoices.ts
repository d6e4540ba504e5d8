/**
 * The power of two choices: one endpoint is drawn by weight, a second one evenly from the others. The better of the two
 * gets the call.
 *
 * Only the first is drawn by weight. So each endpoint gets its share if neither is better, and light endpoints are
 * compared as often as heavy ones. It does not know what makes an endpoint better.
 */
import * as Context from "effect/Context"
import * as Random from "effect/Random"
import type { Endpoint } from "../../Endpoint.ts"
import { changed, fullWeights, nothingKnown } from "./endpoints.ts"
import { allExcluded, type ImmediateBalancer, make, noEndpoints } from "./immediate.ts"
import type { EndpointView, PickOptions } from "./model.ts"
import { Sampler } from "./sampler.ts"

/** An endpoint that starts slowly is passed over at most this often: if all of them start, none is preferred. */
const mostDraws = 16

/** Whether the second endpoint should get the call rather than the first. */
export type IsBetter = (second: EndpointView, first: EndpointView) => boolean

export const twoChoices = (isBetter: IsBetter): ImmediateBalancer => {
  let known = nothingKnown
  let weights = new Float64Array(0)
  let all = new Sampler(weights)
  /**
   * The endpoints that are not excluded, and the set that excluded the others. As long as nothing changes, all calls
   * have the same set.
   */
  let free = all
  let avoided: ReadonlySet<string> | undefined
  let avoidedSize = 0

  const without = (avoid: ReadonlySet<string>): Sampler => {
    if (avoid === avoided && avoid.size === avoidedSize) return free
    const indices = known.endpoints.flatMap(({ address }, index) => avoid.has(address) ? [] : [index])
    free = new Sampler(weights, Int32Array.from(indices))
    avoided = avoid
    avoidedSize = avoid.size
    return free
  }

  const now = ({ avoid }: PickOptions, context: Context.Context<never>): Endpoint | undefined => {
    const sampler = avoid.size === 0 ? all : without(avoid)
    if (sampler.size < 2) return sampler.size === 0 ? undefined : known.endpoints[sampler.at(0)]
    const random = Context.get(context, Random.Random)
    const { endpoints, views } = known
    let position = sampler.draw(random.nextDoubleUnsafe())
    let index = sampler.at(position)
    if (views === undefined) return endpoints[index]
    let first = views[index]
    if (first === undefined) return endpoints[index]
    for (let draws = 1; draws < mostDraws; draws++) {
      const weight = weights[index] ?? 0
      if (first.weight >= weight || random.nextDoubleUnsafe() * weight < first.weight) break
      position = sampler.draw(random.nextDoubleUnsafe())
      index = sampler.at(position)
      first = views[index] ?? first
    }
    const other = sampler.at(sampler.drawOther(random.nextDoubleUnsafe(), position))
    const second = views[other]
    return endpoints[second !== undefined && isBetter(second, first) ? other : index]
  }

  return make(
    (endpoints, views) => {
      const update = changed(known, endpoints, views)
      if (update === undefined) return
      known = update
      weights = fullWeights(update)
      all = new Sampler(weights)
      avoided = undefined
    },
    now,
    () => known.endpoints.length === 0 ? noEndpoints : allExcluded
  )
}
