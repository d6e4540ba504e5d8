/**
 * The messages of streams as bytes, made by hand from the page of the wire, whatever their fields say. It uses nothing
 * of `src/internal`, so that a mistake there is not repeated here.
 */
import type { MethodKey } from "effect-call"
import { message } from "./raw.ts"

/** The types of messages. */
export const type = {
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

/** Bits of a version message's flags. */
export const flag = { understood: 1, goingAway: 2, noMoreRequests: 4, streams: 8, areYouThere: 16 } as const

/** What a peer says that understands streams, and nothing else. */
export const streamsFlags = flag.understood | flag.streams

/** Bit 31 of an item's length: the item goes on in a later message. */
export const goesOn = 0x8000_0000

/** How many bytes of items and parts may be in flight where a message begins. */
export const mostInFlight = 262_144

/** What a client may send before the server's first credit. */
export const firstCredit = 16_384

/** The identities of errors that end streams. */
export const identity = {
  flowControl: "(effect-call:flow-control)",
  leaving: "(effect-call:leaving)",
  overloaded: "(effect-call:overloaded)",
  tooLarge: "(effect-call:too-large)"
} as const

const empty = Buffer.alloc(0)

export const u32 = (...values: ReadonlyArray<number>): Buffer => {
  const bytes = Buffer.alloc(4 * values.length)
  for (const [index, value] of values.entries()) bytes.writeUInt32LE(value, 4 * index)
  return bytes
}

/** A version message; as the reference sends it where no flags are given. */
export const version = (flags?: number): Buffer =>
  message(0, type.version, flags === undefined ? u32(0) : u32(0, flags))

/** The 49 bytes before the arguments of a request. */
const requestHeader = (key: MethodKey.MethodKey, deadlineMicros = 0): Buffer => {
  const header = Buffer.alloc(49)
  header.set(key.bytes)
  header.writeBigInt64LE(BigInt(deadlineMicros), 16)
  return header
}

/** The payload of a request. */
export const requestPayload = (key: MethodKey.MethodKey, args: Uint8Array = empty, deadlineMicros = 0): Buffer =>
  Buffer.concat([requestHeader(key, deadlineMicros), args])

/** The payload of an open, which lets the server send `credit` bytes at first. */
export const openPayload = (
  key: MethodKey.MethodKey,
  credit: number,
  args: Uint8Array = empty,
  deadlineMicros = 0
): Buffer => Buffer.concat([requestHeader(key, deadlineMicros), u32(credit), args])

export const request = (id: number, key: MethodKey.MethodKey, args?: Uint8Array, deadlineMicros?: number): Buffer =>
  message(id, type.request, requestPayload(key, args, deadlineMicros))

export const open = (
  id: number,
  key: MethodKey.MethodKey,
  credit: number,
  args?: Uint8Array,
  deadlineMicros?: number
): Buffer => message(id, type.open, openPayload(key, credit, args, deadlineMicros))

export const response = (id: number, payload: Uint8Array = empty): Buffer => message(id, type.response, payload)

export const cancel = (id: number): Buffer => message(id, type.cancel)

export const end = (id: number): Buffer => message(id, type.end)

export const credit = (id: number, bytes: number): Buffer => message(id, type.credit, u32(bytes))

/** An item as it is in a message of items. */
export const item = (bytes: Uint8Array): Buffer => Buffer.concat([u32(bytes.length), bytes])

/** Whole items in one message. */
export const items = (id: number, ...bytes: ReadonlyArray<Uint8Array>): Buffer =>
  message(id, type.items, Buffer.concat(bytes.map(item)))

/** The first piece of an item of `total` bytes, which goes on. */
export const firstPiece = (total: number, bytes: Uint8Array): Buffer =>
  Buffer.concat([u32((bytes.length + 4 | goesOn) >>> 0, total), bytes])

/** A later piece, which goes on. The last one is an {@link item}. */
export const laterPiece = (bytes: Uint8Array): Buffer => Buffer.concat([u32((bytes.length | goesOn) >>> 0), bytes])

/** A message of items with any payload. */
export const rawItems = (id: number, ...payload: ReadonlyArray<Uint8Array>): Buffer =>
  message(id, type.items, Buffer.concat(payload))

/** The first part of a message whose payload has `total` bytes. */
export const firstPart = (id: number, total: number, bytes: Uint8Array): Buffer =>
  message(id, type.part, Buffer.concat([u32(total), bytes]))

export const part = (id: number, bytes: Uint8Array): Buffer => message(id, type.part, bytes)

/**
 * All messages of one message in parts: parts of `size` bytes, and the message of its type with what is left, which may
 * be nothing.
 */
export const inParts = (id: number, of: number, payload: Uint8Array, size: number): Array<Buffer> => {
  const messages: Array<Buffer> = []
  let at = 0
  while (payload.length - at > size) {
    const bytes = payload.subarray(at, at + size)
    messages.push(at === 0 ? firstPart(id, payload.length, bytes) : part(id, bytes))
    at += size
  }
  return [...messages, message(id, of, payload.subarray(at))]
}

const text = (value: string): Buffer => {
  const bytes = Buffer.from(value)
  return Buffer.concat([u32(bytes.length), bytes])
}

/** A response error with one error. */
export const responseError = (id: number, said: string, identity: string): Buffer =>
  message(id, type.responseError, Buffer.concat([u32(1, 0), text(said), text(identity)]))

/** One error of a response error. */
export interface Link {
  readonly message: string
  readonly identity: string
}

/** The errors that a response error says. */
export const readError = (payload: Buffer): Array<Link> => {
  let at = 8
  const next = () => {
    const size = payload.readUInt32LE(at)
    at += 4 + size
    return payload.toString("utf8", at - size, at)
  }
  return Array.from({ length: Number(payload.readBigInt64LE(0)) }, () => ({ message: next(), identity: next() }))
}
