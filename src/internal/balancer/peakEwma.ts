/**
 * Lowest expected latency: of two endpoints, the one that is expected to answer sooner. It does not know how the two
 * are drawn.
 */
import type { ImmediateBalancer } from "./immediate.ts"
import { type IsBetter, twoChoices } from "./twoChoices.ts"

/** In milliseconds. Pending calls must count even if the clock is too coarse to measure how long an answer took. */
const shortestLatency = 0.001

/**
 * Whether latency × (calls pending + 1) ÷ weight is less for the second endpoint.
 *
 * An endpoint that has not answered yet counts as fast as the other one while it is idle, so that it gets its share of
 * first calls. It counts as slower with each pending call: (calls pending + 1)² keeps it from being flooded.
 */
const answersSooner: IsBetter = (second, first) => {
  const firstPending = first.callsPending + 1
  const secondPending = second.callsPending + 1
  let firstLatency = first.latency
  let secondLatency = second.latency
  if (firstLatency !== undefined && firstLatency < shortestLatency) firstLatency = shortestLatency
  if (secondLatency !== undefined && secondLatency < shortestLatency) secondLatency = shortestLatency
  if (firstLatency === undefined) {
    if (secondLatency === undefined) firstLatency = secondLatency = 1
    else firstLatency = secondLatency * firstPending
  } else if (secondLatency === undefined) secondLatency = firstLatency * secondPending
  return secondLatency * secondPending * first.weight < firstLatency * firstPending * second.weight
}

export const peakEwma = (): ImmediateBalancer => twoChoices(answersSooner)
