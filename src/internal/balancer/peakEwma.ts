/**
 * The endpoint of two that is expected to answer sooner.
 */
import type { ImmediateBalancer } from "./immediate.ts"
import { type IsBetter, twoChoices } from "./twoChoices.ts"

/** In milliseconds. The calls that are pending have to count also where the clock cannot tell how long an answer took. */
const shortestLatency = 0.001

/**
 * Latency × (calls pending + 1) ÷ weight is less.
 *
 * One that has not answered yet is taken for as fast as the other while it is idle, so that it gets its share of first calls, and for slower
 * with each call that waits for it: (calls pending + 1)² keeps it from being flooded before anything is known of it.
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
