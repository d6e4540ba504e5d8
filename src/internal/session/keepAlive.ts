/**
 * Finds out whether a peer that has fallen silent is still there, at either end of a connection.
 *
 * It has no timer of its own: its session looks when it is told to, and else whenever it looks after its other
 * deadlines. What was read is noticed then, and not while it is read.
 */
import type * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import { millisBetween, nowTicks } from "../time/clock.ts"
import type { Progress } from "../transport/progress.ts"
import type { Writer } from "../transport/writer.ts"

/** When a silent peer is asked whether it is there, and how long it has for its answer, in milliseconds. */
export interface KeepAliveTimes {
  readonly interval: number
  readonly timeout: number
}

/** The connection to the peer, as its session shows it. */
export interface Watched {
  /** When bytes were last read, in ticks of the clock. */
  readonly readAt: number
  /** Whether nothing is read from the peer for now: it may have answered. */
  readonly isDeaf: boolean
  readonly writer: Pick<Writer, "handovers" | "handed" | "handedByRead" | "pendingBytes" | "unsentBytes">
  /** Asks the peer whether it is there: hands the question to the socket, if that takes anything. */
  ask(): void
}

/**
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
 *
 * In `Behind` the question waits for the peer with what is before it, or its answer with us, which do not read: only
 * what it takes says that it is there.
 */
export type KeepAliveState = "Heard" | "Behind" | "Asked" | "Lost"

const next: { readonly [State in KeepAliveState]: ReadonlyArray<KeepAliveState> } = {
  Heard: ["Behind", "Asked"],
  Behind: ["Heard", "Behind", "Asked", "Lost"],
  Asked: ["Heard", "Behind", "Lost"],
  Lost: []
}

/**
 * With more bytes than this in front of the question, the peer gets more time to come to it: the system may keep them
 * for long.
 */
const large = 65_536

export class KeepAlive {
  private readonly clock: Clock.Clock
  readonly times: KeepAliveTimes
  /** How long the peer may take for a large amount of bytes, in milliseconds. */
  private readonly patience: number
  /** What the peer takes: asked by nobody else. */
  private readonly progress: Pick<Progress, "look">
  state: KeepAliveState = "Heard"
  /** When the peer was last heard, in milliseconds of the clock, as far as it was looked at; and in ticks. */
  private heardAt = 0
  private heardTicks = -1
  /** When the state was entered, in milliseconds of the clock. */
  private since = 0
  /**
   * How often the socket had been handed everything before the peer was asked, and whether nothing was before the
   * question.
   */
  private handovers = 0
  private wasFirst = false
  /** How long the peer has for its answer, in milliseconds. */
  private answerTime = 0

  constructor(clock: Clock.Clock, times: KeepAliveTimes, patience: number, progress: Pick<Progress, "look">) {
    this.clock = clock
    this.times = times
    this.patience = Math.max(times.timeout, patience)
    this.progress = progress
  }

  /** Begins: the peer has just been heard. Returns when to look, in milliseconds of the clock. */
  start(now: number, peer: Watched): number {
    this.hear(now, peer)
    return now + this.times.interval
  }

  /**
   * Looks at the peer, and asks it where that is due. Returns when to look again; Infinity where the peer is `Lost`.
   *
   * By now, all that has come in has been read, also where our own event loop has stood still: that is seen to by the
   * timer.
   */
  look(now: number, peer: Watched): number {
    const { interval } = this.times
    if (this.heardTicks !== peer.readAt) this.hear(now, peer)
    if (this.state === "Heard") {
      const due = this.heardAt + interval
      if (now < due) return due
      this.ask(now, peer)
    } else if (this.state === "Behind") {
      if (this.hasLeft(peer)) this.enter("Asked", now, peer)
      else if (this.progress.look()) this.enter("Behind", now, peer)
      else if (now >= this.since + this.patience) this.enter("Lost", now, peer)
    } else if (this.state === "Asked") {
      if (peer.isDeaf) this.enter("Behind", now, peer)
      else if (now >= this.since + this.answerTime) this.enter("Lost", now, peer)
    }
    if (this.state === "Lost") return Infinity
    const due = this.since + (this.state === "Behind" ? this.patience : this.answerTime)
    // By the interval it may have answered long ago, and be silent again.
    return Math.min(due, now + interval)
  }

  /** How long the peer has said nothing, for people. */
  silence(now: number): string {
    return Duration.format(Duration.millis(Math.round(now - this.heardAt)))
  }

  private ask(now: number, peer: Watched): void {
    const { handed, handedByRead, handovers, pendingBytes, unsentBytes } = peer.writer
    this.handovers = handovers
    this.wasFirst = pendingBytes === 0
    // With what has yet to be handed to the socket.
    const before = handed - handedByRead + pendingBytes - unsentBytes
    this.answerTime = before > large ? this.patience : this.times.timeout
    peer.ask()
    this.enter(this.hasLeft(peer) ? "Asked" : "Behind", now, peer)
  }

  /** Whether the question is out of our hands, and its answer would be heard. */
  private hasLeft({ isDeaf, writer }: Watched): boolean {
    return !isDeaf && (this.wasFirst || (writer.handovers > this.handovers && writer.unsentBytes === 0))
  }

  /** Notes when something was read last: ticks tell no more than six hours apart. */
  private hear(now: number, peer: Watched): void {
    this.heardTicks = peer.readAt
    this.heardAt = now - millisBetween(peer.readAt, nowTicks(this.clock))
    if (this.state !== "Heard") this.enter("Heard", now, peer)
  }

  private enter(state: KeepAliveState, now: number, { isDeaf }: Watched): void {
    if (!next[this.state].includes(state) || (state === "Asked" && isDeaf)) {
      throw new Error(`keepAlive: ${state} after ${this.state}`)
    }
    this.state = state
    this.since = now
    // What counts is what it takes from now on.
    if (state === "Behind") this.progress.look()
  }
}
