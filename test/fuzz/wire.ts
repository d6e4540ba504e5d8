/**
 * The wire as its page has it, read and written as simply as can be. This is what the package is held against, so
 * nothing here is the package's own.
 */
import { createHash } from "node:crypto"

export const type = { version: 0, request: 1, response: 2, responseError: 3, cancel: 4 } as const

/** What each side gets. */
export const serverTypes: ReadonlyArray<number> = [type.version, type.request, type.cancel]
export const clientTypes: ReadonlyArray<number> = [type.version, type.response, type.responseError]

/** The largest payload where nothing else is set: 100 MiB. */
export const largestPayload = 104_857_600

/** The largest payload that is skipped where it is too large, and the types whose messages are. */
const largestSkipped = 1_073_741_824
const skippedTypes: ReadonlyArray<number> = [type.request, type.response, type.responseError]

const headerSize = 16
const requestHeaderSize = 49
const firstRefusedId = 2n ** 53n

export interface Frame {
  readonly id: bigint
  readonly type: number
  readonly payload: Buffer
  /** Where it ends in its stream; past what there is of it for one that is too large. */
  readonly end: number
  /** How long the payload is that is skipped because it is too large; `payload` is empty then. */
  readonly tooLarge?: number
}

/** A message. `length` is what its header says, which may be a lie. */
export const message = (
  id: bigint,
  type: number,
  payload: Uint8Array = new Uint8Array(),
  length: bigint = BigInt(payload.length)
): Buffer => {
  const bytes = Buffer.alloc(headerSize + payload.length)
  bytes.writeBigUInt64LE(id, 0)
  bytes.writeBigUInt64LE(BigInt(type) | (length << 8n), 8)
  bytes.set(payload, headerSize)
  return bytes
}

/** What a stream of bytes comes to. */
export interface Stream {
  readonly frames: ReadonlyArray<Frame>
  /** Whether what follows the frames must be refused. */
  readonly refused: boolean
  /** How many bytes there are of a message that is not whole, */
  readonly partial: number
  /** and how many more are missing, as far as that can be told: of a header, or of what it has announced. */
  readonly missing: number
}

/**
 * Reads what a side gets that takes these types and sizes. A header is looked at as soon as it is there, whatever its
 * payload does.
 */
export const readStream = (bytes: Buffer, types: ReadonlyArray<number>, largest = largestPayload): Stream => {
  const frames: Array<Frame> = []
  let at = 0
  while (bytes.length - at >= headerSize) {
    const id = bytes.readBigUInt64LE(at)
    const word = bytes.readBigUInt64LE(at + 8)
    const type = Number(word & 0xffn)
    const length = Number(word >> 8n)
    const isTooLarge = length > largest
    const isSkipped = skippedTypes.includes(type) && length <= largestSkipped
    if (!types.includes(type) || (isTooLarge && !isSkipped) || id >= firstRefusedId) {
      return { frames, refused: true, partial: 0, missing: 0 }
    }
    const end = at + headerSize + length
    // It is known to be too large by its header.
    if (isTooLarge) frames.push({ id, type, payload: Buffer.alloc(0), end, tooLarge: length })
    if (end > bytes.length) return { frames, refused: false, partial: bytes.length - at, missing: end - bytes.length }
    if (!isTooLarge) frames.push({ id, type, payload: bytes.subarray(at + headerSize, end), end })
    at = end
  }
  const partial = bytes.length - at
  return { frames, refused: false, partial, missing: partial === 0 ? 0 : headerSize - partial }
}

/** Puts together what arrives in pieces, and hands out each message once it is whole. */
export class Reader {
  readonly #types: ReadonlyArray<number>
  readonly #onFrame: (frame: Frame) => void
  #rest: Buffer = Buffer.alloc(0)
  /** Whether it has met what it should not get. */
  refused = false

  constructor(types: ReadonlyArray<number>, onFrame: (frame: Frame) => void) {
    this.#types = types
    this.#onFrame = onFrame
  }

  /** How many bytes there are of a message that is not whole. */
  get partial(): number {
    return this.#rest.length
  }

  read(bytes: Buffer): void {
    const all = this.#rest.length === 0 ? bytes : Buffer.concat([this.#rest, bytes])
    const stream = readStream(all, this.#types)
    this.#rest = all.subarray(all.length - stream.partial)
    if (stream.refused || stream.frames.some(({ tooLarge }) => tooLarge !== undefined)) this.refused = true
    for (const frame of stream.frames) this.#onFrame(frame)
  }
}

/** A version message's payload: 4 bytes, and what may follow them. */
export interface Version {
  readonly version: number
  /** 0 where there are none. */
  readonly flags: number
}

export const flag = { understood: 1, goingAway: 2, noMoreRequests: 4, streams: 8 } as const

/** What a version message says; undefined where it must be refused. */
export const readVersion = ({ id, payload }: Frame): Version | undefined =>
  id !== 0n || payload.length < 4
    ? undefined
    : { version: payload.readUInt32LE(0), flags: payload.length < 8 ? 0 : payload.readUInt32LE(4) }

/** The key of a method. */
export const methodKey = (component: string, method: string): Buffer =>
  createHash("sha256").update(`${component}.${method}`).digest().subarray(0, 16)

export interface Request {
  readonly key: Buffer
  /** Microseconds. */
  readonly deadline: bigint
  readonly trace: Buffer
  readonly args: Buffer
}

/** A request's payload. `trace` are the 25 bytes of its trace context. */
export const request = (key: Uint8Array, deadline: bigint, trace: Uint8Array | undefined, args: Uint8Array): Buffer => {
  const bytes = Buffer.alloc(requestHeaderSize + args.length)
  bytes.set(key, 0)
  bytes.writeBigInt64LE(deadline, 16)
  if (trace !== undefined) bytes.set(trace, 24)
  bytes.set(args, requestHeaderSize)
  return bytes
}

/** Reads a request's payload; undefined where it is shorter than its header. */
export const readRequest = (payload: Buffer): Request | undefined =>
  payload.length < requestHeaderSize ? undefined : {
    key: payload.subarray(0, 16),
    deadline: payload.readBigInt64LE(16),
    trace: payload.subarray(24, requestHeaderSize),
    args: payload.subarray(requestHeaderSize)
  }

export interface Link {
  readonly message: string
  readonly identity: string
}

/** An error that is only its text, which Go quotes as it is. */
export const plainError = (text: string): Link => ({
  message: text,
  identity: `(:&errors.errorString{s:"${text}"})`
})

export const known = {
  canceled: plainError("context canceled"),
  deadlineExceeded: { message: "context deadline exceeded", identity: "(context:context.deadlineExceededError{})" },
  unknownMethod: plainError("internal error: unknown function"),
  died: plainError("internal error: the handler died"),
  overloaded: { message: "overloaded", identity: "(effect-call:overloaded)" },
  contractDiffers: {
    message: "client and server have different contracts of the method",
    identity: "(effect-call:contract-differs)"
  }
} satisfies Record<string, Link>

/** What is answered where the arguments, or what the handler has ended with, are too large for the server. */
export const argumentsTooLarge = (size: number, limit: number): Link => ({
  message: `the arguments are ${size} bytes, expected at most ${limit}`,
  identity: "(effect-call:too-large)"
})
export const answerTooLarge = (problem: string, size: number, limit: number): Link => ({
  message: `${problem} ${size} bytes, expected at most ${limit}`,
  identity: "(effect-call:answer-too-large)"
})

/** How many bytes of a request's payload go before its arguments. */
export const requestOverhead = requestHeaderSize

/** A response error's payload. */
export const errorChain = (links: ReadonlyArray<Link>): Buffer => {
  const string = (text: string) => {
    const bytes = Buffer.from(text)
    const length = Buffer.alloc(4)
    length.writeUInt32LE(bytes.length)
    return [length, bytes]
  }
  const count = Buffer.alloc(8)
  count.writeBigInt64LE(BigInt(links.length))
  return Buffer.concat([count, ...links.flatMap(({ identity, message }) => [...string(message), ...string(identity)])])
}

/** Reads a response error's payload; undefined where it cannot be read. */
export const readErrorChain = (payload: Buffer): ReadonlyArray<Link> | undefined => {
  if (payload.length < 8) return undefined
  const count = payload.readBigInt64LE(0)
  const texts: Array<string> = []
  let at = 8
  // More strings than there can be bytes for need not be counted.
  while (BigInt(texts.length) < count * 2n) {
    if (payload.length - at < 4) return undefined
    const length = payload.readUInt32LE(at)
    if (length > payload.length - at - 4) return undefined
    texts.push(payload.toString("utf8", at + 4, at + 4 + length))
    at += 4 + length
  }
  if (count < 0n || at !== payload.length) return undefined
  return Array.from({ length: texts.length / 2 }, (_, i) => ({
    message: texts[2 * i] ?? "",
    identity: texts[2 * i + 1] ?? ""
  }))
}

/** What a type is called. */
export const typeName = (type: number): string =>
  ["version", "request", "response", "response error", "cancel"][type] ?? "unknown"

const hex = (bytes: Buffer): string =>
  bytes.length <= 80 ? bytes.toString("hex") : `${bytes.toString("hex", 0, 80)}… (${bytes.length} bytes)`

/** A stream as people read it: a line for each message. */
export const describeStream = (bytes: Buffer, types: ReadonlyArray<number>, largest?: number): string => {
  const { frames, missing, partial, refused } = readStream(bytes, types, largest)
  const lines = frames.map(({ id, payload, tooLarge, type }) =>
    `${typeName(type)} ${id}: ${tooLarge === undefined ? hex(payload) : `${tooLarge} bytes, which are too many`}`
  )
  const rest = bytes.subarray(frames.at(-1)?.end ?? 0)
  if (refused) lines.push(`to be refused: ${hex(rest)}`)
  if (partial > 0) lines.push(`${missing} bytes short of whole: ${hex(rest)}`)
  return lines.map((line) => `    ${line}`).join("\n")
}
