/**
 * What has stood in the way of a dial up to now. Who ends it for want of time can say so: nobody else knows by then.
 */
import * as Context from "effect/Context"
import { clip, textOf } from "../userError.ts"

export class Obstacles {
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

/** The obstacles that dials of built-in endpoints write into. */
export const CurrentObstacles: Context.Reference<Obstacles> = Context.Reference<Obstacles>(
  "effect-call/internal/net/CurrentObstacles",
  // One that nobody reads.
  { defaultValue: () => new Obstacles() }
)
