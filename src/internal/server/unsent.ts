/**
 * Decides when to cut off a client that does not take its answers. Handlers that run already make their answers however
 * much waits for the client, so a client that requests much and takes nothing would keep all of it in memory.
 *
 * It must not know answers, only how many bytes wait. It has no timer: its session looks at it when it has said so.
 */
import * as Duration from "effect/Duration"
import { checkTransition, type Transitions } from "../transitions.ts"
import type { Progress } from "../transport/progress.ts"
import type { Outbound } from "./outbound.ts"

/**
 * When so many times `maxUnsentBytes` of answers wait, the client has to take some before as many again wait.
 */
const most = 16

/**
 * How long the client may take nothing then, in milliseconds. Many handlers may end together, and no client takes all
 * of their answers at once.
 */
const shortPatience = 2000

/** How many times we look whether a client takes anything, within the time in which it may take nothing. */
const looks = 4

/**
 * ```
 *          the socket is behind           more than 16 × maxUnsentBytes wait
 *  ┌──────┐ ───────────────▶ ┌────────┐ ───────────────────────────▶ ┌──────────┐
 *  │ Free │                  │ Behind │                              │ Too much │
 *  └──────┘ ◀─────────────── └────────┘ ◀─────────────────────────── └──────────┘
 *      ▲    it has taken all      │        it has taken some of that     │   │
 *      └──────────────────────────│──────────────────────────────────────┘   │
 *                                 ▼                                          │
 *                            ┌─────────┐                                     │
 *                            │ Cut off │ ◀───────────────────────────────────┘
 *                            └─────────┘
 *            it has taken nothing within unsentTimeout; or, where it is too much, nothing within
 *            2 seconds, nothing while as much again came, or not enough within unsentTimeout
 * ```
 */
export type UnsentState = "Free" | "Behind" | "TooMuch" | "CutOff"

const allowed: Transitions<UnsentState> = {
  Free: ["Behind", "TooMuch"],
  Behind: ["Free", "TooMuch", "CutOff"],
  TooMuch: ["Free", "Behind", "CutOff"],
  CutOff: []
}

/** What waits for one client. */
export class UnsentAnswers {
  private current: UnsentState = "Free"
  private readonly outbound: Pick<Outbound, "pendingBytes" | "isBlocked">
  private readonly progress: Pick<Progress, "look">
  private readonly timeoutMillis: number
  /** How many bytes of answers may wait, the largest not counted. */
  private readonly maxBytes: number
  /** When we last saw that the client took something, or when its state began, in milliseconds of the clock. */
  private takenAt = 0
  /** When it became too much, in milliseconds of the clock. */
  private since = 0
  /** How many bytes may wait before we look whether the client takes any. */
  private allowed = 0
  /** The size of the largest answer since there was last room. A single answer may be larger than all that may wait. */
  private largest = 0

  /** `progress` is what the client takes. Nothing else may look at it: it shows what was taken since the last look. */
  constructor(
    outbound: Pick<Outbound, "pendingBytes" | "isBlocked">,
    progress: Pick<Progress, "look">,
    maxUnsentBytes: number,
    timeoutMillis: number
  ) {
    this.outbound = outbound
    this.progress = progress
    this.maxBytes = most * maxUnsentBytes
    this.allowed = this.maxBytes
    this.timeoutMillis = timeoutMillis
  }

  get state(): UnsentState {
    return this.current
  }

  /** Whether to call {@link watch}, now that the socket is behind. */
  get needsWatch(): boolean {
    return this.current === "Free" && this.timeoutMillis !== Infinity
  }

  /** The socket is behind. Returns when to look, in milliseconds of the clock. */
  watch(now: number): number {
    return this.begin("Behind", now)
  }

  /** There was room until now. */
  fill(): void {
    this.largest = 0
  }

  /** An answer of this size was queued without room for it. Returns whether to call {@link press}. */
  add(size: number): boolean {
    if (size > this.largest) this.largest = size
    return this.current !== "CutOff" && this.excess > this.allowed
  }

  /**
   * Too much waits, or as much again. Returns when to look again. The client must be cut off if the state is `CutOff`
   * then.
   */
  press(now: number): number {
    this.allowed = this.excess + this.maxBytes
    if (this.current !== "TooMuch") {
      this.since = now
      return this.begin("TooMuch", now)
    }
    if (!this.progress.look()) this.transition("CutOff")
    else this.takenAt = now
    return Infinity
  }

  /**
   * Looks. Returns when to look again; Infinity for never. The client must be cut off if the state is `CutOff` then.
   */
  expire(now: number): number {
    if (this.current === "Free" || this.current === "CutOff") return Infinity
    if (!this.outbound.isBlocked) {
      this.transition("Free")
      return Infinity
    }
    if (this.progress.look()) this.takenAt = now
    if (this.current === "TooMuch" && this.excess <= this.maxBytes) this.transition("Behind")
    const due = this.due
    if (due > now) return Math.min(due, now + this.patience / looks)
    this.transition("CutOff")
    return Infinity
  }

  /** What is wrong with a client that is cut off, as a text. */
  get problem(): string {
    const { pendingBytes } = this.outbound
    if (this.excess <= this.maxBytes) {
      return `took nothing of ${pendingBytes} bytes of its answers within ${
        Duration.format(Duration.millis(this.timeoutMillis))
      }`
    }
    const expected = `expected at most ${this.maxBytes} (${most} times maxUnsentBytes) and the largest`
    return `did not take its answers: ${pendingBytes} bytes of them wait, ${expected}`
  }

  /** Whether so much waits that the client has to take some of it, the largest answer not counted. */
  get isTooMuch(): boolean {
    return this.excess > this.maxBytes
  }

  /** How many bytes wait, the largest answer not counted. */
  private get excess(): number {
    return this.outbound.pendingBytes - this.largest
  }

  /** How long the client may take nothing now, in milliseconds. */
  private get patience(): number {
    return this.current === "TooMuch" ? Math.min(shortPatience, this.timeoutMillis) : this.timeoutMillis
  }

  private get due(): number {
    const due = this.takenAt + this.patience
    return this.current === "TooMuch" ? Math.min(due, this.since + this.timeoutMillis) : due
  }

  private begin(state: "Behind" | "TooMuch", now: number): number {
    this.transition(state)
    this.takenAt = now
    this.progress.look()
    return now + this.patience / looks
  }

  private transition(state: UnsentState): void {
    checkTransition("the unsent answers of a client", allowed, this.current, state)
    this.current = state
    if (state === "Free" || state === "Behind") this.allowed = this.maxBytes
  }
}
