/**
 * What is sent to a client, and what it must make of it: calls, a conversation of the server that answers them, changed
 * somewhere, and a model of a client that says of its bytes how the calls have to end.
 */
import * as fc from "fast-check"
import { bytesOf, mostly, mutate, type Mutation, mutation, payloadSize, record, seed } from "./conversation.ts"
import * as Typed from "./typed.ts"
import {
  answerTooLarge,
  argumentsTooLarge,
  clientTypes,
  errorChain,
  flag,
  type Frame,
  known,
  type Link,
  message,
  methodKey,
  plainError,
  readStream,
  readVersion,
  type Stream,
  type
} from "./wire.ts"

/** How a call is made. */
export interface Call {
  readonly method: "bytes" | Typed.Method
  readonly size: number
  readonly seed: number
  readonly timeout: "none" | "long" | "short"
  /** Whether its caller gives it up: while it waits for the connection, or when the server has its request. */
  readonly givenUp: "no" | "early" | "late"
}

interface Version {
  /** How many bytes follow the version; the first four of them are flags. */
  readonly extra: number
  readonly flags: number
}

interface VersionAnswer extends Version {
  readonly answer: "version"
}

interface Response {
  /** Bytes for a call of bytes; for another one what its method would answer. */
  readonly answer: "response"
  readonly size: number
  readonly seed: number
}

interface ResponseError {
  readonly answer: "error"
  readonly chain: number
}

export interface Case {
  readonly calls: ReadonlyArray<Call>
  readonly greeting: Version
  /** Items for calls go to one call after the other, beginning with the first. */
  readonly answers: ReadonlyArray<VersionAnswer | Response | ResponseError>
  readonly first: number
  readonly mutation: Mutation
  /** Whether all is sent at once, without a look at the requests. */
  readonly blind: boolean
  /** Whether a last message that is not whole is completed, and the connection tried with one more call. */
  readonly probed: boolean
  /** How the server leaves. */
  readonly leaves: "ends" | "resets"
  /** Whether another call is made when the connection is gone. */
  readonly again: boolean
  readonly over: "memory" | "limited" | "tcp"
  /** Whether the server takes what it gets only in later turns. */
  readonly slow: boolean
}

/** A Connection that is not as generous as one is without options. */
export const limits = { maxMessageSize: 20_100, writeFlattenLimit: 64 }

/** As long as arguments may be there. */
const longestArgs = 20_000

const chains: ReadonlyArray<ReadonlyArray<Link>> = [
  [],
  [plainError("no funds")],
  [plainError("outer: inner"), plainError("inner")],
  // A byte order mark, and letters of more than one byte.
  [{ message: "\ufeffgrüße ✓", identity: "" }],
  [known.canceled],
  [known.deadlineExceeded],
  [plainError("in the handler"), known.deadlineExceeded],
  [known.overloaded],
  [argumentsTooLarge(7, 6)],
  [answerTooLarge("the result of a.b is", 7, 6)],
  [plainError("in the handler"), argumentsTooLarge(7, 6)]
]

const version: { [K in keyof Version]: fc.Arbitrary<Version[K]> } = {
  extra: fc.constantFrom(0, 0, 0, 4, 4, 4, 7),
  flags: fc.constantFrom(0, 1, 1, 1, 3, 17, 0xffff_fffc)
}

const call = record<Call>({
  method: fc.constantFrom("bytes", "bytes", ...Typed.methods),
  size: payloadSize,
  seed,
  timeout: fc.constantFrom("none", "none", "none", "long", "long", "short"),
  givenUp: mostly(fc.constant("no"), 8, fc.constantFrom("early", "late"))
})

export const cases: fc.Arbitrary<Case> = record<Case>({
  calls: fc.array(call, { minLength: 1, maxLength: 5 }),
  greeting: record<Version>(version),
  answers: fc.array(
    fc.oneof(
      { weight: 1, arbitrary: record<VersionAnswer>({ answer: fc.constant("version"), ...version }) },
      { weight: 6, arbitrary: record<Response>({ answer: fc.constant("response"), size: payloadSize, seed }) },
      {
        weight: 2,
        arbitrary: record<ResponseError>({ answer: fc.constant("error"), chain: fc.nat(chains.length - 1) })
      }
    ),
    { maxLength: 7 }
  ),
  first: fc.nat(4),
  mutation,
  blind: mostly(fc.constant(false), 9, fc.constant(true)),
  probed: fc.boolean(),
  leaves: fc.constantFrom("ends", "resets"),
  again: mostly(fc.constant(false), 3, fc.constant(true)),
  over: fc.oneof(
    { weight: 18, arbitrary: fc.constant("memory") },
    { weight: 2, arbitrary: fc.constant("limited") },
    { weight: 1, arbitrary: fc.constant("tcp") }
  ),
  slow: fc.boolean()
})

/** A text that only the call with this number has: who reads a request knows which call it is of. */
const textOf = (number: number): string => `call ${number}.`

const byteKey = methodKey("fuzz/Bytes", "echo")

/** What a call is made with: a method's payload, or bytes. */
export interface Arguments {
  readonly key: Buffer
  readonly payload: Typed.Payload | undefined
  readonly bytes: Buffer
}

export const argumentsOf = ({ method, seed, size }: Call, number: number, over: Case["over"]): Arguments => {
  const text = textOf(number)
  const extra = over === "limited" ? Math.min(size, longestArgs) : size
  return {
    key: method === "bytes" ? byteKey : Typed.keys[method],
    payload: method === "bytes" ? undefined : Typed.payloadOf(method, seed, text),
    bytes: Buffer.concat([Buffer.from(text), bytesOf(extra, seed)])
  }
}

export const versionMessage = ({ extra, flags }: Version): Buffer => {
  const payload = Buffer.alloc(4 + extra, 0xee)
  payload.writeUInt32LE(0, 0)
  if (extra >= 4) payload.writeUInt32LE(flags, 4)
  return message(0n, type.version, payload)
}

const encode = (input: Case, args: ReadonlyArray<Arguments>): Array<Buffer> => {
  let next = input.first
  const answers = input.answers.map((each) => {
    if (each.answer === "version") return versionMessage(each)
    const index = next++ % args.length
    const id = BigInt(index) + 1n
    if (each.answer === "error") return message(id, type.responseError, errorChain(chains[each.chain] ?? []))
    const payload = args[index]?.payload
    const { seed, size } = each
    return message(
      id,
      type.response,
      payload === undefined ? bytesOf(size, seed) : Typed.replyTo(payload, seed % 3 === 0 ? 2 : 1)
    )
  })
  return [versionMessage(input.greeting), ...answers]
}

/** What is sent. */
export interface Sent {
  readonly bytes: Buffer
  readonly stream: Stream
  /** Where the message ends that lets requests be sent: the first version message, if that comes, and can be read. */
  readonly readyAt: number | undefined
}

/** The largest payload that the client of a case takes. */
export const largestOf = ({ over }: Case): number => over === "limited" ? limits.maxMessageSize : 104_857_600

/** More than this is not made up to complete a message. */
const mostMissing = 65_536

export const sentBy = (input: Case, args: ReadonlyArray<Arguments>): Sent => {
  const read = (bytes: Buffer): Stream => {
    const stream = readStream(bytes, clientTypes, largestOf(input))
    // Before the version message there is nothing to answer: what is too large then is not waited for.
    const first = stream.frames.findIndex(({ tooLarge, type: each }) => tooLarge !== undefined || each === type.version)
    return stream.frames[first]?.tooLarge === undefined
      ? stream
      : { frames: stream.frames.slice(0, first), refused: true, partial: 0, missing: 0 }
  }
  let bytes = mutate(encode(input, args), input.mutation)
  // Twice: a header that is completed says what else is missing.
  for (let i = 0; i < 2 && input.probed; i++) {
    const { missing, refused } = read(bytes)
    if (!refused && missing <= mostMissing) bytes = Buffer.concat([bytes, Buffer.alloc(missing)])
  }
  const stream = read(bytes)
  const greeting = stream.frames.find((frame) => frame.type === type.version)
  const isRead = greeting !== undefined && readVersion(greeting) !== undefined
  return { bytes, stream, readyAt: isRead ? greeting.end : undefined }
}

/** What the stream makes of calls. */
export interface Model {
  /** The answers that may be the call's with this id; the first one is, unless it was sent blindly. */
  readonly answers: ReadonlyMap<bigint, ReadonlyArray<Frame>>
  /** Whether the client closes the connection. */
  readonly closes: boolean
  /**
   * Whether the server says that it goes away: a client may then call elsewhere, and close the connection when it needs
   * it no longer.
   */
  readonly leaving: boolean
}

/** `pending` are the calls that wait when the answers come. */
export const modelOf = (
  { readyAt, stream }: Sent,
  pending: { readonly has: (id: bigint) => boolean },
  blind: boolean
): Model => {
  const answers = new Map<bigint, Array<Frame>>()
  let leaving = false
  let streams = false
  for (const frame of stream.frames) {
    if (frame.type === type.version) {
      const version = readVersion(frame)
      if (version === undefined) return { answers, leaving, closes: true }
      if ((version.flags & flag.understood) !== 0) streams ||= (version.flags & flag.streams) !== 0
      leaving ||= (version.flags & flag.understood) !== 0 && (version.flags & flag.goingAway) !== 0
      continue
    }
    // Before the version message there are no requests.
    if (readyAt === undefined || frame.end < readyAt) continue
    const sameId = answers.get(frame.id)
    // No call waits for it.
    if (!blind && (sameId !== undefined || !pending.has(frame.id))) continue
    if (sameId === undefined) answers.set(frame.id, [frame])
    else sameId.push(frame)
  }
  // To a client whose server understands streams, the types of messages are others.
  if (streams && stream.refused) return { answers, leaving: true, closes: false }
  return { answers, leaving, closes: stream.refused }
}
