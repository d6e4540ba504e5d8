/**
 * Writes the values of one stream as items: a chunk is one item, unless it is very large.
 *
 * It does not know where the values come from, nor how items are sent.
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type { MethodKey } from "../../MethodKey.ts"
import * as Codec from "./codec.ts"
import { type Chunk, type ItemCodec, type Items, maxValues } from "./items.ts"
import * as Problem from "./problem.ts"

/** Writes items, each with this first byte. */
type Write = (bodies: Items, code: number) => Effect.Effect<void>

/** Encodes the chunks of one stream. */
export class ItemWriter {
  private readonly codec: ItemCodec
  private readonly key: MethodKey
  private readonly onValues: ((count: number) => void) | undefined
  private readonly onUnencodable: ((cause: Cause.Cause<never>) => void) | undefined

  constructor(
    codec: ItemCodec,
    key: MethodKey,
    onValues: ((count: number) => void) | undefined,
    onUnencodable?: (cause: Cause.Cause<never>) => void
  ) {
    this.codec = codec
    this.key = key
    this.onValues = onValues
    this.onUnencodable = onUnencodable
  }

  /** The items of at most {@link maxValues} values. A value that its schema refuses is a defect. */
  encode(values: ReadonlyArray<unknown>): Effect.Effect<Items> {
    return this.encoded(values, this.codec.encode)
  }

  private encoded(values: ReadonlyArray<unknown>, encode: ItemCodec["encode"]): Effect.Effect<Items> {
    let encoded: Effect.Effect<Items, unknown>
    try {
      encoded = encode(values)
    } catch (defect) {
      return this.unencodable(defect)
    }
    this.onValues?.(values.length)
    return Codec.valueNow(encoded) ??
      Effect.catchCause(encoded, (cause) => this.unencodable(cause))
  }

  /** Encodes a chunk, and has its items written. */
  write(values: Chunk, write: Write): Effect.Effect<void> {
    if (values.length <= maxValues) return this.encodeAndWrite(values, write)
    let at = 0
    return Effect.whileLoop({
      while: () => at < values.length,
      body: () => this.encodeAndWrite(values.slice(at, at + maxValues), write),
      step: () => {
        at += maxValues
      }
    })
  }

  private encodeAndWrite(
    values: ReadonlyArray<unknown>,
    write: Write
  ): Effect.Effect<void> {
    const { code, encodeBodies } = this.codec
    const bodies = this.encoded(values, encodeBodies)
    const now = Codec.valueNow(bodies)
    return now === undefined ? Effect.flatMap(bodies, (bodies) => write(bodies, code)) : write(now.value, code)
  }

  private unencodable(why: unknown): Exit.Exit<never> {
    const cause = Cause.die(Problem.unencodable("item", this.key, why))
    this.onUnencodable?.(cause)
    return Exit.failCause(cause)
  }
}

/** A chunk in slices of at most {@link maxValues} values. */
export const slices = function*(values: Chunk): Generator<ReadonlyArray<unknown>> {
  if (values.length <= maxValues) return yield values
  for (let at = 0; at < values.length; at += maxValues) yield values.slice(at, at + maxValues)
}
