/**
 * Whether a client's requests are read, and whether its calls are started. They are not while the client does not take
 * its answers, since each call makes one more.
 *
 * It is one decision of a session's, with a name. It must not know what waits, nor how reading stops.
 */
import { checkTransition, type Transitions } from "../transitions.ts"

/**
 * ```
 *                  too much waits in parts
 *  ┌─────────┐ ──────────────────────────────▶ ┌─────────┐
 *  │ Reading │                                 │ Holding │
 *  └─────────┘ ◀────────────────────────────── └─────────┘
 *      │  ▲             no longer                │     ▲
 *      │  │ there is room again, or              │     │ there is room, but still
 *      │  │ nothing more is answered             │     │ too much waits in parts
 *      ▼  │          more waits in the           ▼     │
 *  ┌────────────────────────────────────────────────────┐
 *  │ Paused         writer than maxUnsentBytes          │
 *  └────────────────────────────────────────────────────┘
 * ```
 * - `Reading`: its requests are read, and its calls are started.
 * - `Holding`: all is read, but no call is started: what it says of streams and of parts must not wait.
 * - `Paused`: nothing is read, and no call is started.
 */
export type ReadingState = "Reading" | "Holding" | "Paused"

const allowed: Transitions<ReadingState> = {
  Reading: ["Holding", "Paused"],
  Holding: ["Reading", "Paused"],
  Paused: ["Reading", "Holding"]
}

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

  /** Reads again, and starts calls unless `holds`. Returns whether it did not read until now. */
  resume(holds: boolean): boolean {
    if (this.current !== "Paused") return false
    this.transition(holds ? "Holding" : "Reading")
    return true
  }

  /** Starts no more calls. Returns whether it did until now. */
  hold(): boolean {
    if (this.current !== "Reading") return false
    this.transition("Holding")
    return true
  }

  /** Starts calls again. Returns whether it read and did not until now. */
  release(): boolean {
    if (this.current !== "Holding") return false
    this.transition("Reading")
    return true
  }

  private transition(state: ReadingState): void {
    checkTransition("the reading of a connection", allowed, this.current, state)
    this.current = state
  }
}
