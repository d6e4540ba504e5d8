/**
 * What waits for one client: what is queued in its writer, and what has yet to be cut from answers in parts.
 *
 * It only adds them up. It must not know what they say.
 */
import type { Progress } from "../transport/progress.ts"
import type { Writer } from "../transport/writer.ts"
import type { Streams } from "./streams.ts"

/** What a client that knows streams is to get in parts, and what it has read of them. */
type InParts = Pick<Streams, "landed"> & { readonly answers: Pick<Streams["answers"], "unsentBytes" | "size"> }

/** What waits for one client. */
export class Outbound {
  private readonly writer: Pick<Writer, "pendingBytes" | "isBlocked">
  /** Undefined where the client does not know parts. */
  inParts: InParts | undefined = undefined

  constructor(writer: Pick<Writer, "pendingBytes" | "isBlocked">) {
    this.writer = writer
  }

  /** How many bytes wait. */
  get pendingBytes(): number {
    return this.writer.pendingBytes + this.uncutBytes
  }

  /** Whether the client has to take something before all has left. */
  get isBlocked(): boolean {
    return this.writer.isBlocked || this.uncutBytes > 0
  }

  /** How much of items and parts the client has read: what of them is in flight may not show in its socket. */
  get landed(): number {
    return this.inParts === undefined ? 0 : this.inParts.landed
  }

  /** Whether the socket takes everything, and what waits can only be cut when the client has read what is in flight. */
  get isHeldBack(): boolean {
    return !this.writer.isBlocked && this.uncutBytes > 0
  }

  /** How many answers have yet to be cut. */
  get uncut(): number {
    return this.inParts === undefined ? 0 : this.inParts.answers.size
  }

  private get uncutBytes(): number {
    return this.inParts === undefined ? 0 : this.inParts.answers.unsentBytes
  }
}

/** Watches what a client takes, for one user, as {@link Progress} does for its socket. */
export class OutboundProgress {
  private readonly outbound: Pick<Outbound, "landed" | "isHeldBack">
  private readonly progress: Pick<Progress, "look" | "forget">
  private landed = 0

  constructor(outbound: Pick<Outbound, "landed" | "isHeldBack">, progress: Pick<Progress, "look" | "forget">) {
    this.outbound = outbound
    this.progress = progress
  }

  forget(): void {
    this.landed = -1
    this.progress.forget()
  }

  look(): boolean {
    const { isHeldBack, landed } = this.outbound
    const hasLanded = landed !== this.landed
    this.landed = landed
    // Each remembers its own. A socket that takes whatever small message comes shows nothing of a client that does not
    // say what it has read.
    return (this.progress.look() && !isHeldBack) || hasLanded
  }
}
