/**
 * Decides what is worth a warning about an endpoint that is in trouble: one warning for as long as it is down.
 *
 * It must not know how an endpoint is dialed, and it logs nothing.
 */
import { checkTransition, type Transitions } from "../transitions.ts"
import { lostTogether } from "./dialing.ts"

/**
 * After a server has said that it goes away, it may be restarting: that it cannot be reached is no news for this long,
 * in milliseconds.
 */
const absence = 10_000

/**
 * ```
 *        ┌──────┐  a server says that it goes away   ┌─────────┐
 *   ───▶ │ Fine │ ─────────────────────────────────▶ │ Leaving │
 *        └──────┘ ◀───────── it connects ─────────── └─────────┘
 *          │  ▲                                         │
 *          │  │ it connects     a connection is lost,   │
 *          │  └──────────────┐  or a dial fails and     │
 *          │                 │  the absence is over     ▼
 *          │                 └─────────────────────── ┌──────┐
 *          └────────────────────────────────────────▶ │ Down │
 *             a dial fails, or a connection is lost   └──────┘
 * ```
 * The step to `Down` is a warning. What fails in `Down` or, for the time of the absence, in `Leaving` is no news.
 * Connections that are lost together are one warning, in every state.
 */
export type TroubleState = "Fine" | "Leaving" | "Down"

const allowed: Transitions<TroubleState> = {
  Fine: ["Fine", "Leaving", "Down"],
  Leaving: ["Fine", "Leaving", "Down"],
  Down: ["Fine", "Down"]
}

/** Decides for one endpoint whether a failure is worth a warning. */
export class Trouble {
  private current: TroubleState = "Fine"
  /** Until when its absence is no news, in milliseconds of the clock: there iff `Leaving`. */
  private absentUntil = 0
  /** Until when another loss is no news, in milliseconds of the clock. */
  private lossKnownUntil = 0

  get state(): TroubleState {
    return this.current
  }

  /** A connection is open. */
  connected(): void {
    this.lossKnownUntil = 0
    this.transition("Fine", 0)
  }

  /** A server says that it goes away. */
  goesAway(now: number): void {
    if (this.current !== "Down") this.transition("Leaving", now + absence)
  }

  /** A dial was cut short, and is repeated. */
  cutShort(): void {
    this.lossKnownUntil = 0
  }

  /** A dial has failed. Says whether that is news. */
  dialFailed(now: number): boolean {
    this.lossKnownUntil = 0
    if (this.current === "Down" || now < this.absentUntil) return false
    this.transition("Down", 0)
    return true
  }

  /** A connection was lost. Says whether that is news. */
  lost(now: number): boolean {
    const isNews = now >= this.lossKnownUntil
    this.lossKnownUntil = now + lostTogether
    this.transition("Down", 0)
    return isNews
  }

  private transition(state: TroubleState, absentUntil: number): void {
    checkTransition("the trouble of an endpoint", allowed, this.current, state)
    if ((state === "Leaving") !== (absentUntil > 0)) throw new Error(`trouble: ${state} until ${absentUntil}`)
    this.current = state
    this.absentUntil = absentUntil
  }
}
