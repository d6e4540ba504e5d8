/**
 * Whether a client takes its answers. Those of the handlers that run already are made however much waits for it, so
 * that one that asks for much and takes nothing would keep all of it in memory.
 */
import * as Duration from "effect/Duration"
import type { Progress } from "../transport/progress.ts"
import type { Writer } from "../transport/writer.ts"

/**
 * Past so many times `maxUnsentBytes` of answers a client has to take them: as many again may come while it takes
 * nothing.
 */
const most = 16

/**
 * How long it may take nothing then, in milliseconds: many handlers may end together, and no client takes all of that
 * at once.
 */
const shortPatience = 2000

/** How often it is looked whether a client takes anything, within the time that it may take nothing. */
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

const next: { readonly [State in UnsentState]: ReadonlyArray<UnsentState> } = {
  Free: ["Behind", "TooMuch"],
  Behind: ["Free", "TooMuch", "CutOff"],
  TooMuch: ["Free", "Behind", "CutOff"],
  CutOff: []
}

export class UnsentAnswers {
  state: UnsentState = "Free"
  private readonly writer: Pick<Writer, "pendingBytes" | "isBlocked">
  private readonly progress: Pick<Progress, "look">
  private readonly timeoutMillis: number
  /** How many bytes of answers may wait beside the largest. */
  private readonly maxBytes: number
  /** When the client was last seen to have taken something, or began not to, in milliseconds of the clock. */
  private takenAt = 0
  /** When it came to be too much, in milliseconds of the clock. */
  private since = 0
  /** How many bytes may wait until it is looked whether the client takes any. */
  private allowed = 0
  /** The size of the largest answer since there was last room: a single one may be larger than what may wait in all. */
  private largest = 0

  /** `progress` is what the client takes: asked by nobody else. */
  constructor(
    writer: Pick<Writer, "pendingBytes" | "isBlocked">,
    progress: Pick<Progress, "look">,
    maxUnsentBytes: number,
    timeoutMillis: number
  ) {
    this.writer = writer
    this.progress = progress
    this.maxBytes = most * maxUnsentBytes
    this.allowed = this.maxBytes
    this.timeoutMillis = timeoutMillis
  }

  /** Whether {@link watch} is to be called, now that the socket is behind. */
  get needsWatch(): boolean {
    return this.state === "Free" && this.timeoutMillis !== Infinity
  }

  /** The socket is behind: from now on it is looked at. Returns when to look again. */
  watch(now: number): number {
    return this.begin("Behind", now)
  }

  /** There was room until now. */
  fill(): void {
    this.largest = 0
  }

  /** An answer of this size was queued, for which there was no room. Says whether {@link press} is to be called. */
  add(size: number): boolean {
    if (size > this.largest) this.largest = size
    return this.state !== "CutOff" && this.excess > this.allowed
  }

  /** It is too much, or as much again. Returns when to look again; Infinity where the client is to be cut off. */
  press(now: number): number {
    this.allowed = this.excess + this.maxBytes
    if (this.state !== "TooMuch") {
      this.since = now
      return this.begin("TooMuch", now)
    }
    if (!this.progress.look()) this.become("CutOff")
    else this.takenAt = now
    return Infinity
  }

  /** Returns when to look again; Infinity where that is not needed, or the client is to be cut off. */
  expire(now: number): number {
    if (this.state === "Free" || this.state === "CutOff") return Infinity
    if (!this.writer.isBlocked) {
      this.become("Free")
      return Infinity
    }
    if (this.progress.look()) this.takenAt = now
    if (this.state === "TooMuch" && this.excess <= this.maxBytes) this.become("Behind")
    const due = this.due
    if (due > now) return Math.min(due, now + this.patience / looks)
    this.become("CutOff")
    return Infinity
  }

  /** What is wrong with a client that is cut off. */
  get problem(): string {
    const { pendingBytes } = this.writer
    if (this.excess <= this.maxBytes) {
      return `took nothing of ${pendingBytes} bytes of its answers within ${
        Duration.format(Duration.millis(this.timeoutMillis))
      }`
    }
    const expected = `expected at most ${this.maxBytes} (${most} times maxUnsentBytes) and the largest`
    return `did not take its answers: ${pendingBytes} bytes of them wait, ${expected}`
  }

  /** How many bytes wait beside the largest answer. */
  private get excess(): number {
    return this.writer.pendingBytes - this.largest
  }

  /** How long it may take nothing now, in milliseconds. */
  private get patience(): number {
    return this.state === "TooMuch" ? Math.min(shortPatience, this.timeoutMillis) : this.timeoutMillis
  }

  private get due(): number {
    const due = this.takenAt + this.patience
    return this.state === "TooMuch" ? Math.min(due, this.since + this.timeoutMillis) : due
  }

  private begin(state: "Behind" | "TooMuch", now: number): number {
    this.become(state)
    this.takenAt = now
    this.progress.look()
    return now + this.patience / looks
  }

  private become(state: UnsentState): void {
    const expected = next[this.state]
    if (!expected.includes(state)) {
      throw new Error(
        `what a client takes is ${this.state} and cannot become ${state}, expected ${expected.join(" or ")}`
      )
    }
    this.state = state
    if (state === "Free" || state === "Behind") this.allowed = this.maxBytes
  }
}
