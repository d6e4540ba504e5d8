/**
 * The messages of items and parts of one connection: when they leave, and how many bytes of them are in flight.
 *
 * In flight is what was queued here and what the peer's socket loop has not yet read. The peer says what it has read,
 * whether or not it was consumed, so that streams cannot wait for each other. While less than a limit is in flight,
 * those that have something to send take turns. So small messages overtake them, and none holds up another.
 *
 * It knows turns and bytes. What is sent is up to each {@link Cut}.
 *
 * This is the hot path, so it is plain synchronous code.
 */
import { dataView } from "../memory/bytes.ts"
import { headerSize, MessageType, writeHeader } from "../protocol/frame.ts"
import { goesOn, itemPrefix, pieceHead } from "../protocol/items.ts"
import type { Batch } from "../transport/batch.ts"
import type { Uncut, Writer } from "../transport/writer.ts"
import type { Cut } from "./cut.ts"
import type { Messages } from "./messages.ts"
import { Underway } from "./underway.ts"

/**
 * A message is begun while fewer bytes than this are in flight. With 64 streams at full speed, 256 KiB gave 2.6 million
 * items of 16 B a second, and a call beside them took 3.7 ms; without a limit it was 1.9 million and 22 ms.
 */
const mostInFlight = 262_144

/** The peer is told what was read when it is so much, in bytes. */
const tellAfter = 65_536

/** How much of one {@link Cut} leaves in its turn, and how large a message of small items becomes, in bytes. */
const quantum = 65_536

/** How long turns are given without a pause, in milliseconds. */
const turnMillis = 1

/** The items and parts of one connection. */
export class Flow implements Uncut {
  /** Which unfinished items and messages may be under way. */
  readonly underway: Underway
  private readonly messages: Messages
  private readonly writer: Writer
  private on = false
  private isClosed = false
  /** Those that have something to leave, in the order of their turns. */
  private readonly waiting = new Set<Cut>()
  private inFlight = 0
  /** What was read, and what the peer was not told of yet. */
  private untold = 0
  /** The last message of items: its stream, the writer's mark after it, where it begins and the size of its payload. */
  private lastId = 0
  private lastMark = -1
  private lastAt = 0
  private lastSize = 0

  constructor(messages: Messages, writer: Writer) {
    this.messages = messages
    this.writer = writer
    this.underway = new Underway((cut) => this.add(cut))
  }

  /** Whether both peers know streams. Before that, nothing is queued here. */
  get isOn(): boolean {
    return this.on
  }

  /** Whether nothing waits for its turn, or until it may be under way. */
  get isEmpty(): boolean {
    return this.waiting.size === 0 && !this.underway.isAwaited
  }

  /** Both peers know streams. It can be repeated. */
  start(): void {
    if (this.isClosed) return
    this.on = true
    this.writer.uncut = this
  }

  /** Whether a message may be begun now. */
  hasRoom(): boolean {
    return this.inFlight < mostInFlight && !this.writer.isBlocked && !this.isClosed
  }

  /** Whether something may leave out of turn: there is room, and nothing else waits for its turn. */
  get isFree(): boolean {
    return this.waiting.size === 0 && this.hasRoom()
  }

  /** It gets its turns until it has nothing more to leave. */
  add(cut: Cut): void {
    if (this.isClosed) return
    this.waiting.add(cut)
    // Without room, the flush comes with what makes room.
    if (this.hasRoom()) this.writer.wake()
  }

  /** It has no turn any more. */
  remove(cut: Cut): void {
    const hasWaited = this.waiting.delete(cut)
    // The writer may wait for its end.
    if ((this.underway.end(cut) || hasWaited) && this.isEmpty) this.writer.wake()
  }

  turn(): boolean {
    if (this.waiting.size === 0 || !this.hasRoom()) return false
    const until = performance.now() + turnMillis
    // Those that have more go to the end, where this loop meets them again.
    for (const cut of this.waiting) {
      this.waiting.delete(cut)
      if (cut.cut(quantum)) this.waiting.add(cut)
      if (!this.hasRoom()) return false
      if (performance.now() > until) break
    }
    return this.waiting.size > 0
  }

  /** The peer has read so many bytes of items and parts (credit for id 0). Returns what is wrong with that. */
  landed(bytes: number): string | undefined {
    if (bytes > this.inFlight) {
      return `that it has read ${bytes} bytes of items and parts, while ${this.inFlight} are in flight`
    }
    this.inFlight -= bytes
    if (this.waiting.size > 0) this.writer.wake()
    return undefined
  }

  /** The payload of a message of items or of a part was read, whatever becomes of it: the peer is told at times. */
  read(bytes: number): void {
    this.untold += bytes
    if (this.untold < tellAfter) return
    this.messages.credit(0, this.untold)
    this.untold = 0
  }

  /** Lets the peer send so many bytes more on stream `id`. */
  grant(id: number, bytes: number): void {
    if (!this.isClosed) this.messages.credit(id, bytes)
  }

  /**
   * Makes room for `size` bytes of whole items of stream `id`: in its last message, where nothing was queued after it.
   * Returns the batch; the room is the last `size` bytes before its `length`.
   */
  items(id: number, size: number): Batch {
    this.inFlight += size
    const { writer } = this
    if (this.lastId === id && writer.mark === this.lastMark && this.lastSize + size <= quantum) {
      const batch = writer.extend(size)
      if (batch !== undefined) return this.extended(batch, size)
    }
    const batch = writer.reserve(headerSize + size)
    this.lastId = id
    this.lastAt = batch.length - headerSize - size
    return this.extended(batch, size, 0)
  }

  /**
   * Queues an item, or a piece of one, by reference. `total` is the length of the whole item for its first piece, and
   * undefined for others. `lead` goes before the bytes, unless it is negative.
   */
  item(id: number, bytes: Uint8Array, isMore: boolean, total: number | undefined, lead: number): void {
    const before = (total === undefined ? 0 : pieceHead) + (lead < 0 ? 0 : 1)
    const head = new Uint8Array(headerSize + itemPrefix + before)
    const view = dataView(head)
    const length = bytes.length + before
    writeHeader(view, 0, id, MessageType.items, itemPrefix + length)
    view.setUint32(headerSize, isMore ? (length | goesOn) >>> 0 : length, true)
    if (total !== undefined) view.setUint32(headerSize + itemPrefix, total, true)
    if (lead >= 0) head[head.length - 1] = lead
    this.inFlight += itemPrefix + length
    this.writer.reference(id, MessageType.items, head, bytes)
  }

  /** Queues a part of a message by reference. `start` goes before its bytes. */
  part(id: number, start: Uint8Array, bytes: Uint8Array): void {
    const head = new Uint8Array(headerSize + start.length)
    const length = start.length + bytes.length
    writeHeader(dataView(head), 0, id, MessageType.part, length)
    head.set(start, headerSize)
    this.inFlight += length
    this.writer.reference(id, MessageType.part, head, bytes)
  }

  /** Queues the rest of a message in parts by reference, as a message of its type. */
  rest(id: number, type: number, bytes: Uint8Array): void {
    const head = new Uint8Array(headerSize)
    writeHeader(dataView(head), 0, id, type, bytes.length)
    this.writer.reference(id, type, head, bytes, true)
  }

  /** The connection is over: nothing leaves any more. */
  close(): void {
    this.isClosed = true
    this.waiting.clear()
  }

  private extended(batch: Batch, size: number, before = this.lastSize): Batch {
    this.lastSize = before + size
    this.lastMark = this.writer.mark
    writeHeader(batch.view, this.lastAt, this.lastId, MessageType.items, this.lastSize)
    return batch
  }
}
