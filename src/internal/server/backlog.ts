/**
 * What a connection does about a client that is slow to take its answers: it stops reading, stops starting calls, and
 * at last is given up.
 *
 * It brings together what waits, whether the client is read from, and how long that may last. It must not know what is
 * sent.
 */
import type { Transport } from "../transport/transport.ts"
import type { Admission, AdmittedConnection } from "./admission.ts"
import { Outbound, OutboundProgress } from "./outbound.ts"
import { Reading } from "./reading.ts"
import type { Streams } from "./streams.ts"
import { UnsentAnswers } from "./unsent.ts"

/** The connection, as its session shows it. */
export interface BacklogOwner extends AdmittedConnection {
  readonly settings: {
    readonly admission: Admission
    readonly maxUnsentBytes: number
    readonly unsentMillis: number
  }
  /** The time, in milliseconds of the clock. */
  now(): number
  /** Calls {@link Backlog.expire} at that time. */
  wake(at: number): void
  /** The client takes nothing, or not enough: `problem` says which. */
  cutOff(problem: string): void
}

/** What waits for one client, and what follows from that. */
export class Backlog {
  readonly outbound: Outbound
  private readonly owner: BacklogOwner
  private readonly transport: Transport
  private readonly unsent: UnsentAnswers
  private readonly reading = new Reading()

  constructor(owner: BacklogOwner, transport: Transport) {
    const { maxUnsentBytes, unsentMillis } = owner.settings
    this.owner = owner
    this.transport = transport
    this.outbound = new Outbound(transport.writer)
    this.unsent = new UnsentAnswers(this.outbound, this.progress(), maxUnsentBytes, unsentMillis)
  }

  /** From now on the client gets large answers in parts. */
  cutsInto(streams: Streams): void {
    this.outbound.inParts = streams
  }

  /** A watcher of what the client takes, for one user. */
  progress(): OutboundProgress {
    return new OutboundProgress(this.outbound, this.transport.progress())
  }

  /** Whether none of its calls is started. */
  get isPaused(): boolean {
    return this.reading.state !== "Reading"
  }

  /** Whether nothing is read from it. */
  get isDeaf(): boolean {
    return this.reading.state === "Paused"
  }

  /** There is no room for more in the writer. Handlers that run go on. */
  full(): void {
    const { isPaused, owner } = this
    if (!this.reading.pause()) return
    this.unsent.fill()
    this.transport.pause()
    if (!isPaused) owner.settings.admission.pause(owner)
  }

  /** An answer of this size was queued without room for it. */
  add(size: number): void {
    const { owner, unsent } = this
    if (!unsent.add(size)) return
    owner.wake(unsent.press(owner.now()))
    if (unsent.state === "CutOff") owner.cutOff(unsent.problem)
  }

  /** There is room in the writer, or nothing more is answered. Returns whether nothing was read until now. */
  room(): boolean {
    return this.reading.resume(this.holds)
  }

  /** Reads again, where {@link room} has said so. */
  resume(): void {
    const { owner } = this
    this.transport.resume()
    if (!this.isPaused) owner.settings.admission.resume(owner)
  }

  /** An answer of this size waits to be cut. What the client says is read on: it says what lets the answer leave. */
  uncut(size: number): void {
    const { outbound, owner, reading, unsent } = this
    if (outbound.uncut === 1 && reading.state === "Reading") unsent.fill()
    this.blocked()
    this.add(size)
    if (unsent.isTooMuch && reading.hold()) owner.settings.admission.pause(owner)
  }

  /** An answer in parts has left in full, or is given up. */
  cut(): void {
    const { owner } = this
    if (!this.holds && this.reading.release()) owner.settings.admission.resume(owner)
  }

  /** Something has to wait for the client. */
  blocked(): void {
    const { owner, unsent } = this
    if (unsent.needsWatch) owner.wake(unsent.watch(owner.now()))
  }

  /** Looks at what the client takes. Returns when to look again. */
  expire(now: number): number {
    const { owner, unsent } = this
    const next = unsent.expire(now)
    if (unsent.state === "CutOff") owner.cutOff(unsent.problem)
    return next
  }

  /** Whether too much waits to be cut for more calls to be started. */
  private get holds(): boolean {
    return this.outbound.uncut > 0 && this.unsent.isTooMuch
  }
}
