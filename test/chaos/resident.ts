/**
 * What the driver has of the machine's memory (RSS) as a run goes on, and whether that settles.
 */
import { median } from "../benchmark/support.ts"

/** The RSS of a process, looked at regularly. */
export class Resident {
  private readonly samples: Array<number> = []

  /** Notes what it is now, in bytes. */
  add(bytes: number): void {
    this.samples.push(bytes)
  }

  /** The median of each eighth of the run, in bytes. */
  get eighths(): ReadonlyArray<number> {
    const { length } = this.samples
    return Array.from(
      { length: 8 },
      (_, part) => median(this.samples.slice(Math.floor(part * length / 8), Math.floor((part + 1) * length / 8)))
    )
  }

  /**
   * By which part of what it was it has grown over the last half of the run: from its third quarter to its fourth, by
   * their medians.
   */
  get growth(): number {
    const { length } = this.samples
    const quarter = (part: number) => median(this.samples.slice(Math.floor(part * length / 4), (part + 1) * length / 4))
    return quarter(3) / quarter(2) - 1
  }
}
