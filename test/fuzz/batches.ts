/**
 * Cases in batches, which run at the same time, as a property that fast-check holds or makes smaller.
 */
import * as fc from "fast-check"
import { hurry, type ProcessWatch, type Target, Violation } from "./harness.ts"

/** How many cases run at the same time, at most. On average it is half as many. */
export const batchSize = 64

/** How often one counterexample is run: it may depend on what comes first. */
const tries = 20

export interface BatchOptions {
  /** How long what fails is made smaller, in milliseconds. */
  readonly shrinkTime: number
  /** Whether only the first batch is of interest: the one that a path leads to. */
  readonly first?: boolean
  readonly onBatch?: (cases: number) => void
}

/**
 * That batches of cases run without a {@link Violation}, and that the neighbours and the process have nothing to say
 * either.
 */
export const batchesOf = <Case>(
  target: Target<Case>,
  watch: ProcessWatch,
  { first = false, onBatch, shrinkTime }: BatchOptions
): fc.IAsyncProperty<[Array<Case>]> => {
  const run = async (batch: ReadonlyArray<Case>) => {
    onBatch?.(batch.length)
    await target.run(batch)
    const problem = watch.take() ?? target.neighbours.map((neighbour) => neighbour.take()).find((problem) => problem)
    if (problem !== undefined) throw new Violation(problem)
  }
  let runs = 0
  let giveUpAt = Infinity
  // The number of cases is the first thing that is made smaller.
  return fc.asyncProperty(
    fc.array(target.cases, { minLength: 1, maxLength: batchSize, size: "max" }),
    async (batch) => {
      if (performance.now() > giveUpAt || (first && runs++ > 0)) return
      try {
        for (let i = 0; i < (first ? tries : 1); i++) await run(batch)
      } catch (error) {
        giveUpAt = Math.min(giveUpAt, performance.now() + shrinkTime)
        hurry()
        throw error
      }
    }
  )
}
