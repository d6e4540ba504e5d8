/**
 * Why a dial has not succeeded up to now. When its time is up, the caller that ends it can report the reason. This file
 * knows texts and names. It knows no dials.
 */
import * as Context from "effect/Context"
import { clip, textOf } from "../userError.ts"

/** The last problems of one dial. */
export class Obstacles {
  private readonly problems = new Map<string, unknown>()

  /** The last problem of an address, or of a name. */
  set(name: string, problem: unknown): void {
    this.problems.set(name, problem)
  }

  clear(): void {
    this.problems.clear()
  }

  /** The problems, as the end of a sentence; empty if there is none. */
  get text(): string {
    return this.problems.size === 0 ? "" : clip(` (up to now: ${[...this.problems.values()].map(textOf).join("; ")})`)
  }
}

/** The obstacles that dials of built-in endpoints write into. */
export const CurrentObstacles: Context.Reference<Obstacles> = Context.Reference<Obstacles>(
  "effect-call/internal/net/CurrentObstacles",
  // The default is never read.
  { defaultValue: () => new Obstacles() }
)
