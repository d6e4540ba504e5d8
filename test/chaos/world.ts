/**
 * What all parts of a soak share.
 */
import { Deferred, Effect } from "effect"
import type { Identity } from "../../examples/support/certificates.ts"
import type { Journal } from "./journal.ts"
import type { Child } from "./process.ts"
import type { Violations } from "./violations.ts"

export interface World {
  readonly seed: number
  /** Where sockets, logs, the journal and what was executed are. */
  readonly directory: string
  readonly journal: Journal
  readonly violations: Violations
  /** The process of the proxies. */
  readonly network: Child
  /** The processes that were told to stop, by their numbers: their streams may end since they leave. */
  readonly stopped: Set<number>
  readonly certificates: { readonly ca: string; readonly server: Identity; readonly client: Identity }
}

/** Work that goes on until it is told to end. */
export class Phase {
  isOver = false
  private readonly over = Deferred.makeUnsafe<void>()

  /** Waits for so many ms, or until it is over. */
  pause(millis: number): Effect.Effect<void> {
    return Effect.raceFirst(Effect.sleep(millis), Deferred.await(this.over))
  }

  readonly end: Effect.Effect<void> = Effect.sync(() => {
    this.isOver = true
    Deferred.doneUnsafe(this.over, Effect.void)
  })
}
