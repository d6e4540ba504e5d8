/**
 * Least pending calls: of two endpoints, the one with fewer calls pending for its weight. It does not know how the two
 * are drawn.
 */
import type { ImmediateBalancer } from "./immediate.ts"
import { type IsBetter, twoChoices } from "./twoChoices.ts"

/**
 * Whether the second endpoint has fewer calls pending for its weight. If it is the lighter one, the new call is
 * included: an idle light endpoint is not better than a heavy one that is nearly idle. For equal weights both
 * conditions are the same.
 */
const hasLessToDo: IsBetter = (second, first) => {
  const secondWeight = second.weight
  const firstWeight = first.weight
  return secondWeight < firstWeight
    ? (second.callsPending + 1) * firstWeight < (first.callsPending + 1) * secondWeight
    : second.callsPending * firstWeight < first.callsPending * secondWeight
}

export const leastPending = (): ImmediateBalancer => twoChoices(hasLessToDo)
