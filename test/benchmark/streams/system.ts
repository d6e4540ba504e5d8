/**
 * What is measured of streams: systems that all do the same job. A server gives streams of items and answers calls; a
 * client takes the items and makes the calls, both on one connection.
 */

/** What a stream is to be. All its items are alike, so that making them costs nothing. */
export interface Feed {
  readonly itemBytes: number
  /** How many items the server has at a time. */
  readonly chunk: number
  /** How many chunks it has before the stream ends: `Infinity` for one without an end, 0 for one that never begins. */
  readonly chunks: number
  /** Whether the server counts what it gives. Where the rate is measured, the one who takes the items counts. */
  readonly counted: boolean
}

/**
 * Takes what has arrived: how many items, and the first of them, which is valid until it returns. `false` stops the
 * consumer for good: it keeps the stream open, and takes no more.
 */
export type Take = (count: number, item: Uint8Array) => boolean

/** Streams that were opened. */
export interface Opened {
  /** Resolves when all of them have ended by themselves, and rejects where one has failed. */
  readonly ended: Promise<void>
  /** Cancels them, and waits until nothing of them comes any more. */
  readonly stop: () => Promise<void>
}

export interface StreamClient {
  readonly open: (feed: Feed, streams: number, take: Take) => Opened
  /** A call with 16 bytes that is answered with `bytes` bytes: how many have come. */
  readonly call: (bytes: number) => Promise<number>
}

/** Each of its halves runs in a process of its own. */
export interface StreamSystem {
  /** Serves on this machine until the process ends, and gives what `connect` needs to know. */
  readonly serve: () => Promise<string>
  /** A new connection. */
  readonly connect: (address: string) => Promise<StreamClient>
}

/** What the server of this process has done. */
export const served = { streams: 0, items: 0 }

const argumentBytes = 16
/** The count of chunks of a stream without an end. */
const endless = 0xffff_ffff

/** What a client asks a server for, as the arguments of calls and streams of bytes. */
export const feedToBytes = ({ chunk, chunks, counted, itemBytes }: Feed): Uint8Array => {
  const bytes = Buffer.alloc(argumentBytes)
  bytes.writeUInt32LE(itemBytes, 0)
  bytes.writeUInt32LE(chunk, 4)
  bytes.writeUInt32LE(chunks === Infinity ? endless : chunks, 8)
  bytes[12] = counted ? 1 : 0
  return bytes
}

export const feedFromBytes = (bytes: Uint8Array): Feed => {
  const view = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const chunks = view.readUInt32LE(8)
  return {
    itemBytes: view.readUInt32LE(0),
    chunk: view.readUInt32LE(4),
    chunks: chunks === endless ? Infinity : chunks,
    counted: view[12] === 1
  }
}

/** How many bytes a call asks for. */
export const sizeToBytes = (size: number): Uint8Array => {
  const bytes = Buffer.alloc(argumentBytes)
  bytes.writeUInt32LE(size, 0)
  return bytes
}

export const sizeFromBytes = (bytes: Uint8Array): number =>
  Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).readUInt32LE(0)

const items = new Map<number, Uint8Array>()

/** Bytes that both sides know: items, and answers of calls. */
export const itemOf = (size: number): Uint8Array => {
  let item = items.get(size)
  if (item === undefined) {
    item = Uint8Array.from({ length: size }, (_, i) => (i * 31 + size) & 255)
    items.set(size, item)
  }
  return item
}
