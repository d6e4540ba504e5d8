/**
 * Round robin by weight: an endpoint of weight w has a turn every 1/w, and the earliest turn is next. The turns of an
 * endpoint are spread evenly, so a heavy endpoint does not get its calls in a row. It does not know why an endpoint is
 * excluded.
 *
 * ```
 * weight 3   A──┼─────┼─────┼──┤   turns at 1/6, 3/6, 5/6
 * weight 1   B────────┼────────┤   at 1/2
 * weight 1   C────────┼────────┤   at 1/2; in all: A A B C A
 * ```
 */
import type { Endpoint } from "../../Endpoint.ts"
import { changed, fullWeights, nothingKnown } from "./endpoints.ts"
import { allExcluded, type ImmediateBalancer, make, noEndpoints } from "./immediate.ts"

export const weighted = (): ImmediateBalancer => {
  let known = nothingKnown
  let weights = new Float64Array(0)
  /** The time of the next turn of each endpoint. */
  let turns = new Float64Array(0)
  /** The part of a call that each endpoint has earned while it starts: it takes a turn when that reaches 1. */
  let owed = new Float64Array(0)
  /** A binary heap of the indices, by turn. */
  let heap = new Int32Array(0)
  let size = 0
  /** The time of the last turn. */
  let now = 0
  /** Excluded endpoints that are off the heap during a pick. The array is kept, so that a pick allocates no array. */
  const aside: Array<number> = []

  /**
   * Moves the index at a place down until no earlier turn is below it. If turns are equal, the lower index is first.
   */
  const sink = (place: number): void => {
    const moving = heap[place] ?? 0
    const turn = turns[moving] ?? 0
    let at = place
    while (true) {
      let child = 2 * at + 1
      if (child >= size) break
      let index = heap[child] ?? 0
      let earliest = turns[index] ?? 0
      if (child + 1 < size) {
        const other = heap[child + 1] ?? 0
        const otherTurn = turns[other] ?? 0
        if (otherTurn < earliest || (otherTurn === earliest && other < index)) {
          child++
          index = other
          earliest = otherTurn
        }
      }
      if (turn < earliest || (turn === earliest && moving < index)) break
      heap[at] = index
      at = child
    }
    heap[at] = moving
  }

  const push = (index: number): void => {
    const turn = turns[index] ?? 0
    let at = size++
    while (at > 0) {
      const parent = heap[(at - 1) >> 1] ?? 0
      const parentTurn = turns[parent] ?? 0
      if (parentTurn < turn || (parentTurn === turn && parent < index)) break
      heap[at] = parent
      at = (at - 1) >> 1
    }
    heap[at] = index
  }

  /** Whether an endpoint takes its turn. While it starts, it skips some turns. */
  const takesTurn = (index: number): boolean => {
    const weight = known.views?.[index]?.weight
    const full = weights[index] ?? 0
    if (weight === undefined || weight >= full) return true
    const due = (owed[index] ?? 0) + weight / full
    const takes = due >= 1
    owed[index] = takes ? due - 1 : due
    return takes
  }

  const next = (avoid: ReadonlySet<string>): Endpoint | undefined => {
    let skipped = 0
    while (size > 0) {
      const index = heap[0] ?? 0
      const endpoint = known.endpoints[index]
      if (endpoint === undefined) return undefined
      if (avoid.size > 0 && avoid.has(endpoint.address)) {
        aside.push(index)
        heap[0] = heap[--size] ?? 0
        sink(0)
        continue
      }
      const turn = turns[index] ?? 0
      if (turn > now) now = turn
      turns[index] = turn + 1 / (weights[index] ?? 1)
      sink(0)
      // If all of them start, none is preferred.
      if (takesTurn(index) || ++skipped > 2 * size) return endpoint
    }
    return undefined
  }

  return make(
    (endpoints, views) => {
      const update = changed(known, endpoints, views)
      if (update === undefined) return
      const before = new Map(known.endpoints.map(({ address }, index) => [address, index]))
      const oldTurns = turns
      const oldOwed = owed
      known = update
      weights = fullWeights(update)
      turns = new Float64Array(weights.length)
      owed = new Float64Array(weights.length)
      heap = new Int32Array(weights.length)
      size = 0
      update.endpoints.forEach(({ address }, index) => {
        const interval = 1 / (weights[index] ?? 1)
        const old = before.get(address)
        // A new endpoint has its first turn soon. An endpoint that has become heavier does not wait as long as with its
        // old weight.
        turns[index] = old === undefined ? now + interval / 2 : Math.min(oldTurns[old] ?? 0, now + interval)
        owed[index] = old === undefined ? 1 : oldOwed[old] ?? 0
        push(index)
      })
    },
    ({ avoid }) => {
      const endpoint = next(avoid)
      for (const index of aside) {
        // It loses its turn. So it does not get many calls in a row when it is eligible again.
        if (endpoint !== undefined) turns[index] = Math.max(turns[index] ?? 0, now + 1 / (weights[index] ?? 1))
        push(index)
      }
      aside.length = 0
      return endpoint
    },
    () => known.endpoints.length === 0 ? noEndpoints : allExcluded
  )
}
