/**
 * Reads the items of one stream: bytes to the values of the application.
 *
 * What comes together is one chunk. The values before an item that cannot be read are delivered before that is told. It
 * does not know where the items come from.
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Pull from "effect/Pull"
import * as Codec from "./codec.ts"
import type { Chunk, Items } from "./items.ts"
import type { ItemCodecs } from "./methodCodecs.ts"
import * as Payload from "./payload.ts"
import * as Problem from "./problem.ts"

/** How a stream ends that has an item which cannot be read. */
export type Unreadable<E> = (problem: string) => Exit.Exit<never, E>

/** Values that were read, or why the first item could not be read. */
type Reading<E> = Effect.Effect<ReadonlyArray<unknown>, E>

/** The items of one stream, in the order in which they come. */
export class ItemReader<E> {
  /** Whether items in binary are refused: the peer may have another contract. */
  onlyJson: boolean
  private readonly codecs: ItemCodecs
  private readonly unreadable: Unreadable<E>
  private readonly onValues: ((count: number) => void) | undefined
  /** How the stream ends after the values that were read. */
  private failed: Exit.Exit<never, E> | undefined = undefined

  constructor(
    codecs: ItemCodecs,
    onlyJson: boolean,
    unreadable: Unreadable<E>,
    onValues: ((count: number) => void) | undefined
  ) {
    this.codecs = codecs
    this.onlyJson = onlyJson
    this.unreadable = unreadable
    this.onValues = onValues
  }

  /** The values of the items that `source` gives. */
  values<E2, Done, R>(source: Pull.Pull<Items, E2, Done, R>): Pull.Pull<Chunk, E | E2, Done, R> {
    // Made once for each stream.
    const next: Pull.Pull<Chunk, E | E2, Done, R> = Effect.flatMap(
      Effect.suspend((): Pull.Pull<Items, E | E2, Done, R> => this.failed ?? source),
      (items): Pull.Pull<Chunk, E | E2, Done, R> => {
        const values = this.read(items)
        const now = Codec.valueNow(values)
        if (now !== undefined) return this.given(now.value) ?? next
        return Effect.flatMap(values, (values): Pull.Pull<Chunk, E | E2, Done, R> => this.given(values) ?? next)
      }
    )
    return next
  }

  /** A chunk; undefined if there is nothing in it. */
  private given(values: ReadonlyArray<unknown>): Exit.Exit<Chunk> | undefined {
    if (values.length === 0) return undefined
    this.onValues?.(values.length)
    // The cast: it has a value.
    return Exit.succeed(values as Chunk)
  }

  private read(items: Items): Reading<E> {
    if (items.length === 1) return this.one(items[0])
    if (!this.onlyJson) {
      const together = this.together(items)
      if (together !== undefined) return Exit.succeed(together)
    }
    return this.oneByOne(items, 0, [])
  }

  private together(items: Items): ReadonlyArray<unknown> | undefined {
    try {
      return this.codecs("binary").decodeAll(items)
    } catch {
      // What is wrong is told where they are read one by one.
      return undefined
    }
  }

  /** Reads the items from `start` on, up to one that cannot be read. `values` are those of the items before. */
  private oneByOne(items: Items, start: number, values: Array<unknown>): Reading<E> {
    for (let at = start; at < items.length; at++) {
      const item = items[at]
      if (item === undefined) break
      const read = this.one(item)
      const now = Codec.valueNow(read)
      if (now === undefined) {
        return Effect.matchCauseEffect(read, {
          onSuccess: (more) => this.oneByOne(items, at + 1, append(values, more)),
          onFailure: (cause) => this.upTo(values, Exit.failCause(cause))
        })
      }
      append(values, now.value)
    }
    return Exit.succeed(values)
  }

  /** The values before an item that cannot be read. The failure comes with the next pull. */
  private upTo(values: ReadonlyArray<unknown>, failed: Exit.Exit<never, E>): Reading<E> {
    if (values.length === 0) return failed
    this.failed = failed
    return Exit.succeed(values)
  }

  private one(item: Uint8Array): Reading<E> {
    const byte = item[0]
    const format = byte === undefined ? undefined : Payload.formatOf(byte, 0)
    if (format === undefined) {
      const got = byte === undefined ? "nothing" : `format 0x${byte.toString(16).padStart(2, "0")}`
      return this.unreadable(`expected a format this version knows, got ${got}`)
    }
    if (format === "binary" && this.onlyJson) return this.unreadable("expected JSON, got binary")
    try {
      const values = this.codecs(format).decode(item)
      return Codec.valueNow(values) ?? Effect.catchCause(values, (cause) => this.unread(cause))
    } catch (defect) {
      return this.unread(Cause.die(defect))
    }
  }

  private unread(cause: Cause.Cause<unknown>): Exit.Exit<never, E> {
    const refusal = Problem.refusalOf(cause)
    return refusal === undefined ? Exit.die(Cause.squash(cause)) : this.unreadable(Problem.misfit(refusal))
  }
}

const append = (values: Array<unknown>, more: ReadonlyArray<unknown>): Array<unknown> => {
  // Not with a spread: there may be more values than the stack takes.
  for (const value of more) values.push(value)
  return values
}
