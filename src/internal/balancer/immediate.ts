/**
 * The immediate pick of this package's own balancers: without an Effect, so that a call on an open connection stays
 * plain code.
 *
 * It knows none of these balancers, and no Connection.
 */
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import { Unreachable } from "../../CallError.ts"
import type { Endpoint } from "../../Endpoint.ts"
import type { Balancer, EndpointView, PickOptions } from "./model.ts"

/** The key of a balancer's immediate pick. */
export const pickNow: unique symbol = Symbol("effect-call/Balancer/pickNow")

/** A balancer that can also pick without an Effect. If there is no endpoint to pick, its `pick` says why. */
export interface ImmediateBalancer extends Balancer {
  /** The endpoint for a call, or undefined if `pick` would fail. It shares its state with `pick`. */
  [pickNow](options: PickOptions, context: Context.Context<never>): Endpoint | undefined
}

/**
 * Whether a balancer can pick without an Effect. Only its own property counts: a user's object made from such a
 * balancer, by `Object.create` or a spread, may have another `pick`, which must be used. A spread does not copy the
 * property, since it is not enumerable.
 */
export const isImmediate = (balancer: Balancer): balancer is ImmediateBalancer => Object.hasOwn(balancer, pickNow)

/** Adds an immediate pick to a balancer. */
export const withPickNow = (balancer: Balancer, now: ImmediateBalancer[typeof pickNow]): ImmediateBalancer => {
  Object.defineProperty(balancer, pickNow, { value: now, enumerable: false })
  // `defineProperty` has added the property that the type requires.
  return balancer as ImmediateBalancer
}

/** Makes a balancer from its immediate pick, and from `why`, which says why there is no endpoint to pick. */
export const make = (
  update: (endpoints: ReadonlyArray<Endpoint>, views: ReadonlyArray<EndpointView> | undefined) => void,
  now: ImmediateBalancer[typeof pickNow],
  why: (options: PickOptions) => string,
  stickiness?: Balancer["stickiness"]
): ImmediateBalancer =>
  withPickNow({
    stickiness,
    update,
    pick: (options) =>
      Effect.withFiber((fiber) => {
        const endpoint = now(options, fiber.context)
        return endpoint === undefined
          ? Effect.fail(new Unreachable({ message: why(options), attempts: [] }))
          : Effect.succeed(endpoint)
      })
  }, now)

/** Why there is no endpoint to pick if no endpoint is listed. */
export const noEndpoints = "no endpoints"

/** Why there is no endpoint to pick if endpoints are listed. */
export const allExcluded = "every endpoint was tried, is in backoff or is ejected"
