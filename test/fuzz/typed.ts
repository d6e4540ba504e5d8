/**
 * A component to be fuzzed, and what its bytes mean, read with Effect's own schemas and not with what the package makes
 * of them.
 */
import { Cause, Effect, Exit, type Layer, Schema } from "effect"
import { Component } from "effect-call"
import * as SchemaBinary from "effect/encoding/SchemaBinary"
import { type Rpc, Rpc as Rpcs, RpcGroup } from "effect/rpc"
import { isDeepStrictEqual } from "node:util"
import { methodKey } from "./wire.ts"

export class Refused extends Schema.TaggedError<Refused>()("Refused", { why: Schema.String }) {}

/** A schema that the binary format checks all by itself, which the package reads without the schema's own pass. */
const Plain = {
  payload: Schema.Struct({ text: Schema.String, flag: Schema.Boolean, bytes: Schema.Uint8Array }),
  success: Schema.Struct({ text: Schema.String, bytes: Schema.Uint8Array })
}

/** And one that has more to say. */
const Checked = {
  payload: Schema.Struct({
    n: Schema.Int,
    items: Schema.Array(Schema.String),
    note: Schema.optionalKey(Schema.String)
  }),
  success: Schema.Struct({ n: Schema.Int, items: Schema.Array(Schema.String) })
}

const group = RpcGroup.make(
  Rpcs.make("Plain", { payload: Plain.payload, success: Plain.success }),
  Rpcs.make("Checked", { payload: Checked.payload, success: Checked.success, error: Refused })
)

export type Method = "Plain" | "Checked"
export const methods: ReadonlyArray<Method> = ["Plain", "Checked"]

export const Typed = Component.make("fuzz/Typed", group)
/** The same with spans for its calls. */
export const Traced = Component.make("fuzz/Traced", group)
export const components = [Typed, Traced]

/** The methods that clients call: one without spans, and one with. */
export const keys: Record<Method, Buffer> = {
  Plain: methodKey(Typed.name, "Plain"),
  Checked: methodKey(Traced.name, "Checked")
}

const plain = ({ bytes, flag, text }: typeof Plain.payload.Type): typeof Plain.success.Type => ({
  text: flag ? `${text}!` : text,
  bytes
})

const checked = ({ items, n, note }: typeof Checked.payload.Type): Exit.Exit<typeof Checked.success.Type, Refused> =>
  n < 0
    ? Exit.fail(new Refused({ why: items.join() }))
    // JSON can be read as -0, and be written as 0 only.
    : Exit.succeed({ n: n + 0, items: [...items, note ?? "nothing"] })

/** Handlers that tell when they are called. */
export const handlers = (onCall: () => void): Layer.Layer<Rpc.ToHandler<RpcGroup.Rpcs<typeof group>>> =>
  group.toLayer({
    Plain: (payload) => Effect.sync(onCall).pipe(Effect.as(plain(payload))),
    Checked: (payload) => {
      onCall()
      return checked(payload)
    }
  })

/** What stands for each contract on the wire. */
const fingerprints: Record<Method, Buffer> = {
  Plain: Buffer.from("a7ba1011dd0dcb76", "hex"),
  Checked: Buffer.from("9ac9dc786531e863", "hex")
}

type Format = 1 | 2
const formats: ReadonlyArray<Format> = [1, 2]

interface Codec {
  readonly encode: (value: unknown) => Uint8Array
  readonly decode: (bytes: Uint8Array) => Exit.Exit<unknown, unknown>
}

const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true })

const codecOf = (schema: Schema.Codec<unknown, unknown>, format: Format): Codec => {
  if (format === 1) {
    const codec = SchemaBinary.toCodec(schema)
    return { encode: Schema.encodeSync(codec), decode: Schema.decodeUnknownExit(codec) }
  }
  const codec = Schema.toCodecJson(schema)
  const encode = Schema.encodeSync(codec)
  const decode = Schema.decodeUnknownExit(codec)
  return {
    encode: (value) => Buffer.from(JSON.stringify(encode(value))),
    decode: (bytes) => {
      let json: unknown
      try {
        json = JSON.parse(utf8.decode(bytes))
      } catch (error) {
        return Exit.fail(error)
      }
      return decode(json)
    }
  }
}

const bothFormats = (schema: (format: Format) => Schema.Top): Record<Format, Codec> => {
  // None of these schemas needs anything.
  const codec = (format: Format) => codecOf(schema(format) as Schema.Codec<unknown, unknown>, format)
  return { 1: codec(1), 2: codec(2) }
}

/** In the binary format failures are a union even where there is one kind only. */
const failureSchema = (error: Schema.Top) => (format: Format) =>
  format === 1 ? Schema.Union([error, Schema.TaggedStruct("effect-call/NoFailure", {})]) : Schema.Union([error])

const codecs: Record<Method, Record<"payload" | "success" | "failure", Record<Format, Codec>>> = {
  Plain: {
    payload: bothFormats(() => Plain.payload),
    success: bothFormats(() => Plain.success),
    failure: bothFormats(failureSchema(Schema.Never))
  },
  Checked: {
    payload: bothFormats(() => Checked.payload),
    success: bothFormats(() => Checked.success),
    failure: bothFormats(failureSchema(Refused))
  }
}

/** What a call of the client gives, and the payload that it is called with. */
export type Payload =
  | { readonly method: "Plain"; readonly payload: typeof Plain.payload.Type }
  | { readonly method: "Checked"; readonly payload: typeof Checked.payload.Type }

const formatOf = (byte: number | undefined, flags: number): Format | undefined =>
  byte === undefined || (byte & ~(0x0f | flags)) !== 0 ? undefined : formats.find((format) => format === (byte & 0x0f))

// A plain array: of a Buffer, decoders make views that are Buffers.
const rest = (bytes: Uint8Array, from: number): Uint8Array => Uint8Array.from(bytes.subarray(from))

/** Where the arguments begin behind the headers at `start`; undefined where those cannot be read. */
const afterHeaders = (args: Buffer, start: number): number | undefined => {
  if (args.length < start + 4) return undefined
  const end = start + 4 + args.readUInt32LE(start)
  if (end > args.length) return undefined
  try {
    const pairs: unknown = JSON.parse(args.toString("utf8", start + 4, end))
    const isPair = (pair: unknown) =>
      Array.isArray(pair) && pair.length === 2 && pair.every((part) => typeof part === "string")
    return Array.isArray(pairs) && pairs.every(isPair) ? end : undefined
  } catch {
    return undefined
  }
}

/** What a server must answer to a call. */
export type Answer =
  /** An error that says that the arguments cannot be decoded. */
  | { readonly answer: "undecodable" }
  /** That its contract is another one. */
  | { readonly answer: "differs" }
  /** That it has started. */
  | { readonly answer: "started"; readonly format: Format }
  | { readonly answer: "result"; readonly format: Format; readonly result: Exit.Exit<unknown, unknown> }

export const answerTo = (method: Method, args: Buffer): Answer => {
  const first = args[0] ?? 0
  const format = formatOf(args[0], 0x30)
  if (format === undefined) return { answer: "undecodable" }
  const leadEnd = format === 1 ? 9 : 1
  if (args.length < leadEnd) return { answer: "undecodable" }
  if (format === 1 && !args.subarray(1, 9).equals(fingerprints[method])) return { answer: "differs" }
  const start = (first & 0x10) === 0 ? leadEnd : afterHeaders(args, leadEnd)
  if (start === undefined) return { answer: "undecodable" }
  const decoded = codecs[method].payload[format].decode(rest(args, start))
  if (Exit.isFailure(decoded)) return { answer: "undecodable" }
  if ((first & 0x20) !== 0) return { answer: "started", format }
  // What the method's own schema has decoded.
  const result = method === "Plain"
    ? Exit.succeed(plain(decoded.value as typeof Plain.payload.Type))
    : checked(decoded.value as typeof Checked.payload.Type)
  return { answer: "result", format, result }
}

/** What an answer's payload says: how the call ends, or undefined where that cannot be decoded. */
export const outcomeOf = (method: Method, payload: Uint8Array): Exit.Exit<unknown, unknown> | undefined => {
  const format = formatOf(payload[0], 0x10)
  if (format === undefined) return undefined
  const failed = ((payload[0] ?? 0) & 0x10) !== 0
  const decoded = codecs[method][failed ? "failure" : "success"][format].decode(rest(payload, 1))
  if (Exit.isFailure(decoded)) return undefined
  return failed ? Exit.fail(decoded.value) : decoded
}

const sidesOf = (exit: Exit.Exit<unknown, unknown>): unknown =>
  Exit.isSuccess(exit)
    ? { success: exit.value }
    : exit.cause.reasons.map((reason) => reason._tag === "Fail" ? { failure: reason.error } : reason._tag)

/** Whether two calls end alike. */
export const isSameOutcome = (a: Exit.Exit<unknown, unknown>, b: Exit.Exit<unknown, unknown>): boolean =>
  isDeepStrictEqual(sidesOf(a), sidesOf(b))

/** Whether an answer's payload is in the format that it was asked in, and says this. */
export const saysResult = (method: Method, answer: Answer & { answer: "result" }, payload: Uint8Array): boolean => {
  const outcome = outcomeOf(method, payload)
  return outcome !== undefined && ((payload[0] ?? 0) & 0x0f) === answer.format &&
    isSameOutcome(outcome, answer.result)
}

/** Payloads to call with: empty and long, with what is fine and what is refused. */
export const payloadOf = (method: Method, seed: number, text: string): Payload =>
  method === "Plain"
    ? {
      method,
      payload: {
        text,
        flag: (seed & 1) === 1,
        bytes: Uint8Array.from({ length: seed % 50 }, (_, i) => i + seed)
      }
    }
    : {
      method,
      payload: {
        n: (seed % 5) - 1,
        items: Array.from({ length: 1 + seed % 3 }, () => text),
        ...(seed % 3 === 0 ? { note: "a note" } : {})
      }
    }

/** The bytes of such a call, in either format, with headers or not, to be answered at once or not. */
export const argsOf = (method: Method, seed: number, text: string): Buffer => {
  const format = seed % 3 === 0 ? 2 : 1
  const bytes = codecs[method].payload[format].encode(payloadOf(method, seed, text).payload)
  const flags = (seed % 7 === 0 ? 0x10 : 0) | (seed % 11 === 0 ? 0x20 : 0)
  const headers = Buffer.from(JSON.stringify([["who", "fuzz"]]))
  const length = Buffer.alloc(4)
  length.writeUInt32LE(headers.length)
  return Buffer.concat([
    Uint8Array.of(format | flags),
    ...(format === 1 ? [fingerprints[method]] : []),
    ...(seed % 7 === 0 ? [length, headers] : []),
    bytes
  ])
}

/** What comes as the arguments of a call, which must be of this payload in the binary format. */
export const isCallOf = ({ method, payload }: Payload, args: Buffer): boolean => {
  const decoded = codecs[method].payload[1].decode(rest(args, 9))
  return args[0] === 1 && args.subarray(1, 9).equals(fingerprints[method]) && Exit.isSuccess(decoded) &&
    isDeepStrictEqual(decoded.value, payload)
}

/** The payload of a valid answer to such a call: of its result, or of its failure. */
export const replyTo = (called: Payload, format: Format): Buffer => {
  const { failure, success } = codecs[called.method]
  const result: Exit.Exit<unknown, unknown> = called.method === "Plain"
    ? Exit.succeed(plain(called.payload))
    : checked(called.payload)
  return Exit.isSuccess(result)
    ? Buffer.concat([Uint8Array.of(format), success[format].encode(result.value)])
    : Buffer.concat([Uint8Array.of(format | 0x10), failure[format].encode(Cause.squash(result.cause))])
}
