/**
 * What a component's arguments and results are on the wire, inside the payloads of requests and responses.
 *
 * The first byte is the format:
 *
 * | bits | in a request | in a response |
 * |---|---|---|
 * | 0–3 | 1 SchemaBinary, 2 JSON | as in the request |
 * | 4 | headers follow, before the arguments | the result is one of the method's failures |
 * | 5 | discard: answer as soon as the handler starts | 0 |
 * | 6–7 | 0, kept for streams | 0, kept for streams |
 *
 * In binary, the fingerprint of the method's contract follows it in a request: 8 bytes. A server whose own differs runs
 * nothing and answers with an error of its own (`contractDiffers`); the client then sends the method in JSON on that
 * connection.
 *
 * Headers are a u32 (little-endian) with the length of what follows in bytes: a JSON array of `[name, value]`.
 */
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as SchemaBinary from "effect/encoding/SchemaBinary"
import * as Exit from "effect/Exit"
import * as Headers from "effect/http/Headers"
import * as Option from "effect/Option"
import { Rpc } from "effect/rpc"
import * as Schema from "effect/Schema"
import type * as SchemaAST from "effect/SchemaAST"
import * as SchemaIssue from "effect/SchemaIssue"
import { Buffer } from "node:buffer"
import type { MethodKey } from "../../MethodKey.ts"
import { unexpected } from "../guard.ts"
import { ownBytes } from "../memory/bytes.ts"
import { noteFresh } from "../memory/gcPacing.ts"
import type { Fingerprint } from "../protocol/fingerprint.ts"
import { attempt, causeOf, isInstance, textOf } from "../userError.ts"
import { contractOf, fingerprintOf } from "./contract.ts"
import { checkingJson, checkingText, hasReplacement } from "./fidelity.ts"

/** How values are written: compact and open to evolution, or readable. */
export type Format = "binary" | "json"

/** Bits 0–3. */
const codecBits = 0x0f
export const formatCode: Readonly<Record<Format, number>> = { binary: 1, json: 2 }
const formatOfCode: ReadonlyArray<Format | undefined> = [undefined, "binary", "json"]

/** Bits 4 and 5. */
export const hasHeaders = 0x10
export const isFailure = 0x10
export const isDiscarded = 0x20

/** The format of a payload's first byte, where it has no bit set beyond `flags`. */
export const formatOf = (byte: number, flags: number): Format | undefined =>
  (byte & ~(codecBits | flags)) === 0 ? formatOfCode[byte & codecBits] : undefined

/** Values of one schema to bytes and back. What comes back are `Exit`s where the schema needs nothing that takes time. */
export interface Codec {
  readonly encode: (value: unknown) => Effect.Effect<Uint8Array, Schema.SchemaError>
  /** No value that it gives is a view of the bytes. */
  readonly decode: (bytes: Uint8Array) => Effect.Effect<unknown, Schema.SchemaError | SyntaxError>
  /** The same without an effect, where there is such a way. */
  readonly direct: Direct | undefined
}

/** Values to bytes and back at once. What it refuses is a matter for the codec that it belongs to: that one says what is wrong. */
export interface Direct {
  readonly encode: (value: unknown) => Uint8Array | undefined
  /** {@link unread} where there is no value. */
  readonly decode: (bytes: Uint8Array) => unknown
}

/** Stands for a value that could not be read. */
export const unread: unique symbol = Symbol("effect-call/internal/unread")

type ParseOptions = Context.Service.Shape<typeof Rpc.ParseOptions>

const defaultOptions: ParseOptions = Context.get(Context.empty(), Rpc.ParseOptions)

// What a schema needs is in the context in which its effects are run: the types of `Component` see to that.
type WithoutServices = Schema.Codec<unknown, unknown>

const binary = (schema: Schema.Top, options: ParseOptions): Codec => {
  const written = checkingJson(schema, "binary")
  const encode = binaryEncode(written, options)
  const decode = Schema.decodeEffect(SchemaBinary.toCodec(schema as WithoutServices), options) as Codec["decode"]
  const copies = mayHoldBytes(schema)
  const checked = checkingText(written)
  const hasText = checked !== written
  let encodeChecked: typeof encode | undefined
  return {
    encode: (value) =>
      flatMapEager(encode(value), (bytes) => {
        if (!hasText || !hasReplacement(bytes)) return Exit.succeed(noteEncoded(bytes))
        noteEncoded(bytes)
        // Says where a text is that UTF-8 has no form for. Where there is none, a user has written the replacement
        // character.
        return (encodeChecked ??= binaryEncode(checked, options))(value)
      }),
    decode: (bytes) => {
      // Fields that are bytes are copies.
      if (copies) noteFresh(bytes.length)
      // The input is always a plain Uint8Array: of a Buffer, `slice` makes a view, and a decoded `Uint8Array` would be one of the frame.
      return decode(bytes)
    },
    direct: options === defaultOptions && isSelfValidating(schema)
      ? binaryDirect(schema, copies, written === schema, hasText)
      : undefined
  }
}

const binaryEncode = (schema: Schema.Top, options: ParseOptions) =>
  Schema.encodeEffect(SchemaBinary.toCodec(schema as WithoutServices), options)

/**
 * Whether the binary format by itself checks all that the schema asks for: no checks, no transformations, no classes. Only such schemas may
 * have a shared dictionary, and asking for one throws otherwise. Values of recursive schemas may be cyclic, which only the schema notices.
 */
const isSelfValidating = (schema: Schema.Top): boolean => {
  if (hasPart(schema, ({ _tag }) => _tag === "Suspend")) return false
  try {
    SchemaBinary.encoder(schema, { dictionary: true })
    return true
  } catch {
    return false
  }
}

/**
 * So many parts that are suspended are looked into. Where a thunk makes a schema anew each time, there is no end of
 * them.
 */
const maxSuspended = 100

/**
 * Whether a part of a schema, in whatever depth, is one that is asked for. So it is said, too, where there are too many
 * to know.
 */
const hasPart = (schema: Schema.Top, isAskedFor: (ast: SchemaAST.AST) => boolean): boolean => {
  const seen = new Set<SchemaAST.AST>()
  let suspended = 0
  const search = (ast: SchemaAST.AST): boolean => {
    if (seen.has(ast)) return false
    seen.add(ast)
    if (isAskedFor(ast)) return true
    if (ast._tag === "Objects") {
      return [...ast.propertySignatures, ...ast.indexSignatures].some(({ type }) => search(type))
    }
    if (ast._tag === "Arrays") return [...ast.elements, ...ast.rest].some(search)
    if (ast._tag === "Union") return ast.types.some(search)
    if (ast._tag === "Suspend") return ++suspended > maxSuspended || search(ast.thunk())
    return ast._tag === "Declaration" && ast.typeParameters.some(search)
  }
  return search(schema.ast)
}

/**
 * Whether what a method is called with can be sent as it is, and what its schema would make of it need not be made first: the constructor
 * fills nothing in, picks no member of a union, and takes no field where the encoder looks for none.
 */
export const isSentAsGiven = (schema: Schema.Top): boolean =>
  !hasPart(schema, (ast) =>
    ast.context?.constructorDefault !== undefined || ast.context?.isOptional === true ||
    (ast._tag === "Objects" && ast.propertySignatures.length > 0 && ast.indexSignatures.length > 0) ||
    (ast._tag === "Union" && ast.types.some(({ _tag }) => _tag === "Objects")))

/** Whether decoded values have bytes of their own: those of the standard library's types, such as `Uint8Array`, are declared. */
const mayHoldBytes = (schema: Schema.Top): boolean => hasPart(schema, ({ _tag }) => _tag === "Declaration")

/** SchemaBinary cuts what it writes from blocks; what lies at the beginning of one has brought a fresh one with it. */
const noteEncoded = (bytes: Uint8Array): Uint8Array => {
  if (bytes.byteOffset === 0) noteFresh(bytes.buffer.byteLength)
  return bytes
}

/** From this size on the effect is not what costs. */
const largeFrame = 16_384
/** A parser keeps hold of the buffer that it has read from last: one that sockets are read into is as large. */
const largestHeld = 65_536

/**
 * Without the pass of the schema around the binary format, which has nothing left to say. Where both ends of a call read and write a small
 * struct, that pass took a fifth of their CPU.
 */
const binaryDirect = (schema: Schema.Top, copies: boolean, encodes: boolean, hasText: boolean): Direct => {
  const encoder = SchemaBinary.encoder(schema)
  let parser = SchemaBinary.parser(schema as WithoutServices)
  return {
    encode: (value) => {
      if (!encodes) return undefined
      try {
        const bytes = noteEncoded(encoder.encode(value))
        return hasText && hasReplacement(bytes) ? undefined : bytes
      } catch {
        return undefined
      }
    },
    decode: (bytes) => {
      // A parser would wait for the rest of a frame that is cut, and take what comes after a frame for another.
      if (bytes.length > largeFrame || bytes.buffer.byteLength > largestHeld || !isOneFrame(bytes)) return unread
      try {
        const values = parser.feedSync(bytes)
        if (values.length === 1) {
          if (copies) noteFresh(bytes.length)
          return values[0]
        }
      } catch {
        // One that has failed reads no more.
      }
      parser = SchemaBinary.parser(schema as WithoutServices)
      return unread
    }
  }
}

/** Whether bytes, no more than {@link largeFrame}, are as many as the length says that stands before them. */
const isOneFrame = (bytes: Uint8Array): boolean => {
  const first = bytes[0] ?? 0
  if (first < 0x80) return first + 1 === bytes.length
  const second = bytes[1] ?? 0
  if (second < 0x80) return (first & 0x7f) + second * 128 + 2 === bytes.length
  return (first & 0x7f) + (second & 0x7f) * 128 + (bytes[2] ?? 0) * 16_384 + 3 === bytes.length
}

const utf8 = new TextEncoder()
const fromUtf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true })

const json = (schema: Schema.Top, options: ParseOptions): Codec => {
  const encode = Schema.encodeEffect(Schema.toCodecJson(checkingJson(schema, "json") as WithoutServices), options)
  const decode = Schema.decodeUnknownEffect(Schema.toCodecJson(schema as WithoutServices), options)
  return {
    // In plain code: `Schema.fromJsonString` would make an effect of each, however simple the schema.
    encode: (value) => flatMapEager(encode(value), writeJson),
    decode: (bytes) => {
      const parsed = parseJson(bytes)
      return Exit.isSuccess(parsed) ? decode(parsed.value) : parsed
    },
    direct: undefined
  }
}

const writeJson = (json: unknown): Exit.Exit<Uint8Array> => {
  try {
    return Exit.succeed(utf8.encode(JSON.stringify(json)))
  } catch (error) {
    // It is deeper than the stack, or longer than a text may be.
    return Exit.die(error)
  }
}

const parseJson = (bytes: Uint8Array): Exit.Exit<unknown, SyntaxError> => {
  try {
    return Exit.succeed(JSON.parse(fromUtf8.decode(bytes)))
  } catch (error) {
    return Exit.fail(new SyntaxError(`Expected JSON: ${problemOf(error)}`))
  }
}

/** `Effect.flatMap` that leaves an `Exit` one. */
const flatMapEager = <A, B, E>(
  effect: Effect.Effect<A, E>,
  f: (value: A) => Effect.Effect<B, E>
): Effect.Effect<B, E> => {
  const value = valueNow(effect)
  return value === undefined ? Effect.flatMap(effect, f) : f(value.value)
}

/** What an effect has succeeded with already, if it has. */
export const valueNow = <A, E, R>(effect: Effect.Effect<A, E, R>): Exit.Success<A> | undefined =>
  // The type guard forgets what the exit is one of.
  Exit.isExit(effect) && Exit.isSuccess(effect) ? effect as Exit.Success<A> : undefined

/** A schema of a method has no form in a format. */
class Unsendable extends TypeError {
  readonly part: string
  readonly problem: string

  constructor(part: string, format: Format, cause: unknown) {
    const problem = `cannot be sent in ${format}: ${problemOf(cause)}`
    super(`its ${part} ${problem}`, { cause })
    this.part = part
    this.problem = problem
  }
}

/**
 * A failure that there never is. Where a method has one kind of failure only, SchemaBinary does not write which it is, and what was written
 * before a second one came, with a middleware perhaps, could not be read any more.
 */
const NoFailure = Schema.TaggedStruct("effect-call/NoFailure", {})

const allCodecs = new WeakMap<Rpc.AnyWithProps, MethodCodecs>()

/** The codecs of one method, in every format that it is called in. Each is compiled when it is first needed. */
export class MethodCodecs {
  readonly payload: (format: Format) => Codec
  readonly success: (format: Format) => Codec
  readonly error: (format: Format) => Codec
  /** What a payload is on the wire, without what its schema makes of that. */
  private readonly encodedPayload: (format: Format) => Codec
  /** Stands for the contract; undefined where the method has no binary form. */
  readonly fingerprint: () => Fingerprint | undefined

  constructor(rpc: Rpc.AnyWithProps) {
    const options = Context.get(rpc.annotations, Rpc.ParseOptions)
    const errors = new Set([rpc.errorSchema, ...Array.from(rpc.middlewares, (middleware) => middleware.error)])
    this.payload = lazily("payload", () => rpc.payloadSchema, options)
    this.encodedPayload = lazily("payload", () => Schema.toEncoded(rpc.payloadSchema), options)
    this.success = lazily("success", () => rpc.successSchema, options)
    this.error = lazily(
      "error",
      (format) => Schema.Union(format === "binary" ? [...errors, NoFailure] : [...errors]),
      options
    )
    let known: { readonly fingerprint: Fingerprint | undefined } | undefined
    this.fingerprint = () =>
      (known ??= {
        fingerprint: this.problemIn("binary") === undefined ? fingerprintOf(contractOf(rpc, [...errors])) : undefined
      }).fingerprint
  }

  /**
   * Puts a payload from binary into JSON. The schema's transformations have no part in it: what is read need not be
   * what was written, and they may need what only a server has.
   */
  payloadInJson(bytes: Uint8Array): Effect.Effect<Uint8Array, Schema.SchemaError | SyntaxError> {
    return Effect.flatMap(
      this.encodedPayload("binary").decode(bytes),
      (encoded) => this.encodedPayload("json").encode(encoded)
    )
  }

  /** Those of an Rpc, which all its clients and servers share. */
  static of(rpc: Rpc.AnyWithProps): MethodCodecs {
    let codecs = allCodecs.get(rpc)
    if (codecs === undefined) {
      codecs = new MethodCodecs(rpc)
      allCodecs.set(rpc, codecs)
    }
    return codecs
  }

  /**
   * Compiles all of them in one of the formats, so that a schema that cannot be sent at all is found where it is declared to be, and not by
   * its first caller.
   */
  compile({ component, method }: MethodKey, ...formats: ReadonlyArray<Format>): void {
    const problems: Array<string> = []
    for (const format of formats) {
      const unsendable = this.problemIn(format)
      if (unsendable === undefined) return
      problems.push(`the ${unsendable.part} of ${component}.${method} ${unsendable.problem}`)
    }
    throw new TypeError(problems.join("; "))
  }

  /** Why not all of them have a form in a format; undefined where they have. */
  problemIn(format: Format): Unsendable | undefined {
    try {
      this.payload(format)
      this.success(format)
      this.error(format)
      return undefined
    } catch (error) {
      if (error instanceof Unsendable) return error
      throw error
    }
  }
}

const lazily = (
  part: string,
  schema: (format: Format) => Schema.Top,
  options: ParseOptions
): (format: Format) => Codec => {
  const made: Partial<Record<Format, Codec>> = {}
  const compile = (format: Format): Codec => {
    try {
      return (format === "binary" ? binary : json)(schema(format), options)
    } catch (cause) {
      throw new Unsendable(part, format, cause)
    }
  }
  return (format) => made[format] ??= compile(format)
}

/** A plain view: of a Buffer, decoders would make views that are not copies. */
export const view = (bytes: Uint8Array, start: number, end: number): Uint8Array => ownBytes(bytes, start, end, true)

/** What goes before some bytes, and the bytes. */
export const joined = (first: Uint8Array, second: Uint8Array): Uint8Array => {
  const both = new Uint8Array(first.length + second.length)
  both.set(first)
  both.set(second, first.length)
  return both
}

/** The block of headers that goes before the arguments. */
export const encodeHeaders = (headers: Headers.Headers): Uint8Array => {
  // Whatever their types say, they may be anything.
  const pairs: ReadonlyArray<readonly [name: string, value: unknown]> = Object.entries(headers)
  for (const [name, value] of pairs) {
    if (typeof value !== "string") throw unexpected(`the header ${name}`, "a text", value)
  }
  const text = utf8.encode(JSON.stringify(pairs))
  const block = new Uint8Array(4 + text.length)
  new DataView(block.buffer).setUint32(0, text.length, true)
  block.set(text, 4)
  return block
}

const HeaderPairs = Schema.decodeUnknownExit(
  Schema.fromJsonString(Schema.Array(Schema.Tuple([Schema.String, Schema.String])))
)

/** Where the arguments begin, behind a block of headers at `start` that is known to be one. */
export const endOfHeaders = (bytes: Uint8Array, start: number): number =>
  start + 4 + new DataView(bytes.buffer, bytes.byteOffset + start, 4).getUint32(0, true)

/** Reads the block of headers at `start`: the headers, and where the arguments begin; undefined where it is none. */
export const decodeHeaders = (
  bytes: Uint8Array,
  start: number,
  end: number
): { readonly headers: Headers.Headers; readonly next: number } | undefined => {
  if (end - start < 4) return undefined
  const next = endOfHeaders(bytes, start)
  if (next > end) return undefined
  const pairs = HeaderPairs(Buffer.from(bytes.buffer, bytes.byteOffset + start + 4, next - start - 4).toString("utf8"))
  return Exit.isSuccess(pairs) ? { headers: Headers.fromInput(pairs.value), next } : undefined
}

/** Texts of issues are cut here: a path may contain keys of any length. */
const maxProblemLength = 1000

/** Whether an error is one of a schema; what `make` throws has the issue as its cause. */
const isOfSchema = (error: unknown): boolean =>
  attempt(() => Schema.isSchemaError(error) || issueOf(error) !== undefined, false)

const issueOf = (error: unknown): SchemaIssue.Issue | undefined => {
  const cause = causeOf(error)
  return attempt(() => SchemaIssue.isIssue(cause) ? cause : undefined, undefined)
}

/** What is wrong with a value, in one line: what was expected, and where. */
export const problemOf = (error: unknown): string => {
  const issue = issueOf(error)
  const known = attempt(() => issue === undefined ? error : new Schema.SchemaError(issue), error)
  const text = textOf(known)
  const line = text.replaceAll("\n  at", " at").replaceAll("\n", "; ")
  return line.length <= maxProblemLength ? line : `${line.slice(0, maxProblemLength)}…`
}

/**
 * Why bytes could not be decoded, where that is because of the bytes, or of a contract that has no such format. Undefined where a schema's
 * transformation has died: that is a bug of this side.
 */
export const refusalOf = (cause: Cause.Cause<unknown>): string | undefined => {
  const error = errorOfCause(cause)
  const isFailure = Option.isSome(Cause.findErrorOption(cause))
  return isFailure || isInstance(error, Unsendable) || isTooDeep(error) ? problemOf(error) : undefined
}

/** What is wrong, by a cause. */
export const problemOfCause = (cause: Cause.Cause<unknown>): string => problemOf(errorOfCause(cause))

/** The same, with what is most likely to be the reason. */
export const misfit = (problem: string): string => `${problem} (client and server may have different contracts)`

/** Values that are nested deeper than the stack. */
const isTooDeep = (error: unknown): boolean => isInstance(error, RangeError) && /call stack/.test(textOf(error))

/** The error, or the defect, in a cause. */
const errorOfCause = (cause: Cause.Cause<unknown>): unknown =>
  Option.getOrElse(Cause.findErrorOption(cause), () => Cause.squash(cause))

/** The defect that a value cannot be encoded. */
export const unencodable = (
  what: "payload" | "result" | "failure",
  { component, method }: MethodKey,
  cause: unknown
): TypeError => {
  const error = attempt(() => Cause.isCause(cause) ? errorOfCause(cause) : cause, cause)
  const text = `the ${what} of ${component}.${method} cannot be encoded: ${problemOf(error)}`
  // What a schema has found is in the text, as much of it as anybody wants to read. A bug has a stack that is worth having.
  return isOfSchema(error) ? new TypeError(text) : new TypeError(text, { cause: error })
}
