/**
 * Finds out whether a peer that has fallen silent is still there. Both ends of a connection use it.
 *
 * It must not know messages or calls, and it has no timer: its session looks at it when it has said so, and whenever
 * the session looks at its other deadlines. What was read is noticed then, and not while it is read.
 */
import type * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import { millisBetween, nowTicks } from "../time/clock.ts"
import { checkTransition, type Transitions } from "../transitions.ts"
import type { Progress } from "../transport/progress.ts"
import type { Writer } from "../transport/writer.ts"

/** How long a peer may be silent before it is asked whether it is there, and how long it has for its answer, in ms. */
export interface KeepAliveTimes {
  readonly interval: number
  readonly timeout: number
}

/** The connection, as its session shows it. */
export interface Watched {
  /** When bytes were last read, in ticks of the clock. */
  readonly readAt: number
  /** Whether nothing is read from the peer for now: it may have answered. */
  readonly isDeaf: boolean
  readonly writer: Pick<Writer, "handovers" | "handed" | "handedByRead" | "pendingBytes" | "unsentBytes">
  /** Asks the peer whether it is there: hands the question to the socket, if the socket takes anything. */
  ask(): void
}

/**
 * ```
 *                 silent for the interval: it is asked
 *        ┌───────┐ ─────────────────────────▶ ┌───────┐ ── no answer in time ──▶ ┌──────┐
 *        │ Heard │                            │ Asked │                          │ Lost │
 *        └───────┘ ◀──── any byte is read ─── └───────┘                          └──────┘
 *          │   ▲                                │   ▲                                ▲
 *          │   └──────── any byte is read ──┐   │   │ all is taken, and we read      │
 *          │                                │   ▼   │                                │
 *          └── the same, behind bytes ───▶ ┌──────────┐                              │
 *              that wait for the peer      │  Behind  │ ── none of them is taken ────┘
 *                                          └──────────┘
 *                                            │      ▲
 *                                            └──────┘ some are taken
 * ```
 * In `Behind` an answer cannot be expected: the question waits behind other bytes, or we do not read. There the peer
 * shows that it is alive only by the bytes that it takes.
 */
export type KeepAliveState = "Heard" | "Behind" | "Asked" | "Lost"

const allowed: Transitions<KeepAliveState> = {
  Heard: ["Behind", "Asked"],
  Behind: ["Heard", "Behind", "Asked", "Lost"],
  Asked: ["Heard", "Behind", "Lost"],
  Lost: []
}

/**
 * With more bytes than this before the question, the peer gets more time for its answer: the system may need long to
 * deliver them.
 */
const large = 65_536

/** Watches one peer. */
export class KeepAlive {
  private readonly clock: Clock.Clock
  readonly times: KeepAliveTimes
  /** How long the peer may take for many bytes, in milliseconds. */
  private readonly patience: number
  /** What the peer takes. Nothing else may look at it: it shows what was taken since the last look. */
  private readonly progress: Pick<Progress, "look">
  private current: KeepAliveState = "Heard"
  /** When bytes were last read, as of the last look: in milliseconds of the clock, and in ticks. */
  private heardAt = 0
  private heardTicks = -1
  /** When the state was entered, in milliseconds of the clock. */
  private since = 0
  /** How often the socket had been handed everything when the peer was asked. */
  private handovers = 0
  /** Whether nothing waited before the question. */
  private wasFirst = false
  /** How long the peer has for its answer, in milliseconds. */
  private answerTime = 0

  constructor(clock: Clock.Clock, times: KeepAliveTimes, patience: number, progress: Pick<Progress, "look">) {
    this.clock = clock
    this.times = times
    this.patience = Math.max(times.timeout, patience)
    this.progress = progress
  }

  get state(): KeepAliveState {
    return this.current
  }

  /** Begins: something was just read from the peer. Returns when to look, in milliseconds of the clock. */
  start(now: number, peer: Watched): number {
    this.hear(now, peer)
    return now + this.times.interval
  }

  /**
   * Looks at the peer, and asks it where that is due. Returns when to look again; Infinity where the peer is `Lost`.
   *
   * By now, everything that has arrived has been read, also after our own event loop was blocked: the timer waits for
   * that.
   */
  look(now: number, peer: Watched): number {
    const { interval } = this.times
    if (this.heardTicks !== peer.readAt) this.hear(now, peer)
    if (this.current === "Heard") {
      const due = this.heardAt + interval
      if (now < due) return due
      this.ask(now, peer)
    } else if (this.current === "Behind") {
      if (this.hasLeft(peer)) this.transition("Asked", now, peer)
      else if (this.progress.look()) this.transition("Behind", now, peer)
      else if (now >= this.since + this.patience) this.transition("Lost", now, peer)
    } else if (this.current === "Asked") {
      if (peer.isDeaf) this.transition("Behind", now, peer)
      else if (now >= this.since + this.answerTime) this.transition("Lost", now, peer)
    }
    if (this.current === "Lost") return Infinity
    const due = this.since + (this.current === "Behind" ? this.patience : this.answerTime)
    // Within the interval it may have answered, and become silent again.
    return Math.min(due, now + interval)
  }

  /** How long nothing was read from the peer, as a text. */
  silence(now: number): string {
    return Duration.format(Duration.millis(Math.round(now - this.heardAt)))
  }

  private ask(now: number, peer: Watched): void {
    const { handed, handedByRead, handovers, pendingBytes, unsentBytes } = peer.writer
    this.handovers = handovers
    this.wasFirst = pendingBytes === 0
    // Including what was not handed to the socket yet.
    const before = handed - handedByRead + pendingBytes - unsentBytes
    this.answerTime = before > large ? this.patience : this.times.timeout
    peer.ask()
    this.transition(this.hasLeft(peer) ? "Asked" : "Behind", now, peer)
  }

  /** Whether the question has left, and its answer would be read. */
  private hasLeft({ isDeaf, writer }: Watched): boolean {
    return !isDeaf && (this.wasFirst || (writer.handovers > this.handovers && writer.unsentBytes === 0))
  }

  /** Notes when something was read last: ticks tell no more than six hours apart. */
  private hear(now: number, peer: Watched): void {
    this.heardTicks = peer.readAt
    this.heardAt = now - millisBetween(peer.readAt, nowTicks(this.clock))
    if (this.current !== "Heard") this.transition("Heard", now, peer)
  }

  private transition(state: KeepAliveState, now: number, { isDeaf }: Watched): void {
    checkTransition("the keepalive of a connection", allowed, this.current, state)
    if (state === "Asked" && isDeaf) throw new Error("a peer is expected to answer that is not read from")
    this.current = state
    this.since = now
    // Only what it takes from now on counts.
    if (state === "Behind") this.progress.look()
  }
}
