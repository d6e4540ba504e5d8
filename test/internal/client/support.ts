/**
 * What the bookkeeping of a client reads of a Pool, without its connections.
 */
import type { Pool } from "../../../src/internal/client/pool.ts"

interface Known {
  readonly address: string
  failureNumber: number
  failuresInARow: number
  backoffUntil: number
  isOpen: boolean
  isServing: boolean
  listed: boolean
  lastFailure: string | undefined
  priority: number
  size: number
  state: string
}

/** A pool, which is idle, and its fields to change. */
export const poolOf = (address: string, fields: Partial<Known> = {}): Pool & Known => {
  const known: Known = {
    address,
    failureNumber: 0,
    failuresInARow: 0,
    backoffUntil: 0,
    isOpen: false,
    isServing: true,
    listed: true,
    lastFailure: undefined,
    priority: 0,
    size: 1,
    state: "Idle",
    ...fields
  }
  // Nothing else of a pool is looked at.
  return known as unknown as Pool & Known
}
