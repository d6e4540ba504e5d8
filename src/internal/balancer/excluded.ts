/**
 * Sets of excluded endpoints. A set that excludes many endpoints can also list the eligible ones, so that a balancer
 * need not look at each endpoint to find them.
 *
 * It does not know why an endpoint is excluded.
 */

/** The empty set, for the usual case that nothing is excluded. It is recognized by its identity. */
export const noAddresses: ReadonlySet<string> = new Set()

/**
 * The key of a method that lists all addresses outside the set, in any order. The list may also contain addresses of
 * the set.
 */
export const eligibleOf: unique symbol = Symbol("effect-call/Balancer/eligibleOf")

export interface ExcludedSet extends ReadonlySet<string> {
  [eligibleOf](): Iterable<string>
}

export const listsEligible = (avoid: ReadonlySet<string>): avoid is ExcludedSet => eligibleOf in avoid
