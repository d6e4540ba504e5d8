/**
 * The codecs of a schema: values to bytes and back, in binary (SchemaBinary) and in JSON.
 *
 * It does not know methods, nor the bytes before a value in a payload: they belong to `payload.ts`.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as SchemaBinary from "effect/encoding/SchemaBinary"
import * as Exit from "effect/Exit"
import { Rpc } from "effect/rpc"
import * as Schema from "effect/Schema"
import type * as SchemaAST from "effect/SchemaAST"
import { noteFresh } from "../memory/gcPacing.ts"
import { checkingJson, checkingText, hasReplacement } from "./fidelity.ts"
import { problemOf } from "./problem.ts"

/** Values of one schema to bytes and back. The results are `Exit`s unless the schema needs an effect. */
export interface Codec {
  readonly encode: (value: unknown) => Effect.Effect<Uint8Array, Schema.SchemaError>
  /** The decoded value is never a view of the bytes. */
  readonly decode: (bytes: Uint8Array) => Effect.Effect<unknown, Schema.SchemaError | SyntaxError>
  /** The same without an effect; undefined if the schema does not allow it. */
  readonly direct: Direct | undefined
}

/**
 * Values to bytes and back, without an effect. If it fails, the codec is used, which reports the problem.
 */
export interface Direct {
  readonly encode: (value: unknown) => Uint8Array | undefined
  /** The value, or {@link unread}. */
  readonly decode: (bytes: Uint8Array) => unknown
  /** The frames of several values, one after the other. */
  readonly encodeMany: (values: ReadonlyArray<unknown>) => Uint8Array | undefined
  /** The values of whole frames, or {@link unread}. */
  readonly decodeMany: (bytes: Uint8Array) => ReadonlyArray<unknown> | typeof unread
}

/** Stands for a value that could not be read. */
export const unread: unique symbol = Symbol("effect-call/internal/unread")

export type ParseOptions = Context.Service.Shape<typeof Rpc.ParseOptions>

const defaultOptions: ParseOptions = Context.get(Context.empty(), Rpc.ParseOptions)

// The casts: the services that a schema needs are in the context that its effects run in. The types of `Component`
// ensure it.
type WithoutServices = Schema.Codec<unknown, unknown>

export const binary = (schema: Schema.Top, options: ParseOptions): Codec => {
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
        // U+FFFD may be a lone surrogate that was lost. This encoder says where it is. If it finds none, the user has
        // written U+FFFD.
        return (encodeChecked ??= binaryEncode(checked, options))(value)
      }),
    decode: (bytes) => {
      // Fields that hold bytes are copies.
      if (copies) noteFresh(bytes.length)
      // The input is always a plain Uint8Array. The `slice` of a Buffer makes a view, and a decoded `Uint8Array` would
      // be a view of the frame.
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
 * Whether the binary format alone checks everything that the schema requires: there are no checks, transformations or
 * classes. Only such schemas may have a shared dictionary; for others, asking for one throws. A recursive schema does
 * not qualify: its values may contain themselves, and only the schema notices that.
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

/** At most this many suspended parts are searched. If a thunk makes a new schema each time, there is no end of them. */
const maxSuspended = 100

/**
 * Whether a part of a schema, at any depth, is asked for. The answer is also yes if there are too many parts to search.
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
 * Whether a payload can be sent as the caller gave it, without the constructor of its schema. The constructor then
 * fills in nothing, picks no member of a union, and does not take a field in a place where the encoder looks for none.
 */
export const isSentAsGiven = (schema: Schema.Top): boolean =>
  !hasPart(schema, (ast) =>
    ast.context?.constructorDefault !== undefined || ast.context?.isOptional === true ||
    (ast._tag === "Objects" && ast.propertySignatures.length > 0 && ast.indexSignatures.length > 0) ||
    (ast._tag === "Union" && ast.types.some(({ _tag }) => _tag === "Objects")))

/** Whether decoded values may hold bytes of their own. Types such as `Uint8Array` are declared types. */
const mayHoldBytes = (schema: Schema.Top): boolean => hasPart(schema, ({ _tag }) => _tag === "Declaration")

/** SchemaBinary cuts its results from blocks. A result at the beginning of a block has caused a new block. */
const noteEncoded = (bytes: Uint8Array): Uint8Array => {
  if (bytes.byteOffset === 0) noteFresh(bytes.buffer.byteLength)
  return bytes
}

/** For frames of this size or more, the cost of the effect does not matter. */
const largeFrame = 16_384
/** A parser keeps the last buffer that it has read. The read buffers of sockets have this size. */
const largestHeld = 65_536

/**
 * Encodes and decodes binary without the pass of the schema around it, which has nothing to check. For calls with a
 * small struct, that pass took a fifth of the CPU on both ends.
 */
const binaryDirect = (schema: Schema.Top, copies: boolean, encodes: boolean, hasText: boolean): Direct => {
  const encoder = SchemaBinary.encoder(schema)
  let parser = SchemaBinary.parser(schema as WithoutServices)
  const sendable = (bytes: Uint8Array): Uint8Array | undefined => {
    noteEncoded(bytes)
    return hasText && hasReplacement(bytes) ? undefined : bytes
  }
  return {
    encode: (value) => {
      if (!encodes) return undefined
      try {
        return sendable(encoder.encode(value))
      } catch {
        return undefined
      }
    },
    decode: (bytes) => {
      // A parser would wait for the rest of an incomplete frame, and would take bytes after a frame for another frame.
      if (bytes.length > largeFrame || bytes.buffer.byteLength > largestHeld || !isOneFrame(bytes)) return unread
      try {
        const values = parser.feedSync(bytes)
        if (values.length === 1) {
          if (copies) noteFresh(bytes.length)
          return values[0]
        }
      } catch {
        // After a failure, a parser reads no more.
      }
      parser = SchemaBinary.parser(schema as WithoutServices)
      return unread
    },
    encodeMany: (values) => {
      if (!encodes) return undefined
      try {
        return sendable(encoder.encodeMany(values))
      } catch {
        return undefined
      }
    },
    decodeMany: (bytes) => {
      const frames = framesIn(bytes)
      if (frames === undefined) return unread
      const isHeld = bytes.buffer.byteLength <= largestHeld
      try {
        // For this many bytes, the cost of a parser of their own does not matter.
        const values = (isHeld ? parser : SchemaBinary.parser(schema as WithoutServices)).feedSync(bytes)
        if (values.length === frames) {
          if (copies) noteFresh(bytes.length)
          return values
        }
      } catch {
        // The codec reports the problem.
      }
      if (isHeld) parser = SchemaBinary.parser(schema as WithoutServices)
      return unread
    }
  }
}

/**
 * Whether the length at the beginning of the bytes is the number of bytes after it. There are at most {@link
 * largeFrame} bytes.
 */
const isOneFrame = (bytes: Uint8Array): boolean => {
  const first = bytes[0] ?? 0
  if (first < 0x80) return first + 1 === bytes.length
  const second = bytes[1] ?? 0
  if (second < 0x80) return (first & 0x7f) + second * 128 + 2 === bytes.length
  return (first & 0x7f) + (second & 0x7f) * 128 + (bytes[2] ?? 0) * 16_384 + 3 === bytes.length
}

/** Where the frame that begins at `at` ends; undefined if it does not end in these bytes. */
export const frameEnd = (bytes: Uint8Array, at: number): number | undefined => {
  let length = 0
  let scale = 1
  for (let i = at; i < bytes.length; i++) {
    const byte = bytes[i] ?? 0
    length += (byte & 0x7f) * scale
    if (byte < 0x80) {
      const end = i + 1 + length
      return end <= bytes.length ? end : undefined
    }
    scale *= 128
  }
  return undefined
}

/** How many frames the bytes are; undefined if the last one is not whole. */
const framesIn = (bytes: Uint8Array): number | undefined => {
  let frames = 0
  let at = 0
  while (at < bytes.length) {
    const end = frameEnd(bytes, at)
    if (end === undefined) return undefined
    at = end
    frames++
  }
  return frames
}

const utf8 = new TextEncoder()
const fromUtf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true })

export const json = (schema: Schema.Top, options: ParseOptions): Codec => {
  const encode = Schema.encodeEffect(Schema.toCodecJson(checkingJson(schema, "json") as WithoutServices), options)
  const decode = Schema.decodeUnknownEffect(Schema.toCodecJson(schema as WithoutServices), options)
  return {
    // In plain code: `Schema.fromJsonString` would need an effect, however simple the schema.
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
    // The value is deeper than the stack, or its text is too long.
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

/** `Effect.flatMap` that makes no effect if it is given an `Exit`. */
export const flatMapEager = <A, B, E>(
  effect: Effect.Effect<A, E>,
  f: (value: A) => Effect.Effect<B, E>
): Effect.Effect<B, E> => {
  const value = valueNow(effect)
  return value === undefined ? Effect.flatMap(effect, f) : f(value.value)
}

/** The success of an effect that has succeeded already; undefined for any other. */
export const valueNow = <A, E, R>(effect: Effect.Effect<A, E, R>): Exit.Success<A> | undefined =>
  // The type guard loses the type of the value.
  Exit.isExit(effect) && Exit.isSuccess(effect) ? effect as Exit.Success<A> : undefined
