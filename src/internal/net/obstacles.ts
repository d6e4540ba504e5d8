/**
 * What has stood in the way of a dial up to now. Who ends it for want of time can say so: nobody else knows by then.
 */
import * as Context from "effect/Context"
import { clip, textOf } from "../userError.ts"

export class Progress {
  private readonly problems = new Map<string, unknown>()

  /** The last problem of an address, or of a name. */
  set(name: string, problem: unknown): void {
    this.problems.set(name, problem)
  }

  clear(): void {
    this.problems.clear()
  }

  /** The problems, as the end of a sentence; empty where there is none. */
  get text(): string {
    return this.problems.size === 0 ? "" : clip(` (up to now: ${[...this.problems.values()].map(textOf).join("; ")})`)
  }
}

/** The progress that dials of built-in endpoints write into. */
export const CurrentProgress: Context.Reference<Progress> = Context.Reference<Progress>(
  "effect-call/internal/net/CurrentProgress",
  // One that nobody reads.
  { defaultValue: () => new Progress() }
)
