/**
 * Whether a client's requests are read. They are not while the client does not take its answers, since each request
 * makes one more.
 *
 * It is one decision of a session's, with a name. It must not know what waits, nor how reading stops.
 */
import { checkTransition, type Transitions } from "../transitions.ts"

/**
 * ```
 *  ┌─────────┐  more answers wait than maxUnsentBytes   ┌────────┐
 *  │ Reading │ ───────────────────────────────────────▶ │ Paused │
 *  └─────────┘ ◀─────────────────────────────────────── └────────┘
 *         there is room again, or nothing more is answered
 * ```
 */
export type ReadingState = "Reading" | "Paused"

const allowed: Transitions<ReadingState> = { Reading: ["Paused"], Paused: ["Reading"] }

/** Whether one client's requests are read. */
export class Reading {
  private current: ReadingState = "Reading"

  get state(): ReadingState {
    return this.current
  }

  /** Reads no more. Returns whether it did until now. */
  pause(): boolean {
    if (this.current === "Paused") return false
    this.transition("Paused")
    return true
  }

  /** Reads again. Returns whether it did not until now. */
  resume(): boolean {
    if (this.current === "Reading") return false
    this.transition("Reading")
    return true
  }

  private transition(state: ReadingState): void {
    checkTransition("the reading of a connection", allowed, this.current, state)
    this.current = state
  }
}
