/**
 * The endpoint with fewer calls pending of two.
 */
import type { ImmediateBalancer } from "./immediate.ts"
import { type IsBetter, twoChoices } from "./twoChoices.ts"

/**
 * The second has less to do for its weight, and has no more than the first would have with the call. Of two that weigh the same either says
 * the other; a light one that is idle would otherwise be preferred to a heavy one that is nearly so.
 */
const hasLessToDo: IsBetter = (second, first) => {
  const secondWeight = second.weight
  const firstWeight = first.weight
  return secondWeight < firstWeight
    ? (second.callsPending + 1) * firstWeight < (first.callsPending + 1) * secondWeight
    : second.callsPending * firstWeight < first.callsPending * secondWeight
}

export const leastPending = (): ImmediateBalancer => twoChoices(hasLessToDo)
