/**
 * Messages on a byte stream: the 16-byte header, and a decoder that takes the stream in any pieces.
 *
 * A message is `id` u64, `type` u8, `length` u56, all little-endian, and `length` bytes of payload. This file does not
 * know what a payload means.
 *
 * A message that is complete in one piece of the stream is never copied: the receiver gets the piece and the range. A
 * message that is split over pieces is put together in a buffer: in its own buffer if the receiver keeps the bytes,
 * otherwise in a reused one.
 */

import { u32At, u8At } from "./bytes.ts"

/** The size of a message's header in bytes. */
export const headerSize = 16

/** The largest payload that either end takes: 100 MiB. */
export const maxMessageSize = 104_857_600

/** The largest payload that is skipped when it is over the limit: 1 GiB. A longer one is refused. */
export const maxSkippedSize = 1_073_741_824

/** The largest payload of a message of items, or of a part of a message: 1 MiB. */
export const maxPieceSize = 1_048_576

/** The types of messages: their numbers on the wire. From `open` on they go only between peers that know streams. */
export const MessageType = {
  version: 0,
  request: 1,
  response: 2,
  responseError: 3,
  cancel: 4,
  open: 5,
  items: 6,
  part: 7,
  end: 8,
  credit: 9
} as const

const typeBit = (type: number): number => 1 << type

/** The types that a server may receive, as a bit set for {@link FrameDecoder}. */
export const serverTypes = typeBit(MessageType.version) | typeBit(MessageType.request) | typeBit(MessageType.cancel)

/** The types that a client may receive, as a bit set for {@link FrameDecoder}. */
export const clientTypes = typeBit(MessageType.version) | typeBit(MessageType.response) |
  typeBit(MessageType.responseError)

/** The types that a server may receive, too, from a client that knows streams. */
export const serverStreamTypes = typeBit(MessageType.open) | typeBit(MessageType.items) | typeBit(MessageType.part) |
  typeBit(MessageType.end) | typeBit(MessageType.credit)

/** The types that a client may receive, too, from a server that knows streams. */
export const clientStreamTypes = typeBit(MessageType.items) | typeBit(MessageType.part) | typeBit(MessageType.credit)

/** Whether a message begins an exchange: its payload begins with the header of a request. */
export const beginsExchange = (type: number): boolean => type === MessageType.request || type === MessageType.open

/** Whether a message that a client receives ends the exchange with its id. */
export const endsExchange = (type: number): boolean =>
  type === MessageType.response || type === MessageType.responseError

/** The types whose messages are skipped when they are too large: each belongs to one call, and ends only that call. */
const skippedTypes = typeBit(MessageType.request) | typeBit(MessageType.response) | typeBit(MessageType.responseError) |
  typeBit(MessageType.open)

/** The types whose payload is a piece of something larger. */
const pieceTypes = typeBit(MessageType.items) | typeBit(MessageType.part)

/** The size of the payload of a message that grants credit, in bytes. */
export const creditSize = 4

const twoTo32 = 4_294_967_296
const maxSafeHigh = 0x1fffff

/**
 * Writes a message's header at `offset`. `id` is below 2^53, `length` below 2^32.
 *
 * A DataView has inlined stores of whole words. Byte by byte, the headers of a request took 65 stores, and 7 % of a
 * client's CPU with 256 callers.
 */
export const writeHeader = (target: DataView, offset: number, id: number, type: number, length: number): void => {
  // In two u32 halves: a BigInt here costs twice as much as the rest of a call.
  target.setUint32(offset, id, true)
  target.setUint32(offset + 4, id / twoTo32, true)
  target.setUint32(offset + 8, type | (length << 8), true)
  target.setUint32(offset + 12, length >>> 24, true)
}

/** Reads the `id` of the header at `offset`; -1 if it is 2^53 or more. No client that counts from 1 reaches that. */
export const readId = (bytes: Uint8Array, offset: number): number => {
  const high = u32At(bytes, offset + 4)
  return high > maxSafeHigh ? -1 : u32At(bytes, offset) + high * twoTo32
}

/** Reads the `length` of the header at `offset`. From 2^53 on it is rounded; that is far over every limit. */
export const readLength = (bytes: Uint8Array, offset: number): number =>
  (u8At(bytes, offset + 9) | (u8At(bytes, offset + 10) << 8) | (u8At(bytes, offset + 11) << 16)) +
  u32At(bytes, offset + 12) * 16_777_216

/** Receives the messages of a {@link FrameDecoder}. */
export interface FrameReceiver {
  /**
   * A whole message has arrived. Its payload is `bytes` from `start` to `end`. If `owned` is true, no other code will
   * write to the bytes. Otherwise they are valid during this call only.
   */
  onFrame(id: number, type: number, bytes: Uint8Array, start: number, end: number, owned: boolean): void
  /**
   * Whether the receiver will keep the payload of a message that arrives in pieces. Then it is put into its own buffer.
   */
  keepsPayload(id: number, type: number): boolean
  /**
   * A request, an open, a response or a response error begins, and its payload of `length` bytes is over the limit.
   * This is called once, at the header. The payload is dropped as it arrives, and later messages are delivered as
   * usual.
   */
  onTooLarge(id: number, type: number, length: number): void
}

/** Whether the payload of a message for streams may have this length. */
const fits = (type: number, length: number): boolean => {
  if (type === MessageType.credit) return length === creditSize
  return (typeBit(type) & pieceTypes) === 0 || (length > 0 && length <= maxPieceSize)
}

const idTooLarge = "a message id of 2^53 or more"

/**
 * At most this much is allocated at first for a split message, whatever its length is. The buffer grows as bytes
 * arrive.
 */
const firstAllocation = 1_048_576
/** A reused buffer that is larger than this is dropped after its message. */
const retainedScratch = 1_048_576

const allocateUnsafe = (size: number): Uint8Array => {
  // Not zeroed: every byte is written before it is read.
  const buffer = Buffer.allocUnsafeSlow(size)
  return new Uint8Array(buffer.buffer, 0, size)
}

/**
 * Takes a byte stream in pieces, and delivers its messages.
 *
 * ```
 *             ┌──────────────────────────────────┐
 *             ▼                                  │ its last byte
 *   ───▶   Header ──── split in pieces ────▶   Body
 *           │  ▲ │
 *           │  │ └── too large, of a call ──▶  Skipping ──┐
 *           │  └─────────── its last byte ────────────────┘
 *           └── must be refused, or `stop` ──▶  Stopped
 * ```
 *
 * A message that must be refused stops the decoder for good: a message of an unknown type, or of a type that this end
 * never receives; an id of 2^53 or more; a length over 1 GiB; a version message or a cancel over the limit; items or a
 * part without bytes or with more than 1 MiB; credit that is not of 4 bytes. A message of a call that is over the limit
 * is skipped, and nothing is allocated for it.
 */
export class FrameDecoder {
  private readonly receiver: FrameReceiver
  private types: number
  private readonly maxSize: number
  private readonly allocate: (size: number) => Uint8Array
  private stopped = false
  private problem: string | undefined = undefined
  /** The number of whole messages so far. */
  completed = 0

  private readonly header = new Uint8Array(headerSize)
  private headerHave = 0

  private body: Uint8Array | undefined = undefined
  private bodyOwned = false
  private bodyHave = 0
  private bodyLength = 0
  private bodyId = 0
  private bodyType = 0
  private scratch: Uint8Array | undefined = undefined
  /** The number of bytes left to drop of a message that is too large. */
  private skipping = 0

  /** `allocate` makes the buffers of split messages. They need not be zeroed. */
  constructor(
    receiver: FrameReceiver,
    types: number,
    maxSize: number = maxMessageSize,
    allocate: (size: number) => Uint8Array = allocateUnsafe
  ) {
    this.allocate = allocate
    this.receiver = receiver
    this.types = types
    this.maxSize = maxSize
  }

  /** Whether a message has arrived in part. */
  get isPartial(): boolean {
    return this.headerHave > 0 || this.body !== undefined || this.skipping > 0
  }

  /** Takes messages of these types, too: a bit set. It may be called while a message is delivered. */
  allow(types: number): void {
    this.types |= types
  }

  /** Delivers no more messages, not even those in the rest of the piece that is being fed. */
  stop(): void {
    this.stopped = true
    this.body = undefined
    this.scratch = undefined
    this.skipping = 0
  }

  /**
   * Takes the next piece of the stream: `chunk` from `start` to `end`. If `owned` is true, no other code will write to
   * it. Returns why the stream must be refused, or undefined.
   */
  feed(chunk: Uint8Array, start: number, end: number, owned: boolean): string | undefined {
    let position = this.skipping > 0 ? this.skip(start, end) : start
    while (!this.stopped) {
      if (this.body !== undefined) {
        position = this.fillBody(this.body, chunk, position, end)
        if (this.bodyHave < this.bodyLength) return undefined
        continue
      }
      if (this.headerHave > 0 || end - position < headerSize) {
        const wanted = headerSize - this.headerHave
        const available = Math.min(wanted, end - position)
        for (let i = 0; i < available; i++) this.header[this.headerHave + i] = u8At(chunk, position + i)
        this.headerHave += available
        position += available
        if (this.headerHave < headerSize) return undefined
        this.headerHave = 0
        position = this.message(this.header, 0, chunk, position, end, owned)
      } else {
        position = this.message(chunk, position, chunk, position + headerSize, end, owned)
      }
    }
    return this.problem
  }

  /**
   * Reads a header, and delivers its message if it is whole in this piece. Returns the position after the bytes that it
   * took.
   */
  private message(
    header: Uint8Array,
    headerAt: number,
    chunk: Uint8Array,
    position: number,
    end: number,
    owned: boolean
  ): number {
    const id = readId(header, headerAt)
    const type = u8At(header, headerAt + 8)
    const length = readLength(header, headerAt)
    if (type > 31 || (this.types & (1 << type)) === 0) return this.refuse(`a message of type ${type}`, position)
    // Items and parts have a limit of their own: what they carry may be small, or belong to something larger.
    if (length > this.maxSize && (typeBit(type) & pieceTypes) === 0) {
      return this.tooLarge(id, type, length, position, end)
    }
    if (type >= MessageType.items && !fits(type, length)) {
      return this.refuse(`a message of type ${type} with ${length} bytes`, position)
    }
    if (id < 0) return this.refuse(idTooLarge, position)
    if (end - position >= length) {
      this.completed++
      this.receiver.onFrame(id, type, chunk, position, position + length, owned)
      return position + length
    }
    this.bodyId = id
    this.bodyType = type
    this.bodyLength = length
    this.bodyHave = 0
    this.bodyOwned = this.receiver.keepsPayload(id, type)
    const size = Math.min(length, firstAllocation)
    if (this.bodyOwned) {
      this.body = this.allocate(size)
    } else {
      if (this.scratch === undefined || this.scratch.length < size) this.scratch = this.allocate(size)
      this.body = this.scratch
    }
    return position
  }

  private fillBody(body: Uint8Array, chunk: Uint8Array, position: number, end: number): number {
    const taken = Math.min(this.bodyLength - this.bodyHave, end - position)
    const have = this.bodyHave + taken
    let target = body
    if (have > target.length) {
      // The buffer grows as bytes arrive, so that a length alone allocates little.
      target = this.allocate(Math.min(this.bodyLength, Math.max(have, target.length * 2)))
      target.set(body.subarray(0, this.bodyHave))
      if (!this.bodyOwned) this.scratch = target
      this.body = target
    }
    target.set(
      position === 0 && taken === chunk.length ? chunk : chunk.subarray(position, position + taken),
      this.bodyHave
    )
    this.bodyHave = have
    if (have === this.bodyLength) {
      this.body = undefined
      if (this.scratch !== undefined && this.scratch.length > retainedScratch) this.scratch = undefined
      this.completed++
      this.receiver.onFrame(this.bodyId, this.bodyType, target, 0, have, this.bodyOwned)
    }
    return position + taken
  }

  /** Begins to skip a message that is over the limit. */
  private tooLarge(id: number, type: number, length: number, position: number, end: number): number {
    if (length > maxSkippedSize || (typeBit(type) & skippedTypes) === 0) {
      return this.refuse(`a message of ${length} bytes, which is over the limit of ${this.maxSize}`, position)
    }
    if (id < 0) return this.refuse(idTooLarge, position)
    this.skipping = length
    this.receiver.onTooLarge(id, type, length)
    return this.skip(position, end)
  }

  /** Drops bytes of a message that is too large. Returns the position after them. */
  private skip(position: number, end: number): number {
    const taken = Math.min(this.skipping, end - position)
    this.skipping -= taken
    if (taken > 0 && this.skipping === 0) this.completed++
    return position + taken
  }

  private refuse(problem: string, position: number): number {
    this.problem = problem
    this.stop()
    return position
  }
}
