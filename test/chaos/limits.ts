/** How long the soak waits for what is to happen, and how much may grow. */

/** In ms. All but the first are long, since the machine may have others to serve. */
export const limits = {
  /** By how much a call may be late, by a clock that leaves out what the machine has no time for. */
  slack: 2000,
  /** How long a Connection may take to close. */
  close: 5000,
  /** For how long a replica that is told to stop may take, and whatever else is to end by itself. */
  stop: 10_000,
  /** How soon a replica that is back has to have served a call of any Connection. */
  recovery: 10_000,
  /** How long a call may take when there are no more faults. */
  health: 10_000,
  /** How soon the driver has to end when it has closed everything. */
  exit: 5000,
  /** By how many bytes more may be alive at the end than after the warm-up: the account of each call takes some. */
  grownMemory: 32 * 2 ** 20,
  /** How many seconds of faults it takes until the RSS can be expected to have settled. */
  settled: 600,
  /** By which part it may grow from the third quarter of a run to its fourth. */
  grownResident: 0.15,
  /** How often it is looked whether something has come true. */
  poll: 50
}
