/**
 * The writing half of a connection: collects messages and writes them once per turn of the event loop.
 *
 * Small messages are copied into a {@link Batch}; large payloads are queued by reference. Nothing is handed to the socket while it has
 * not yet drained what it got before, so that until then a message is still ours: it can be dropped, and the time left until its
 * deadline is written only as it leaves.
 */
import type { Duplex } from "node:stream"
import { dataView } from "../memory/bytes.ts"
import { headerSize, MessageType, readId, readLength, writeHeader } from "../protocol/frame.ts"
import type { Traffic } from "../telemetry/metrics.ts"
import { attempt } from "../userError.ts"
import { acquireBatch, Batch } from "./batch.ts"
import type { Capabilities } from "./capabilities.ts"

/** A message whose payload is not copied: `head` is its header and the copied start of the payload, `body` the rest. */
interface LargeMessage {
  readonly id: number
  readonly type: number
  readonly head: Uint8Array
  readonly body: Uint8Array
  /** The length that its header tells: bytes that are a user's may have been taken to another thread since. */
  readonly size: number
}

/** What is asked about each message as it leaves, where the writer was told to ask. */
export interface WriterOwner {
  /**
   * A request leaves whose payload starts at `payloadAt`. Writes what is only known now (the time left), and returns false where the
   * request must not be sent any more.
   */
  onLeave(id: number, bytes: DataView, payloadAt: number): boolean
  /** The writer, which was full, has room again. */
  onRoom(): void
  /** What has been queued is handed to the socket now, if it can: what comes next belongs to another turn. */
  onFlush(): void
  /** The socket has yet to drain: it is given nothing more until then. */
  onBlocked(): void
}

/**
 * The socket is given so much of a large message at a time. It only says when all that it was given has been taken, so
 * that pieces show that a peer is alive which takes a message of many of them. Where nothing else shows what it has
 * taken, several large messages are given in pieces of about this size, too.
 */
const pieceSize = 1_048_576

/** From how many bytes on a batch may wait in a socket that has yet to drain. */
const worthKeeping = 16_384

const takenAway = (size: number): TypeError =>
  new TypeError(
    `the bytes of a message were taken away before they were sent: expected ${size} or more, which stay as they are`
  )

export class Writer {
  private readonly duplex: Duplex
  private readonly owner: WriterOwner
  /** Is told where the duplex throws: it may be a user's own. */
  private readonly onBroken: (error: unknown) => void
  private readonly traffic: Traffic
  private readonly copyOnWrite: boolean
  /** Whether it is seen what the peer takes of all that the socket is given at once. */
  private readonly showsTaken: boolean
  /** How many bytes may wait before it calls itself full. */
  private readonly fullAt: number
  private queue: Array<Batch | LargeMessage> = []
  private current: Batch | undefined = undefined
  /** What the socket has yet to be given of a large message, before all that is queued. */
  private rest: Uint8Array | undefined = undefined
  private waiting = 0
  /** How often the socket has drained, and how often it has been handed all that was queued. */
  drains = 0
  handovers = 0
  /**
   * How many bytes the socket has been handed, and how many of them when something was last read: the transport notes
   * that.
   */
  handed = 0
  handedByRead = 0
  private wasFull = false
  private blocked = false
  private held = false
  private scheduled = false
  private closed = false
  private ending = false
  /** Whether the connection is inside its read callback, at whose end it flushes. */
  inRead = false
  /**
   * Ids of requests that are queued and must not be sent. Each leaves on its own: a caller that is resumed during a flush may drop a
   * request of the next one.
   */
  private readonly dropped = new Set<number>()
  /** The highest id of a request that was handed to the socket. */
  private sentThrough = 0
  private queuedThrough = 0

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
    this.copyOnWrite = !writesByReference
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
      // One that is not of Node's may not know.
      return writableLength > 0 ? writableLength : 0
    } catch (error) {
      this.onBroken(error)
      return 0
    }
  }

  /** Whether more may be queued. Where not, `onRoom` is called when there is room again. */
  hasRoom(): boolean {
    if (this.waiting < this.fullAt && (!this.blocked || (this.pendingBytes < this.fullAt && !this.closed))) {
      return true
    }
    this.wasFull = true
    return false
  }

  /** Whether what is queued is handed to the socket at the end of this turn; `onFlush` is called then. */
  get isFlushDue(): boolean {
    return (this.scheduled || this.inRead) && !this.blocked
  }

  /** Whether nothing waits in this writer (the socket may still have bytes of its own). */
  get isEmpty(): boolean {
    return this.current === undefined && this.queue.length === 0 && this.rest === undefined
  }

  /** Whether the socket has yet to drain. */
  get isBlocked(): boolean {
    return this.blocked && !this.closed
  }

  /** Whether request `id` is still ours: queued, and not handed to the socket. */
  isQueued(id: number): boolean {
    return id > this.sentThrough && id <= this.queuedThrough
  }

  /**
   * Makes room for `size` bytes of one message, which the caller fills in before anything else happens. Returns the batch; the room
   * is the last `size` bytes before its `length`.
   */
  reserve(size: number): Batch {
    let batch = this.current
    if (batch === undefined) {
      batch = this.current = acquireBatch(size)
      if (!this.scheduled && !this.inRead) this.schedule()
    } else if (batch.length + size > batch.bytes.length) {
      this.queue.push(batch)
      batch = this.current = acquireBatch(size)
    }
    batch.length += size
    this.waiting += size
    return batch
  }

  /** Queues a message whose payload's `body` is not copied: it must not change any more. */
  reference(id: number, type: number, head: Uint8Array, body: Uint8Array): void {
    if (this.current !== undefined) {
      this.queue.push(this.current)
      this.current = undefined
    } else if (!this.scheduled && !this.inRead) {
      this.schedule()
    }
    this.queue.push({ id, type, head, body, size: body.length })
    this.waiting += head.length + body.length
  }

  /** Notes that request `id`, the newest, has been queued. */
  requestQueued(id: number, hasDeadline: boolean): void {
    this.queuedThrough = id
    if (hasDeadline && this.current !== undefined) this.current.hasDeadlines = true
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
    const found = new Map<number, Uint8Array>()
    for (const item of this.items()) {
      if (item instanceof Batch) {
        this.eachMessage(item, (id, type, start, end) => {
          if (type === MessageType.request && !this.dropped.has(id)) {
            found.set(id, item.bytes.slice(start + headerSize, end))
          }
        })
      } else if (item.type === MessageType.request && !this.dropped.has(item.id)) {
        const payload = new Uint8Array(item.head.length - headerSize + item.body.length)
        payload.set(item.head.subarray(headerSize))
        payload.set(item.body, item.head.length - headerSize)
        found.set(item.id, payload)
      }
    }
    return found
  }

  /** Keeps back what is queued until `release`. */
  hold(): void {
    this.held = true
  }

  release(): void {
    if (!this.held) return
    this.held = false
    this.flush()
  }

  /** Hands everything that waits to the socket, unless it has yet to drain. */
  readonly flush = (): void => {
    this.scheduled = false
    this.owner.onFlush()
    if (this.closed || this.blocked || this.held || this.isEmpty) return
    try {
      this.write()
    } catch (error) {
      return this.onBroken(error)
    }
    this.room()
    this.endIfDone()
  }

  /** Ends the writing half once everything that waits, also what was held, has been handed to the socket. */
  end(): void {
    this.ending = true
    this.held = false
    this.flush()
    this.endIfDone()
  }

  /** Lets go of everything that waits and stops for good. */
  close(): void {
    if (this.closed) return
    this.closed = true
    attempt(() => this.duplex.off("drain", this.onDrain), undefined)
    this.queue = []
    this.current = undefined
    this.rest = undefined
    this.waiting = 0
  }

  private write(): void {
    if (!this.writeRest()) return
    const items = this.items()
    if (items.length === 0) return
    this.queue = []
    this.current = undefined
    this.waiting = 0
    this.sentThrough = this.queuedThrough
    const asks = this.dropped.size > 0
    let ready = true
    // A header that is written before its body, and not with it, takes half as much again of a server's CPU at 64 KiB.
    const corked = items.length > 1 || !(items[0] instanceof Batch)
    if (corked) this.duplex.cork()
    let taken = 0
    let large = 0
    for (const item of items) {
      taken++
      if (item instanceof Batch) {
        if (asks || item.hasDeadlines) this.compact(item)
        ready = this.writeBatch(item) && ready
      } else if (this.leaves(item)) {
        if (item.body.length !== item.size) throw takenAway(item.size)
        const isCut = item.body.length > pieceSize
        const now = isCut ? item.body.subarray(0, pieceSize) : item.body
        this.traffic.sent += item.head.length + now.length
        this.handed += item.head.length + now.length
        this.duplex.write(item.head)
        ready = this.duplex.write(now)
        large += item.body.length
        if (isCut) this.rest = item.body.subarray(pieceSize)
        if (isCut || (large >= pieceSize && taken < items.length && !this.showsTaken)) {
          this.keep(items.slice(taken))
          break
        }
      }
    }
    if (corked) this.duplex.uncork()
    const isKept = this.rest !== undefined || taken < items.length
    if (!isKept) this.handovers++
    if (!ready) this.block()
    if (isKept && !this.blocked) this.schedule()
  }

  private block(): void {
    this.blocked = this.duplex.writableNeedDrain
    if (this.blocked) this.owner.onBlocked()
  }

  private schedule(): void {
    this.scheduled = true
    // Not nextTick: an answer that comes out of Effect's scheduler (setImmediate) would miss the flush and go out alone.
    setImmediate(this.flush)
  }

  /** Keeps what the socket is not to be given yet: the rest of a message, and what follows it. */
  private keep(following: ReadonlyArray<Batch | LargeMessage>): void {
    this.waiting += this.rest?.length ?? 0
    for (const item of following) {
      this.waiting += item instanceof Batch ? item.length : item.head.length + item.body.length
    }
    // Requests are queued in the order of their ids; a server queues none.
    const first = this.queuedThrough === 0 ? undefined : this.firstRequest(following)
    if (first !== undefined) this.sentThrough = first - 1
    // Those who were resumed meanwhile may have queued more.
    this.queue = [...following, ...this.queue]
  }

  private firstRequest(items: ReadonlyArray<Batch | LargeMessage>): number | undefined {
    let first: number | undefined
    for (const item of items) {
      if (item instanceof Batch) {
        this.eachMessage(item, (id, type) => {
          if (type === MessageType.request) first ??= id
        })
      } else if (item.type === MessageType.request) {
        first = item.id
      }
      if (first !== undefined) break
    }
    return first
  }

  /** Goes on with a large message; whether it is done and the socket takes more. */
  private writeRest(): boolean {
    // Looked at anew each time: where the other end answers while it is written to, this is called again from within.
    while (this.rest !== undefined) {
      if (this.rest.length === 0) throw takenAway(pieceSize)
      const piece = this.rest.subarray(0, pieceSize)
      this.rest = this.rest.length > pieceSize ? this.rest.subarray(pieceSize) : undefined
      this.waiting -= piece.length
      this.traffic.sent += piece.length
      this.handed += piece.length
      if (!this.duplex.write(piece)) this.block()
      if (this.blocked) return false
    }
    return true
  }

  private readonly onDrain = (): void => {
    this.blocked = false
    this.drains++
    this.flush()
    this.room()
    this.endIfDone()
  }

  private endIfDone(): void {
    if (!this.ending || !this.isEmpty || this.closed) return
    try {
      this.duplex.end()
    } catch (error) {
      this.onBroken(error)
    }
  }

  private room(): void {
    // By `hasRoom`, and not only once all is drained: as long as others keep the socket busy, those who wait would never have their turn.
    if (!this.wasFull || this.closed || !this.hasRoom()) return
    this.wasFull = false
    this.owner.onRoom()
  }

  private items(): Array<Batch | LargeMessage> {
    return this.current === undefined ? this.queue : [...this.queue, this.current]
  }

  private writeBatch(batch: Batch): boolean {
    this.traffic.sent += batch.length
    this.handed += batch.length
    if (batch.length === 0) {
      batch.release()
      return true
    }
    // A socket that is behind keeps what it gets, and a few bytes must not keep a whole batch: they would pile up behind a stalled peer.
    if (this.copyOnWrite || (batch.length < worthKeeping && this.duplex.writableLength > 0)) {
      const copy = batch.bytes.slice(0, batch.length)
      batch.release()
      return this.duplex.write(copy)
    }
    return this.duplex.write(
      batch.length === batch.bytes.length ? batch.bytes : batch.bytes.subarray(0, batch.length),
      batch.release
    )
  }

  private leaves(message: LargeMessage): boolean {
    if (message.type !== MessageType.request) return true
    return !this.dropped.delete(message.id) && this.owner.onLeave(message.id, dataView(message.head), headerSize)
  }

  /** Asks about each request of a batch, and moves what is left together. */
  private compact(batch: Batch): void {
    let length = 0
    this.eachMessage(batch, (id, type, start, end) => {
      const stays = type !== MessageType.request ||
        (!this.dropped.delete(id) && this.owner.onLeave(id, batch.view, start + headerSize))
      if (!stays) return
      if (length !== start) batch.bytes.copyWithin(length, start, end)
      length += end - start
    })
    batch.length = length
  }

  private eachMessage(batch: Batch, f: (id: number, type: number, start: number, end: number) => void): void {
    let start = 0
    while (start < batch.length) {
      const end = start + headerSize + readLength(batch.bytes, start)
      f(readId(batch.bytes, start), batch.bytes[start + 8] ?? 0, start, end)
      start = end
    }
  }
}
