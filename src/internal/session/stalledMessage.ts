/**
 * Decides when to refuse a peer whose message has begun to arrive and does not become complete. Both ends use it.
 *
 * It must not know what a message says, and it has no timer: its session tells it what happens, and looks at it when it
 * has said so.
 */
import * as Duration from "effect/Duration"
import { checkTransition, type Transitions } from "../transitions.ts"

/**
 * ```
 *             a part of a message is read           not whole in time
 *  ┌───────┐ ───────────────────────────▶ ┌──────────┐ ────────▶ ┌─────────┐
 *  │ Whole │                              │ Arriving │           │ Stalled │
 *  └───────┘ ◀─────────────────────────── └──────────┘           └─────────┘
 *      ▲           the rest is read         │      ▲
 *      │              nothing is read from  │      │ it is read from
 *      │              the peer for now      ▼      │ again
 *      │                                  ┌───────────┐
 *      └───────────────────────────────── │ Suspended │
 *              the rest is read           └───────────┘
 * ```
 * In `Suspended` it is not the peer's fault that the message does not become whole: its time begins anew after that.
 */
export type StalledMessageState = "Whole" | "Arriving" | "Suspended" | "Stalled"

const allowed: Transitions<StalledMessageState> = {
  // The next message may be the one that is not whole.
  Whole: ["Whole", "Arriving"],
  Arriving: ["Whole", "Arriving", "Suspended", "Stalled"],
  Suspended: ["Whole", "Arriving", "Suspended"],
  Stalled: []
}

/** The message that is not whole yet. */
export class StalledMessage {
  private readonly timeoutMillis: number
  private current: StalledMessageState = "Whole"
  /** When the message began to arrive, or was read from again, in milliseconds of the clock. */
  private since = 0

  /** `timeoutMillis` is how long a message may take to be whole, in milliseconds. */
  constructor(timeoutMillis: number) {
    this.timeoutMillis = timeoutMillis
  }

  get state(): StalledMessageState {
    return this.current
  }

  /**
   * A part of a message has come, or its peer is read from again. Returns when to look, in milliseconds of the clock.
   */
  begin(now: number): number {
    this.transition("Arriving", now)
    return now + this.timeoutMillis
  }

  /**
   * Looks at the message. `isPartial` says whether a message is not whole now; `isRead` whether its peer is read from.
   * Returns when to look again; Infinity for never. The peer must be refused if the state is `Stalled` then.
   */
  look(now: number, isPartial: boolean, isRead: boolean): number {
    if (this.current === "Stalled") return Infinity
    // What was just read may be looked at before `begin` is called.
    if (isPartial && this.current === "Whole") this.transition("Arriving", now)
    if (!isPartial) this.transition("Whole", now)
    else if (!isRead) this.transition("Suspended", now)
    else if (this.current === "Suspended") this.transition("Arriving", now)
    else if (now >= this.due) this.transition("Stalled", now)
    return this.current === "Arriving" ? this.due : Infinity
  }

  /** What is wrong with a peer that is refused, as a text. */
  get problem(): string {
    return `a message that was not whole after ${Duration.format(Duration.millis(this.timeoutMillis))}`
  }

  private get due(): number {
    return this.since + this.timeoutMillis
  }

  private transition(state: StalledMessageState, now: number): void {
    checkTransition("a message that arrives", allowed, this.current, state)
    if (state === "Stalled" && now < this.due) throw new Error("a message has stalled before its time was up")
    this.current = state
    if (state === "Arriving") this.since = now
  }
}
