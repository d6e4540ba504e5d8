/**
 * Checks custom balancers at the place where they enter: they may throw, or give a value that does not have its type.
 *
 * It knows no Connection: its callers decide what a defect ends.
 */
import * as Effect from "effect/Effect"
import type { Unreachable } from "../../CallError.ts"
import type { Endpoint } from "../../Endpoint.ts"
import { effectOf, unexpected } from "../guard.ts"
import type { Balancer, PickOptions } from "./model.ts"

const isBalancer = (u: unknown): u is Balancer =>
  typeof u === "object" && u !== null && "update" in u && typeof u.update === "function" && "pick" in u &&
  typeof u.pick === "function"

/** The given value, if it is a balancer. Otherwise it throws a TypeError that names the value and what was expected. */
export const checkedBalancer = (given: unknown): Balancer => {
  if (!isBalancer(given)) throw unexpected("the balancer", "an object with update and pick", given)
  // Code without types may give any value.
  const stickiness: unknown = given.stickiness
  if (stickiness !== undefined && stickiness !== "key") {
    throw unexpected("the stickiness of the balancer", `"key" or undefined`, stickiness)
  }
  return given
}

/** Runs a user's effect that makes a balancer, and checks the result. */
export const balancerOf = (make: () => Effect.Effect<Balancer>): Effect.Effect<Balancer> =>
  Effect.map(effectOf("what makes the balancer", make), checkedBalancer)

/** The pick of any balancer. If a user's `pick` throws or gives no effect, the pick dies. */
export const pickOf = (balancer: Balancer, options: PickOptions): Effect.Effect<Endpoint, Unreachable> =>
  effectOf("the pick of the balancer", () => balancer.pick(options))
