/**
 * What a balancer is to avoid, where that is much: it also says what is left, so that a balancer need not look at each
 * endpoint to find it.
 */

/** The empty set, for the usual case that there is nothing to avoid: it is known by its identity. */
export const nothing: ReadonlySet<string> = new Set()

/** The addresses that are not in the set, in any order; maybe some that are. */
export const freeOf: unique symbol = Symbol("effect-call/Balancer/freeOf")

export interface Avoiding extends ReadonlySet<string> {
  [freeOf](): Iterable<string>
}

export const isAvoiding = (avoid: ReadonlySet<string>): avoid is Avoiding => freeOf in avoid
