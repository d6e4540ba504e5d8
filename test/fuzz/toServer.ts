/**
 * What is sent to a server, and what it must make of it: a conversation of a client, changed somewhere, and a model of
 * a server that says of its bytes which answers they have to get.
 */
import * as fc from "fast-check"
import { crc32 } from "node:zlib"
import { bytesOf, mostly, mutate, type Mutation, mutation, payloadSize, record, seed } from "./conversation.ts"
import * as Typed from "./typed.ts"
import {
  answerTooLarge,
  argumentsTooLarge,
  errorChain,
  flag,
  type Frame,
  known,
  largestPayload,
  type Link,
  message,
  methodKey,
  plainError,
  readErrorChain,
  readRequest,
  readStream,
  readVersion,
  request,
  requestOverhead,
  serverTypes,
  type
} from "./wire.ts"

export const component = "fuzz/Bytes"
export const byteMethods = ["echo", "slow", "fail", "die", "throw", "large", "never"] as const
export type ByteMethod = (typeof byteMethods)[number]

const checksum = (bytes: Uint8Array): string => crc32(bytes).toString(16)

/** What `large` answers: more than is copied on its way to the socket. */
export const largeAnswer = (args: Uint8Array): Buffer => Buffer.alloc(16_384 + (args[0] ?? 0) * 64, checksum(args))

/** What `fail` fails with. */
export const refusal = (args: Uint8Array): string => `refused ${checksum(args)}`

/** For how many turns of the event loop `slow` takes its time. */
export const turnsOf = (args: Uint8Array): number => crc32(args) % 4

/** A server that is not as generous as one is without options. */
export const limits = {
  maxMessageSize: 20_000,
  maxConcurrentCalls: 2,
  maxQueuedCalls: 2,
  writeFlattenLimit: 64,
  inlineHandlerDuration: 0,
  shutdownGrace: 0
}

/** What is served. */
type Served = { readonly kind: ByteMethod } | { readonly kind: "typed"; readonly method: Typed.Method }

/** By its key in hex. */
const byKey = new Map<string, Served>([
  ...byteMethods.map((kind) => [methodKey(component, kind).toString("hex"), { kind }] as const),
  ...Typed.components.flatMap(({ name }) =>
    Typed.methods.map((method) => [methodKey(name, method).toString("hex"), { kind: "typed", method }] as const)
  )
])

const methods: ReadonlyArray<{ readonly key: Buffer; readonly served: Served | undefined }> = [
  ...Array.from(byKey, ([key, served]) => ({ key: Buffer.from(key, "hex"), served })),
  { key: methodKey(component, "unknown"), served: undefined }
]

interface VersionMessage {
  readonly message: "version"
  readonly version: number
  /** How many bytes follow it; the first four of them are flags. */
  readonly extra: number
  readonly flags: number
}

interface RequestMessage {
  readonly message: "request"
  readonly method: number
  readonly size: number
  readonly seed: number
  readonly deadline: bigint
  readonly traced: boolean
}

interface CancelMessage {
  readonly message: "cancel"
  /** The request with this number, modulo how many there are, and one more that there is not. */
  readonly of: number
}

export interface Case {
  readonly messages: ReadonlyArray<VersionMessage | RequestMessage | CancelMessage>
  readonly mutation: Mutation
  readonly over: "memory" | "limited" | "tcp"
  /** Whether the client takes what it gets only in later turns. */
  readonly slow: boolean
  /** Whether a last message that is not whole is completed, and the connection tried with one more call. */
  readonly probed: boolean
  /** How the client leaves: when all is there that has to come, or at once. */
  readonly leaves: "last" | "ends" | "resets"
}

const deadline = fc.oneof(
  { weight: 6, arbitrary: fc.constant(0n) },
  { weight: 3, arbitrary: fc.constantFrom(1n, 1000n, -1n, -(2n ** 63n), 3_600_000_000n, 2n ** 53n, 2n ** 63n - 1n) }
)

const messages = fc.array(
  fc.oneof(
    {
      weight: 1,
      arbitrary: record<VersionMessage>({
        message: fc.constant("version"),
        version: fc.constantFrom(0, 1, 2 ** 32 - 1),
        extra: fc.constantFrom(0, 0, 3, 4, 4, 4, 9),
        flags: fc.constantFrom(0, 1, 1, 1, 5, 17, 0xffff_fff8)
      })
    },
    {
      weight: 6,
      arbitrary: record<RequestMessage>({
        message: fc.constant("request"),
        method: fc.nat(methods.length - 1),
        size: payloadSize,
        seed,
        deadline,
        traced: fc.boolean()
      })
    },
    { weight: 2, arbitrary: record<CancelMessage>({ message: fc.constant("cancel"), of: fc.nat(7) }) }
  ),
  { maxLength: 8 }
)

export const cases: fc.Arbitrary<Case> = record<Case>({
  messages,
  mutation,
  over: fc.oneof(
    { weight: 18, arbitrary: fc.constant("memory") },
    { weight: 2, arbitrary: fc.constant("limited") },
    { weight: 1, arbitrary: fc.constant("tcp") }
  ),
  slow: fc.boolean(),
  probed: fc.boolean(),
  leaves: mostly(fc.constant("last"), 4, fc.constantFrom("ends", "resets"))
})

const encode = ({ messages }: Case): Array<Buffer> => {
  const requests = messages.filter(({ message }) => message === "request").length
  let next = 1n
  return messages.map((each) => {
    if (each.message === "version") {
      const payload = Buffer.alloc(4 + each.extra, 0xee)
      payload.writeUInt32LE(each.version, 0)
      if (each.extra >= 4) payload.writeUInt32LE(each.flags, 4)
      return message(0n, type.version, payload)
    }
    if (each.message === "cancel") return message(BigInt(each.of % (requests + 1)) + 1n, type.cancel)
    const { deadline, method, seed, size, traced } = each
    const { key, served } = methods[method] ?? { key: Buffer.alloc(16), served: undefined }
    const args = served?.kind === "typed" ? Typed.argsOf(served.method, seed, `text ${seed}`) : bytesOf(size, seed)
    return message(next++, type.request, request(key, deadline, traced ? bytesOf(25, seed + 1) : undefined, args))
  })
}

const probe = message(
  2n ** 53n - 1n,
  type.request,
  request(methodKey(component, "echo"), 0n, undefined, Buffer.from("probe"))
)

/** The largest payload that the server of a case takes. */
export const largestOf = ({ over }: Case): number => over === "limited" ? limits.maxMessageSize : largestPayload

/** More than this is not made up to complete a message. */
const mostMissing = 65_536

/** What is sent: with the missing bytes of the last message, where that can be completed, and the probe behind it. */
export const streamOf = (input: Case): Buffer => {
  let bytes = mutate(encode(input), input.mutation)
  if (!input.probed) return bytes
  // Twice: a header that is completed says what else is missing.
  for (let i = 0; i < 2; i++) {
    const { missing, refused } = readStream(bytes, serverTypes, largestOf(input))
    if (refused || missing > mostMissing) return bytes
    bytes = Buffer.concat([bytes, Buffer.alloc(missing)])
  }
  return Buffer.concat([bytes, probe])
}

/** What may be answered to a request, and what has to be. */
export interface Expected {
  /** What serves it, or why nothing does. */
  readonly kind: string
  readonly deadline: bigint
  /** Whether it is certain that there is an answer. */
  certain: boolean
  /** Whether a handler may run. */
  readonly runs: boolean
  /** Whether it runs until something happens to it. */
  readonly endless: boolean
  canceled: boolean
  readonly isAnswer: (answer: Frame) => boolean
}

export interface Model {
  /** The version messages that are answered: what flags the client has shown by then that it understands. */
  readonly versions: ReadonlyArray<{ readonly flags: number }>
  /**
   * By their ids, each in the order in which they are answered: one id can only be used again when it has its answer.
   */
  readonly requests: ReadonlyMap<bigint, ReadonlyArray<Expected>>
  /** Whether the server closes the connection. */
  readonly closes: "yes" | "maybe" | "no"
  /** Whether a change has made a stream's message of something: what follows is not foreseen here. */
  readonly hasStreams: boolean
}

const isError = (answer: Frame, link: Link): boolean =>
  answer.type === type.responseError && answer.payload.equals(errorChain([link]))

const isResponse = (answer: Frame, payload: Uint8Array): boolean =>
  answer.type === type.response && answer.payload.equals(payload)

/** Deadlines beyond this one do not pass while a test runs, in microseconds; those below that one do for certain. */
const never = 60_000_000n
const soon = 5000n

/** A text that Go quotes as it is. */
const isPlain = /^[ !#-[\]-~]*$/

const isUndecodable = (answer: Frame, method: Typed.Method): boolean => {
  const links = answer.type === type.responseError ? readErrorChain(answer.payload) : undefined
  const [link] = links ?? []
  if (links?.length !== 1 || link === undefined) return false
  const isText = Typed.components.some(({ name }) =>
    link.message.startsWith(`cannot decode the payload of ${name}.${method}: `)
  )
  return isText && (isPlain.test(link.message)
    ? link.identity === plainError(link.message).identity
    : link.identity.startsWith("(:&errors.errorString{s:\"cannot decode"))
}

/** Whether an answer is what the handler of a method makes of its arguments. */
const isOwnAnswer = (served: Served, args: Buffer, answer: Frame, limited: boolean): boolean => {
  switch (served.kind) {
    case "echo":
    case "slow":
      return isResponse(answer, args)
    case "fail":
      return isError(answer, plainError(refusal(args)))
    case "die":
    case "throw":
      return isError(answer, known.died)
    case "large": {
      const result = largeAnswer(args)
      if (!limited || result.length <= limits.maxMessageSize) return isResponse(answer, result)
      return isError(
        answer,
        answerTooLarge(`the result of ${component}.large is`, result.length, limits.maxMessageSize)
      )
    }
    case "never":
      return false
    case "typed": {
      const expected = Typed.answerTo(served.method, args)
      if (expected.answer === "undecodable") return isUndecodable(answer, served.method)
      if (expected.answer === "differs") return isError(answer, known.contractDiffers)
      if (expected.answer === "started") return isResponse(answer, Uint8Array.of(expected.format))
      return answer.type === type.response && Typed.saysResult(served.method, expected, answer.payload)
    }
  }
}

/** What is answered at once, and no handler has seen. */
const refusedWith = (kind: string, deadline: bigint, link: Link): Expected => ({
  kind,
  deadline,
  certain: true,
  runs: false,
  endless: false,
  canceled: false,
  isAnswer: (answer) => isError(answer, link)
})

const expectedOf = ({ payload, tooLarge }: Frame, limited: boolean, largest: number): Expected | undefined => {
  if (tooLarge !== undefined) {
    const link = argumentsTooLarge(tooLarge - requestOverhead, largest - requestOverhead)
    return refusedWith("too large", 0n, link)
  }
  const asked = readRequest(payload)
  if (asked === undefined) return undefined
  const { args, deadline } = asked
  const served = byKey.get(asked.key.toString("hex"))
  if (served === undefined) return refusedWith("unknown", deadline, known.unknownMethod)
  if (deadline < 0n) return refusedWith("late", deadline, known.deadlineExceeded)
  const passes = deadline > 0n && deadline < never
  const expected: Expected = {
    kind: served.kind,
    deadline,
    certain: served.kind !== "never" || (deadline > 0n && deadline < soon),
    runs: true,
    // Where there are limits, it may have been refused.
    endless: served.kind === "never" && !passes && !limited,
    canceled: false,
    isAnswer: (answer) =>
      isOwnAnswer(served, args, answer, limited) ||
      (passes && isError(answer, known.deadlineExceeded)) ||
      (expected.canceled && isError(answer, known.canceled)) ||
      (limited && isError(answer, known.overloaded))
  }
  return expected
}

/** What a server must make of a stream. */
export const modelOf = (bytes: Buffer, input: Case): Model => {
  const stream = readStream(bytes, serverTypes, largestOf(input))
  const requests = new Map<bigint, Array<Expected>>()
  const versions: Array<{ readonly flags: number }> = []
  let flags = 0
  let closes: Model["closes"] = stream.refused ? "yes" : "no"
  const refuses: Model = { versions, requests, closes: "yes", hasStreams: false }
  for (const frame of stream.frames) {
    const sameId = requests.get(frame.id)
    const earlier = sameId?.at(-1)
    if (frame.type === type.version) {
      const version = readVersion(frame)
      if (version === undefined) return refuses
      if ((version.flags & flag.understood) !== 0) flags |= version.flags & (flag.understood | flag.streams)
      // That no request follows is for clients to say that are asked to leave: what else it may do is not said.
      if (flags !== 0 && (version.flags & flag.noMoreRequests) !== 0 && closes === "no") closes = "maybe"
      versions.push({ flags })
    } else if (frame.type === type.cancel) {
      if (earlier?.runs !== true) continue
      earlier.canceled = true
      earlier.certain = true
    } else {
      const expected = expectedOf(frame, input.over === "limited", largestOf(input))
      if (expected === undefined) return refuses
      // An id that is still in use is refused; whether it is depends on how fast the earlier call was.
      if (earlier?.runs === true) {
        if (earlier.endless && !earlier.canceled) return refuses
        if (closes === "no") closes = "maybe"
      }
      if (sameId === undefined) requests.set(frame.id, [expected])
      else sameId.push(expected)
    }
  }
  // To a client that understands streams, the types of messages are others.
  const hasStreams = stream.refused && (flags & flag.streams) !== 0
  return { versions, requests, closes: hasStreams ? "maybe" : closes, hasStreams }
}
