/**
 * The writing half of a connection: it collects messages and writes them once per turn of the event loop.
 *
 * Small messages are copied into a {@link Batch}. Large payloads are queued by reference. Nothing is handed to a socket
 * that has yet to drain, so that until then a message is still ours: it can be dropped, and its deadline is written as
 * it leaves. This file knows the headers of messages, and no calls.
 */
import type { Duplex } from "node:stream"
import { headerSize, writeHeader } from "../protocol/frame.ts"
import type { Traffic } from "../telemetry/metrics.ts"
import { checkTransition, type Transitions } from "../transitions.ts"
import { attempt } from "../userError.ts"
import { acquireBatch, Batch } from "./batch.ts"
import type { Capabilities } from "./capabilities.ts"
import {
  compact,
  firstRequest,
  type LargeMessage,
  type Leaves,
  leavesLarge,
  payloadsOf,
  type Queued,
  sizeOf
} from "./queued.ts"

/** What leaves in pieces, each of which is queued when it can leave: see {@link Writer.uncut}. */
export interface Uncut {
  /** Whether no piece waits for its turn. */
  readonly isEmpty: boolean
  /** A flush begins, and the socket takes more: queues the pieces that may leave now. Returns whether more could. */
  turn(): boolean
}

/** What the owner of a writer hears, and is asked. */
export interface WriterOwner {
  /**
   * A request, or an open, leaves, whose payload starts at `payloadAt`. Writes what is only known now, the time left
   * until its deadline. Returns false where the request is not to be sent any more. It is asked about every request of
   * a batch where one of them has a deadline or was dropped.
   */
  onLeave(id: number, bytes: DataView, payloadAt: number): boolean
  /** The writer was full, and has room again. */
  onRoom(): void
  /** The turn is over: what is queued is handed to the socket now, if that takes it. */
  onFlush(): void
  /** The socket is full, and gets nothing more until it has drained. */
  onBlocked(): void
}

/**
 * ```
 *            hold
 *   ┌──────┐ ─────▶ ┌──────┐
 *   │ Open │        │ Held │   what is queued stays here
 *   └──────┘ ◀───── └──────┘
 *       │   release    │
 *       └──────┬───────┘
 *          end ▼
 *         ┌────────┐           when all is handed over, the Duplex is ended
 *         │ Ending │
 *         └────────┘
 *        close │ (also from Open and Held)
 *              ▼
 *         ┌────────┐           nothing is queued, and nothing is handed over any more
 *         │ Closed │
 *         └────────┘
 * ```
 */
export type WriterState = "Open" | "Held" | "Ending" | "Closed"

const allowed: Transitions<WriterState> = {
  Open: ["Held", "Ending", "Closed"],
  Held: ["Open", "Ending", "Closed"],
  Ending: ["Closed"],
  Closed: []
}

/**
 * When the next flush comes by itself:
 *
 * ```
 *                  a message is queued
 *   ┌─────────┐ ───────────────────────▶ ┌───────────┐
 *   │ Nothing │                          │ EndOfTurn │
 *   └─────────┘ ◀─────────────────────── └───────────┘
 *      │   ▲             flush                 │
 *      │   │ the read ends                     │
 *      ▼   │                                   │
 *   ┌───────────┐   a read begins              │
 *   │ EndOfRead │ ◀────────────────────────────┘
 *   └───────────┘
 * ```
 *
 * It is assigned where that happens, without a function that checks: each message and each read passes here.
 */
type Due = "Nothing" | "EndOfTurn" | "EndOfRead"

/**
 * How much of a large message the socket is given at a time. A socket says only of all that it was given whether it has
 * been taken, so pieces show that the peer still takes some. Where nothing else shows that, several large messages are
 * given in pieces of about this size, too.
 */
const pieceSize = 1_048_576

/** From this size on, in bytes, a batch itself may wait in a socket that has yet to drain. */
const worthKeeping = 16_384

const takenAway = (size: number): TypeError =>
  new TypeError(
    `the bytes of a message were transferred before they were sent: expected ${size} bytes or more, unchanged`
  )

/** Queues the messages of one connection and hands them to its Duplex. */
export class Writer {
  private readonly duplex: Duplex
  private readonly owner: WriterOwner
  /** Hears what the Duplex throws, which may be a user's own. */
  private readonly onBroken: (error: unknown) => void
  private readonly traffic: Traffic
  private readonly writesByReference: boolean
  private readonly showsTaken: boolean
  /** The writer is full when so many bytes wait. */
  private readonly fullAt: number
  private state: WriterState = "Open"
  private due: Due = "Nothing"
  /** Whether the socket has yet to drain. */
  private blocked = false
  /** Whether `hasRoom` has said no, and `onRoom` was not called since. */
  private wasFull = false
  private queue: Array<Queued> = []
  private current: Batch | undefined = undefined
  /** The rest of a large message that the socket was given a part of. It comes before all that is queued. */
  private rest: Uint8Array | undefined = undefined
  /** How many bytes wait here. */
  private waiting = 0
  /** How often the socket has drained, and how often it was handed all that was queued. */
  drains = 0
  handovers = 0
  /** How many bytes the socket was handed, and how many of them before the last read. */
  handed = 0
  handedByRead = 0
  /**
   * The ids of requests that are queued and must not be sent. An id is removed as its request leaves, and not all at
   * once: a caller that is resumed during a flush may drop a request of the next one.
   */
  private readonly dropped = new Set<number>()
  /** The highest id of a request that was handed to the socket, and of one that was queued. */
  private sentThrough = 0
  private queuedThrough = 0
  /** It changes with each message that is queued, and with each flush that writes. */
  mark = 0
  /** What is cut into pieces as they leave. The Duplex is not ended before that is empty. */
  uncut: Uncut | undefined = undefined

  constructor(
    duplex: Duplex,
    { showsTaken, writesByReference }: Pick<Capabilities, "showsTaken" | "writesByReference">,
    owner: WriterOwner,
    fullAt: number,
    traffic: Traffic,
    onBroken: (error: unknown) => void
  ) {
    this.duplex = duplex
    this.onBroken = onBroken
    this.fullAt = fullAt
    this.owner = owner
    this.traffic = traffic
    this.writesByReference = writesByReference
    this.showsTaken = showsTaken
    duplex.on("drain", this.onDrain)
  }

  /** Bytes that wait here and in the socket. */
  get pendingBytes(): number {
    return this.waiting + this.unsentBytes
  }

  /** Bytes that wait in the socket. */
  get unsentBytes(): number {
    try {
      const { writableLength } = this.duplex
      // A Duplex that is not Node's may have none.
      return writableLength > 0 ? writableLength : 0
    } catch (error) {
      this.onBroken(error)
      return 0
    }
  }

  /** Whether more may be queued. Where not, `onRoom` is called when there is room again. */
  hasRoom(): boolean {
    if (
      this.waiting < this.fullAt &&
      (!this.blocked || (this.pendingBytes < this.fullAt && this.state !== "Closed"))
    ) {
      return true
    }
    this.wasFull = true
    return false
  }

  /** Whether what is queued is handed to the socket at the end of this turn; `onFlush` is called then. */
  get isFlushDue(): boolean {
    return this.due !== "Nothing" && !this.blocked
  }

  /** Whether nothing waits here. The socket may still have bytes. */
  get isEmpty(): boolean {
    return this.current === undefined && this.queue.length === 0 && this.rest === undefined
  }

  /** Whether the socket has yet to drain. */
  get isBlocked(): boolean {
    return this.blocked && this.state !== "Closed"
  }

  /** Whether request `id` is still ours: queued whole, and not handed to the socket. Not for messages in parts. */
  isQueued(id: number): boolean {
    return id > this.sentThrough && id <= this.queuedThrough
  }

  /** A read begins. What is queued until it ends is flushed then. */
  beginRead(): void {
    this.due = "EndOfRead"
    this.handedByRead = this.handed
  }

  /** The read is over. A flush must follow, unless the connection is over. */
  endRead(): void {
    this.due = "Nothing"
  }

  /**
   * Makes room for `size` bytes of one message, which the caller fills in before anything else happens. Returns the
   * batch; the room is the last `size` bytes before its `length`.
   */
  reserve(size: number): Batch {
    let batch = this.current
    if (batch === undefined) {
      batch = this.current = acquireBatch(size)
      if (this.due === "Nothing") this.schedule()
    } else if (batch.length + size > batch.bytes.length) {
      this.queue.push(batch)
      batch = this.current = acquireBatch(size)
    }
    batch.length += size
    this.waiting += size
    this.mark++
    return batch
  }

  /**
   * Makes room for `size` bytes behind the message that was queued last, as `reserve` does; undefined where they do not
   * fit behind it. It is the last one while `mark` is the same.
   */
  extend(size: number): Batch | undefined {
    const { current } = this
    return current === undefined || current.length + size > current.bytes.length ? undefined : this.reserve(size)
  }

  /**
   * Queues a message whose payload's `body` is not copied: it must not change any more. `isRest` says that it is the
   * last one of a message in parts.
   */
  reference(id: number, type: number, head: Uint8Array, body: Uint8Array, isRest = false): void {
    if (this.current !== undefined) {
      this.queue.push(this.current)
      this.current = undefined
    } else if (this.due === "Nothing") {
      this.schedule()
    }
    this.queue.push({ id, type, head, body, size: body.length, isRest })
    this.waiting += head.length + body.length
    this.mark++
  }

  /** Notes that request `id`, the newest, has been queued. `isAsked`: `onLeave` must be called for it. */
  requestQueued(id: number, isAsked: boolean): void {
    this.queuedThrough = id
    if (isAsked && this.current !== undefined) this.current.hasDeadlines = true
  }

  /** Keeps request `id`, which is queued, from being sent. */
  drop(id: number): void {
    this.dropped.add(id)
  }

  /** Queues a message without a payload. */
  empty(id: number, type: number): void {
    const batch = this.reserve(headerSize)
    writeHeader(batch.view, batch.length - headerSize, id, type, 0)
  }

  /** The payloads of the requests that are queued and not dropped, by id, each a copy. */
  unsent(): Map<number, Uint8Array> {
    return payloadsOf(this.items(), this.dropped)
  }

  /** Keeps back what is queued until `release`. */
  hold(): void {
    if (this.state === "Open") this.transition("Held")
  }

  /** Hands over what was held. */
  release(): void {
    if (this.state !== "Held") return
    this.transition("Open")
    this.flush()
  }

  /** There is something to be cut: a flush comes by itself. */
  wake(): void {
    if (this.due === "Nothing") this.schedule()
  }

  /** Hands everything that waits to the socket, unless that has yet to drain. */
  readonly flush = (): void => {
    this.owner.onFlush()
    let isMore = false
    try {
      // While a flush is still due: what is cut now does not bring another one.
      if (this.uncut !== undefined && !this.blocked && this.state !== "Closed") isMore = this.uncut.turn()
      // A flush within a read does not replace the flush at its end.
      if (this.due === "EndOfTurn") this.due = "Nothing"
      if (this.blocked || this.state === "Held" || this.state === "Closed") return
      if (this.isEmpty && this.uncut === undefined) return
      this.write()
    } catch (error) {
      return this.onBroken(error)
    }
    this.tellRoom()
    this.endIfDone()
    if (isMore && !this.blocked) this.wake()
  }

  /** Ends the Duplex once everything that waits, also what was held, has been handed to it. */
  end(): void {
    if (this.state === "Open" || this.state === "Held") this.transition("Ending")
    this.flush()
    this.endIfDone()
  }

  /** Drops everything that waits, and stops for good. */
  close(): void {
    if (this.state !== "Closed") this.transition("Closed")
  }

  private transition(state: WriterState): void {
    checkTransition("the writer of a transport", allowed, this.state, state)
    this.state = state
    if (state !== "Closed") return
    attempt(() => this.duplex.off("drain", this.onDrain), undefined)
    this.queue = []
    this.current = undefined
    this.rest = undefined
    this.waiting = 0
  }

  private schedule(): void {
    this.due = "EndOfTurn"
    // Not nextTick: an answer that comes out of Effect's scheduler (setImmediate) would miss the flush and go out
    // alone.
    setImmediate(this.flush)
  }

  private write(): void {
    if (!this.writeRest()) return
    const items = this.items()
    if (items.length === 0) return
    this.queue = []
    this.current = undefined
    this.waiting = 0
    this.mark++
    this.sentThrough = this.queuedThrough
    const asks = this.dropped.size > 0
    let ready = true
    // Written one after the other, header and body took half as much again of a server's CPU at 64 KiB.
    const corked = items.length > 1 || !(items[0] instanceof Batch)
    if (corked) this.duplex.cork()
    let taken = 0
    let large = 0
    for (const item of items) {
      taken++
      if (item instanceof Batch) {
        if (asks || item.hasDeadlines) compact(item, this.leaves)
        ready = this.writeBatch(item) && ready
      } else if (leavesLarge(item, this.leaves)) {
        ready = this.writeLarge(item)
        large += item.body.length
        const hasFollowing = large >= pieceSize && taken < items.length && !this.showsTaken
        if (this.rest !== undefined || hasFollowing) {
          this.keep(items.slice(taken))
          break
        }
      }
    }
    if (corked) this.duplex.uncork()
    const isKept = this.rest !== undefined || taken < items.length
    if (!isKept) this.handovers++
    if (!ready) this.block()
    if (isKept && !this.blocked && this.due === "Nothing") this.schedule()
  }

  private writeBatch(batch: Batch): boolean {
    this.count(batch.length)
    if (batch.length === 0) {
      batch.release()
      return true
    }
    // A socket that is behind keeps what it gets. A few bytes must not keep a whole batch: with a stalled peer, batches
    // would pile up.
    if (!this.writesByReference || (batch.length < worthKeeping && this.duplex.writableLength > 0)) {
      const copy = batch.bytes.slice(0, batch.length)
      batch.release()
      return this.duplex.write(copy)
    }
    return this.duplex.write(
      batch.length === batch.bytes.length ? batch.bytes : batch.bytes.subarray(0, batch.length),
      batch.release
    )
  }

  /** Writes a large message, or its first piece; then `rest` is what follows. */
  private writeLarge({ body, head, size }: LargeMessage): boolean {
    if (body.length !== size) throw takenAway(size)
    const isCut = body.length > pieceSize
    const piece = isCut ? body.subarray(0, pieceSize) : body
    this.count(head.length + piece.length)
    this.duplex.write(head)
    const ready = this.duplex.write(piece)
    if (isCut) this.rest = body.subarray(pieceSize)
    return ready
  }

  /** Goes on with a large message. Returns whether it is done and the socket takes more. */
  private writeRest(): boolean {
    // `rest` is read anew each time: where the other end answers while it is written to, this is called from within.
    while (this.rest !== undefined) {
      if (this.rest.length === 0) throw takenAway(pieceSize)
      const piece = this.rest.subarray(0, pieceSize)
      this.rest = this.rest.length > pieceSize ? this.rest.subarray(pieceSize) : undefined
      this.waiting -= piece.length
      this.count(piece.length)
      if (!this.duplex.write(piece)) this.block()
      if (this.blocked) return false
    }
    return true
  }

  private count(size: number): void {
    this.traffic.sent += size
    this.handed += size
  }

  private block(): void {
    this.blocked = this.duplex.writableNeedDrain
    if (this.blocked) this.owner.onBlocked()
  }

  /** Keeps what the socket is not to be given yet: the rest of a message, and what follows it. */
  private keep(following: ReadonlyArray<Queued>): void {
    this.waiting += this.rest?.length ?? 0
    for (const item of following) this.waiting += sizeOf(item)
    // Requests are queued in the order of their ids. A server queues none.
    const first = this.queuedThrough === 0 ? undefined : firstRequest(following)
    if (first !== undefined) this.sentThrough = first - 1
    // Callers that were resumed meanwhile may have queued more.
    this.queue = [...following, ...this.queue]
  }

  private readonly onDrain = (): void => {
    this.blocked = false
    this.drains++
    this.flush()
    this.tellRoom()
    this.endIfDone()
  }

  private endIfDone(): void {
    if (this.state !== "Ending" || !this.isEmpty || this.uncut?.isEmpty === false) return
    try {
      this.duplex.end()
    } catch (error) {
      this.onBroken(error)
    }
  }

  private tellRoom(): void {
    // As soon as there is room, and not only once all is drained: while others keep the socket busy, it may never
    // drain.
    if (!this.wasFull || this.state === "Closed" || !this.hasRoom()) return
    this.wasFull = false
    this.owner.onRoom()
  }

  private items(): Array<Queued> {
    return this.current === undefined ? this.queue : [...this.queue, this.current]
  }

  private readonly leaves: Leaves = (id, bytes, payloadAt) =>
    !this.dropped.delete(id) && this.owner.onLeave(id, bytes, payloadAt)
}
