/**
 * Conversations that begin as valid ones, and what is done to them: fields that lie, bits that flip, pieces that go,
 * come twice, or come elsewhere; and how the bytes are cut into what arrives at a time.
 */
import * as fc from "fast-check"
import { type Peer, turn } from "./peer.ts"

/**
 * Something that is done to a message before it is one of many. Which message it is counts from 0, modulo how many
 * there are.
 */
type MessageChange =
  | { readonly change: "id"; readonly message: number; readonly to: bigint }
  | { readonly change: "type"; readonly message: number; readonly to: number }
  | { readonly change: "length"; readonly message: number; readonly to: bigint }
  /** Its header's length only, by so many bytes. */
  | { readonly change: "length by"; readonly message: number; readonly by: number }
  /** Header and payload alike: the payload ends early, or goes on. */
  | { readonly change: "resize"; readonly message: number; readonly by: number }
  | { readonly change: "payload"; readonly message: number; readonly at: number; readonly to: number }
  | { readonly change: "drop" | "twice"; readonly message: number }
  | { readonly change: "move"; readonly message: number; readonly to: number }
  | { readonly change: "garbage"; readonly message: number; readonly size: number; readonly seed: number }

/** Something that is done to the stream. Where it is counts from 0, modulo how many bytes there are. */
type ByteChange =
  | { readonly change: "flip"; readonly at: number; readonly bit: number }
  | { readonly change: "byte"; readonly at: number; readonly to: number }
  | { readonly change: "insert"; readonly at: number; readonly size: number; readonly seed: number }
  | { readonly change: "remove" | "repeat"; readonly at: number; readonly size: number }
  | { readonly change: "overwrite"; readonly at: number; readonly from: number; readonly size: number }
  | { readonly change: "truncate"; readonly at: number }

type Change = MessageChange | ByteChange

/** How a stream arrives. */
interface Split {
  /** In pieces that end here (modulo the size), or byte by byte. */
  readonly cuts: ReadonlyArray<number> | "everywhere"
  /** Whether each piece comes in a turn of the event loop of its own. For single bytes that would take too long. */
  readonly paced: boolean
}

export interface Mutation {
  readonly changes: ReadonlyArray<Change>
  readonly split: Split
}

/** As fast-check's, but of ordinary objects: a counterexample is to be read. */
export const record = <T>(fields: { [K in keyof T]: fc.Arbitrary<T[K]> }): fc.Arbitrary<T> =>
  fc.record(fields, { noNullPrototype: true })

/** Mostly the one, now and then the other. */
export const mostly = <A, B>(often: fc.Arbitrary<A>, times: number, seldom: fc.Arbitrary<B>): fc.Arbitrary<A | B> =>
  fc.oneof({ weight: times, arbitrary: often }, { weight: 1, arbitrary: seldom })

export const seed = fc.nat(0xffff)

/**
 * How large arguments and results are: small, but for some that take other ways. The largest arrives in pieces and
 * outgrows first buffers.
 */
export const payloadSize = mostly(
  mostly(fc.nat(100), 40, fc.constantFrom(1000, 5000, 20_000, 70_000)),
  1000,
  fc.constant(1_200_000)
)

const place = fc.nat(0xffff)
const size = fc.nat(40)
const message = fc.nat(15)
const by = fc.oneof(fc.constantFrom(-65, -49, -16, -1, 1, 16, 65), fc.integer({ min: -100, max: 100 }))

const ids = [
  ...[0n, 1n, 2n, 3n, 4n, 5n, 17n, 33n, 257n, 2n ** 32n, 2n ** 32n + 1n],
  ...[2n ** 53n - 1n, 2n ** 53n, 2n ** 53n + 1n, 2n ** 63n, 2n ** 64n - 1n]
]
const lengths = [
  ...[0n, 1n, 3n, 4n, 7n, 8n, 15n, 16n, 48n, 49n, 50n, 65_535n, 65_536n, 1_048_577n],
  ...[
    104_857_600n,
    104_857_601n,
    2n ** 30n,
    2n ** 30n + 1n,
    2n ** 31n,
    2n ** 32n - 1n,
    2n ** 32n,
    2n ** 53n,
    2n ** 55n,
    2n ** 56n - 1n
  ]
]

const change = <const A extends string, B extends object>(
  name: A,
  fields: { [K in keyof B]: fc.Arbitrary<B[K]> }
): fc.Arbitrary<{ readonly change: A } & Readonly<B>> =>
  record<{ change: A }>({ change: fc.constant(name), ...fields }) as fc.Arbitrary<{ readonly change: A } & Readonly<B>>

const anyChange: fc.Arbitrary<Change> = fc.oneof(
  change("id", { message, to: fc.constantFrom(...ids) }),
  change("type", { message, to: fc.oneof(fc.nat(5), fc.nat(255)) }),
  change("length", { message, to: fc.constantFrom(...lengths) }),
  change("length by", { message, by }),
  change("resize", { message, by }),
  change("payload", { message, at: place, to: fc.nat(255) }),
  change("drop", { message }),
  change("twice", { message }),
  change("move", { message, to: message }),
  change("garbage", { message, size, seed }),
  change("flip", { at: place, bit: fc.nat(7) }),
  change("byte", { at: place, to: fc.constantFrom(0, 1, 2, 3, 4, 16, 32, 127, 128, 255) }),
  change("insert", { at: place, size, seed }),
  change("remove", { at: place, size }),
  change("repeat", { at: place, size }),
  change("overwrite", { at: place, from: place, size }),
  change("truncate", { at: place })
)

/** What is done to a conversation; in a good part of them nothing is. */
export const mutation: fc.Arbitrary<Mutation> = record<Mutation>({
  changes: fc.array(anyChange, { maxLength: 3 }),
  split: record<Split>({
    cuts: mostly(fc.array(place, { maxLength: 5 }), 19, fc.constant("everywhere")),
    paced: fc.boolean()
  })
})

/** Sends a stream in its pieces. */
export const sendPieces = async (
  peer: Peer,
  bytes: Buffer,
  mutation: Mutation,
  from: number,
  to: number
): Promise<void> => {
  const { cuts, paced } = mutation.split
  for (const piece of pieces(bytes, cuts, from, to)) {
    peer.send(piece)
    if (paced && cuts !== "everywhere") await turn()
  }
}

/** From this size on bytes repeat. */
const longest = 500

/** So many bytes that look like nothing in particular, always the same for a seed. */
export const bytesOf = (size: number, seed: number): Buffer => {
  if (size > longest) return Buffer.alloc(size, bytesOf(longest, seed))
  const bytes = Buffer.allocUnsafeSlow(size)
  let state = (seed ^ 0x9e3779b9) | 1
  for (let i = 0; i < size; i++) {
    state ^= state << 13
    state ^= state >>> 17
    state ^= state << 5
    bytes[i] = state
  }
  return bytes
}

const headerSize = 16

const lengthOf = (message: Buffer): bigint => message.readBigUInt64LE(8) >> 8n

const setLength = (message: Buffer, length: bigint): void => {
  // Below 0 it is what it would be in a language that wraps around.
  message.writeBigUInt64LE((BigInt(message[8] ?? 0) | (length << 8n)) & 0xffff_ffff_ffff_ffffn, 8)
}

const changeMessage = (messages: Array<Buffer>, change: MessageChange): void => {
  const index = change.message % messages.length
  const bytes = messages[index]
  // Garbage has no fields.
  if (bytes === undefined || bytes.length < headerSize) return
  switch (change.change) {
    case "id":
      bytes.writeBigUInt64LE(change.to, 0)
      return
    case "type":
      bytes[8] = change.to
      return
    case "length":
      return setLength(bytes, change.to)
    case "length by":
      return setLength(bytes, lengthOf(bytes) + BigInt(change.by))
    case "resize": {
      const resized = Buffer.alloc(Math.max(headerSize, bytes.length + change.by), 0x5a)
      bytes.copy(resized)
      setLength(resized, BigInt(resized.length - headerSize))
      messages[index] = resized
      return
    }
    case "payload":
      if (bytes.length > headerSize) bytes[headerSize + change.at % (bytes.length - headerSize)] = change.to
      return
    case "drop":
      messages.splice(index, 1)
      return
    case "twice":
      messages.splice(index, 0, Buffer.from(bytes))
      return
    case "move":
      messages.splice(index, 1)
      messages.splice(change.to % (messages.length + 1), 0, bytes)
      return
    case "garbage":
      messages.splice(index, 0, bytesOf(change.size, change.seed))
      return
  }
}

const changeBytes = (bytes: Buffer, change: ByteChange): Buffer => {
  const at = change.at % bytes.length
  switch (change.change) {
    case "flip":
      bytes[at] = (bytes[at] ?? 0) ^ (1 << change.bit)
      return bytes
    case "byte":
      bytes[at] = change.to
      return bytes
    case "insert":
      return Buffer.concat([bytes.subarray(0, at), bytesOf(change.size, change.seed), bytes.subarray(at)])
    case "remove":
      return Buffer.concat([bytes.subarray(0, at), bytes.subarray(at + change.size)])
    case "repeat":
      return Buffer.concat([bytes.subarray(0, at + change.size), bytes.subarray(at)])
    case "overwrite": {
      const from = change.from % bytes.length
      bytes.copy(bytes, at, from, from + change.size)
      return bytes
    }
    case "truncate":
      return bytes.subarray(0, at)
  }
}

const isMessageChange = (change: Change): change is MessageChange => "message" in change

/** The bytes that become of messages: first the messages are changed, then the stream that they make. */
export const mutate = (messages: Array<Buffer>, { changes }: Mutation): Buffer => {
  for (const change of changes) {
    if (isMessageChange(change) && messages.length > 0) changeMessage(messages, change)
  }
  let bytes: Buffer = Buffer.concat(messages)
  for (const change of changes) {
    if (!isMessageChange(change) && bytes.length > 0) bytes = changeBytes(bytes, change)
  }
  return bytes
}

/** Of a stream that arrives byte by byte, the last part comes in one piece. */
const mostSingle = 1000

/** A part of a stream in the pieces that it arrives in, each with memory of its own. */
const pieces = (bytes: Buffer, cuts: Split["cuts"], from: number, to: number): Array<Buffer> => {
  const piece = (start: number, end: number): Buffer => Buffer.from(bytes.subarray(start, end))
  if (cuts === "everywhere") {
    const single = Array.from({ length: Math.min(to - from, mostSingle) }, (_, i) => piece(from + i, from + i + 1))
    return to - from > mostSingle ? [...single, piece(from + mostSingle, to)] : single
  }
  const ends = cuts.map((cut) => cut % (bytes.length + 1)).filter((cut) => cut > from && cut < to)
  const sorted = [...new Set(ends).add(to)].sort((a, b) => a - b)
  const found: Array<Buffer> = []
  let start = from
  for (const end of sorted) {
    if (end > start) found.push(piece(start, end))
    start = end
  }
  return found
}
