/**
 * How a connection of a server comes to its end, where nothing breaks it before.
 *
 *     serving ──▶ leaving ──▶ lastWord ──▶ ended
 *                  │ ▲ │                   ▲ ▲
 *                  │ │ └───────────────────┘ │
 *                  ▼ │                       │
 *                 holding ──▶ closing ───────┤
 *                    │                       │
 *                    └───────────────────────┘
 */

/**
 * - `serving`: it is not to end.
 * - `leaving`: the client is to send no more requests, and has been told so if it understands. Those that come are
 *   served.
 * - `lastWord`: it has said that none follow. What it had sent before is served.
 * - `holding`: it cannot be told. Its requests are served and their answers kept back, so that callers who wait for
 *   those send no more.
 * - `closing`: what it has sent is answered, and what comes is dropped.
 * - `ended`: all that it gets was handed to the socket, and the end after it. What comes is dropped, until it closes
 *   its end.
 */
export type DrainState = "serving" | "leaving" | "lastWord" | "holding" | "closing" | "ended"

const next: { readonly [State in DrainState]: ReadonlyArray<DrainState> } = {
  serving: ["leaving"],
  leaving: ["lastWord", "holding", "ended"],
  lastWord: ["ended"],
  // One that says late that it understands is told, and goes on.
  holding: ["leaving", "closing", "ended"],
  closing: ["ended"],
  ended: []
}

export class Drain {
  private current: DrainState = "serving"

  get state(): DrainState {
    return this.current
  }

  /** Whether nothing is to be started on the connection any more, as far as its client can know. */
  get isGoingAway(): boolean {
    return this.current !== "serving"
  }

  /** Whether no further request is served: the connection ends when those that are have been answered. */
  get isLast(): boolean {
    return this.current === "lastWord" || this.current === "closing"
  }

  become(state: DrainState): void {
    const expected = next[this.current]
    if (!expected.includes(state)) {
      const states = expected.length === 0 ? "no other state" : expected.join(" or ")
      throw new Error(`a connection that is ${this.current} cannot become ${state}, expected ${states}`)
    }
    this.current = state
  }
}

/** How long before the end of the grace answers begin to be held, in milliseconds; at most half of the grace. */
const longestHold = 1000

/** When it is time to hold answers, of a server whose calls may end until `graceUntil`. */
export const holdAt = (graceUntil: number, graceMillis: number): number =>
  graceUntil - Math.min(graceMillis / 2, longestHold)
