/**
 * What must not happen, and how often it did.
 */

/** All that is checked. */
export const checks = {
  wrongAnswers: "wrong answers, and errors that cannot be",
  endedTwice: "calls that ended twice",
  neverEnded: "calls that did not end in time",
  notCounted: "calls that the client's metrics count more or less than once",
  executedAfterAll: "calls that were executed, though their error says they were not",
  executedTwice: "calls that were executed more than once",
  answeredUnexecuted: "calls that were answered, and were not executed",
  inFlightLeft: "calls and streams that Connections still count when all have ended",
  handlersLeft: "handlers left running",
  socketsLeft: "sockets left in replicas",
  replicaMemory: "growth of what is alive in replicas",
  notStopped: "replicas that did not stop by themselves",
  notUsedAgain: "replicas that were not used again once they were back",
  failedWhenHealed: "calls that failed when there were no more faults",
  slowCloses: "Connections that did not close in time",
  resourcesLeft: "sockets, timers and others left in the driver",
  fibersLeft: "fibers left in the driver",
  memoryGrew: "growth of what is alive in the driver",
  residentGrew: "growth of the driver's RSS over the last half of a long run",
  didNotExit: "drivers that did not end by themselves",
  broken: "failures of the soak itself"
} as const

export type Check = keyof typeof checks

export interface Violation {
  readonly check: Check
  readonly text: string
  /** The call that it is about. */
  readonly id?: number
}

/** So many of a kind are told; the others are only counted. */
const mostTold = 10

export class Violations {
  private readonly counts = new Map<Check, number>()
  /** The first ones of each kind. */
  readonly told: Array<Violation> = []
  private readonly onViolation: (violation: Violation) => void

  constructor(onViolation: (violation: Violation) => void = () => {}) {
    this.onViolation = onViolation
  }

  add(check: Check, text: string, id?: number): void {
    const count = this.of(check) + 1
    this.counts.set(check, count)
    if (count > mostTold) return
    const violation = id === undefined ? { check, text } : { check, text, id }
    this.told.push(violation)
    this.onViolation(violation)
  }

  of(check: Check): number {
    return this.counts.get(check) ?? 0
  }

  get total(): number {
    let total = 0
    for (const count of this.counts.values()) total += count
    return total
  }
}
