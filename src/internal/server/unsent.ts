/**
 * Whether a client takes its answers. Those of the handlers that run already are made however much waits for it, so that one that asks for
 * much and takes nothing would keep all of it in memory.
 */
import type { Duplex } from "node:stream"
import { Progress } from "../transport/progress.ts"
import type { Writer } from "../transport/writer.ts"

/** Past so many times `maxUnsentBytes` of answers a connection is given up. */
const most = 16

/** How often it is looked whether a client takes anything, within the time that it may take nothing. */
const looks = 4

export class UnsentAnswers {
  private readonly writer: Writer
  private readonly progress: Progress
  private readonly maxBytes: number
  private readonly timeoutMillis: number
  private watching = false
  /** When the client was last seen to have taken something, or the socket to be behind, in milliseconds of the clock. */
  private takenAt = 0
  /** The size of the largest answer since there was last room. */
  private largest = 0

  constructor(duplex: Duplex, writer: Writer, maxUnsentBytes: number, timeoutMillis: number) {
    this.writer = writer
    this.progress = new Progress(duplex, writer)
    this.maxBytes = most * maxUnsentBytes
    this.timeoutMillis = timeoutMillis
  }

  /** Whether nobody looks yet. */
  get needsWatch(): boolean {
    return !this.watching && this.timeoutMillis !== Infinity
  }

  /** The client's socket is behind: from now on it is looked at, until it no longer is. Returns when to look again. */
  watch(now: number): number {
    this.watching = true
    this.takenAt = now
    this.progress.look()
    return now + this.timeoutMillis / looks
  }

  /** Returns when to look again: a moment that has passed where the client's time is up. */
  expire(now: number): number {
    if (!this.watching) return Infinity
    if (!this.writer.isBlocked) {
      this.watching = false
      return Infinity
    }
    if (this.progress.look()) this.takenAt = now
    const due = this.takenAt + this.timeoutMillis
    return due <= now ? due : Math.min(due, now + this.timeoutMillis / looks)
  }

  /** There was room until now. */
  begin(): void {
    this.largest = 0
  }

  /**
   * Whether too much waits, now that an answer of this size was queued. A single one may be larger than what may wait in
   * all, so that the largest does not count.
   */
  isTooMuch(size: number): boolean {
    if (size > this.largest) this.largest = size
    return this.writer.pendingBytes - this.largest > this.maxBytes
  }
}
