/**
 * The items of typed streams: chunks of values to items and back.
 *
 * An item is one message of a stream: the byte of its format, and a chunk of values. A chunk of the application is one
 * item, unless it is very large. Nothing is done for each value of a chunk beside its encoding.
 *
 * It does not know streams, calls or methods.
 */
import type * as Arr from "effect/Array"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Schema from "effect/Schema"
import { Buffer } from "node:buffer"
import { freshBytes } from "../memory/bytes.ts"
import * as Codec from "./codec.ts"
import * as Payload from "./payload.ts"

/** Values that a stream gives together. */
export type Chunk = Arr.NonEmptyReadonlyArray<unknown>

/** Why a chunk cannot be encoded or decoded. */
export type ItemProblem = Schema.SchemaError | SyntaxError

/** The items of one schema in one format. The results are `Exit`s unless the schema needs an effect. */
export interface ItemCodec {
  /** The byte that each item begins with. */
  readonly code: number
  /** The items of at most {@link maxValues} values. All of them can be encoded, or none is. */
  readonly encode: (values: ReadonlyArray<unknown>) => Effect.Effect<Items, ItemProblem>
  /** The same without the first byte of each, which saves a copy. */
  readonly encodeBodies: (values: ReadonlyArray<unknown>) => Effect.Effect<Items, ItemProblem>
  /** The values of an item. They are never views of its bytes. */
  readonly decode: (item: Uint8Array) => Effect.Effect<ReadonlyArray<unknown>, ItemProblem>
  /**
   * The values of many small items together; undefined if one of them cannot be read like that. Reading each of them
   * takes several times as long.
   */
  readonly decodeAll: (items: Items) => ReadonlyArray<unknown> | undefined
}

/** Whole items, each with the byte of its format. */
export type Items = Arr.NonEmptyReadonlyArray<Uint8Array>

/** A larger chunk is several items, so that encoding it does not hold up the event loop. */
export const maxValues = 4096

/**
 * An item of several values is at most this long, in bytes. So it is below any limit of a message, and its receiver
 * need not keep much of it.
 */
const maxItem = 262_144

/** Together, at most this many bytes of small items are decoded at once. */
const maxJoined = 65_536

/** The items of a schema in a format. It throws if its values cannot be written in the format. */
export const makeItemCodec = (schema: Schema.Top, format: Payload.Format, options: Codec.ParseOptions): ItemCodec =>
  format === "binary" ? inBinary(Codec.binary(schema, options)) : inJson(Codec.json(Schema.Array(schema), options))

const inBinary = (codec: Codec.Codec): ItemCodec => {
  const { direct } = codec
  return {
    ...encoders("binary", (values) => {
      const frames = direct?.encodeMany(values)
      if (frames !== undefined) return Exit.succeed(cut(frames))
      return Codec.flatMapEager(each(values, codec.encode), (frames) => Exit.succeed(cut(whole(frames))))
    }),
    decode: (item) => {
      const frames = Payload.view(item, 1, item.length)
      if (direct !== undefined) {
        const values = direct.decodeMany(frames)
        if (values !== Codec.unread) return Exit.succeed(values)
      }
      const views = split(frames)
      return views === undefined ? Exit.fail(incomplete) : each(views, codec.decode)
    },
    decodeAll: (items) => {
      const frames = direct === undefined ? undefined : joined(items)
      const values = frames === undefined ? undefined : direct?.decodeMany(frames)
      return values === Codec.unread ? undefined : values
    }
  }
}

const incomplete = new SyntaxError("Expected whole values, got a part of one")

const inJson = (codec: Codec.Codec): ItemCodec => {
  const encode: ItemCodec["encodeBodies"] = (values) =>
    Codec.flatMapEager(codec.encode(values), (json): Effect.Effect<Items, ItemProblem> => {
      if (json.length <= maxItem || values.length === 1) return Exit.succeed([json])
      const middle = values.length >> 1
      return Codec.flatMapEager(
        encode(values.slice(0, middle)),
        ([first, ...more]) =>
          Codec.flatMapEager(
            encode(values.slice(middle)),
            (last): Exit.Exit<Items> => Exit.succeed([first, ...more, ...last])
          )
      )
    })
  return {
    ...encoders("json", encode),
    // The cast: the codec is one of an array.
    decode: (item) => codec.decode(Payload.view(item, 1, item.length)) as ReturnType<ItemCodec["decode"]>,
    decodeAll: () => undefined
  }
}

/** Does one thing after the other; without an effect, unless one of them needs it. */
const each = <A, B, E>(
  values: ReadonlyArray<A>,
  f: (value: A) => Effect.Effect<B, E>
): Effect.Effect<ReadonlyArray<B>, E> => {
  const results: Array<B> = []
  for (const [at, value] of values.entries()) {
    const result = f(value)
    const now = Codec.valueNow(result)
    if (now === undefined) {
      return Effect.flatMap(
        result,
        (first) => Effect.map(Effect.forEach(values.slice(at + 1), f), (more) => [...results, first, ...more])
      )
    }
    results.push(now.value)
  }
  return Exit.succeed(results)
}

const whole = (frames: ReadonlyArray<Uint8Array>): Uint8Array =>
  frames.length === 1 && frames[0] !== undefined ? frames[0] : Buffer.concat(frames)

/** The items of these frames: mostly one. They are cut between values. */
const cut = (frames: Uint8Array): Items => {
  if (frames.length <= maxItem) return [frames]
  const items: Array<Uint8Array> = []
  let start = 0
  let end = 0
  while (end < frames.length) {
    const next = Codec.frameEnd(frames, end) ?? frames.length
    if (next - start > maxItem && end > start) {
      items.push(frames.subarray(start, end))
      start = end
    }
    end = next
  }
  // The last one is never empty.
  return [...items, frames.subarray(start, end)] as unknown as Items
}

/** V8 keeps small typed arrays in its own heap, and Node has a block for others that are not large. */
const inHeap = 64
const inBlock = 4096

const encoders = (
  format: Payload.Format,
  encodeBodies: ItemCodec["encodeBodies"]
): Pick<ItemCodec, "code" | "encode" | "encodeBodies"> => {
  const code = Payload.formatCode[format]
  return {
    code,
    encodeBodies,
    encode: (values) =>
      Codec.flatMapEager(
        encodeBodies(values),
        ([first, ...more]) =>
          Exit.succeed([withCode(code, first), ...more.map((body) => withCode(code, body))] as const)
      )
  }
}

const withCode = (code: number, body: Uint8Array): Uint8Array => {
  const length = 1 + body.length
  const item = length <= inHeap
    ? new Uint8Array(length)
    : length < inBlock
    ? Buffer.allocUnsafe(length)
    : freshBytes(length)
  item[0] = code
  item.set(body, 1)
  return item
}

/** The frames of these bytes; undefined if the last one is not whole. */
const split = (bytes: Uint8Array): ReadonlyArray<Uint8Array> | undefined => {
  const frames: Array<Uint8Array> = []
  let at = 0
  while (at < bytes.length) {
    const end = Codec.frameEnd(bytes, at)
    if (end === undefined) return undefined
    frames.push(Payload.view(bytes, at, end))
    at = end
  }
  return frames
}

/** The frames of many small items, one after the other; undefined if they are not small, or not in binary. */
const joined = (items: Items): Uint8Array | undefined => {
  let length = 0
  for (const item of items) {
    if (item[0] !== Payload.formatCode.binary) return undefined
    length += item.length - 1
  }
  if (length > maxJoined) return undefined
  const frames = new Uint8Array(length)
  let at = 0
  for (const item of items) {
    // For a few bytes a loop is faster than `set`.
    if (item.length <= 32) { for (let i = 1; i < item.length; i++) frames[at++] = item[i] ?? 0 }
    else {
      frames.set(item.subarray(1), at)
      at += item.length - 1
    }
  }
  return frames
}
