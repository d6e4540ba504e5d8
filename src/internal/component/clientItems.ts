/**
 * The items that a client sends in one stream: the caller's values, encoded as they are pulled.
 *
 * They are pulled once, but they can be sent twice: a server whose contract differs refuses a stream in binary, and
 * takes it in JSON. By then items may have been sent, at most as many as a client may send before the server says
 * anything. So many are kept, as bytes, and rewritten in JSON: the caller's values may have changed since.
 *
 * ```
 *  ──▶ Kept ──── more was taken than may be sent at first, or the server has sent something ───▶ Taken
 * ```
 *
 * While they are kept, the caller's Stream is pulled in a fiber of its own: a Stream whose pull was interrupted cannot
 * be pulled again, and the run that waits for it ends with the refusal.
 *
 * It does not know how items are sent.
 */
import * as Channel from "effect/Channel"
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import type * as Pull from "effect/Pull"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import type { CallError } from "../../CallError.ts"
import { firstCredit } from "../session/windows.ts"
import { type Chunk, type Items, maxValues } from "./items.ts"
import { type ItemWriter, slices } from "./itemWriter.ts"
import * as Payload from "./payload.ts"

/** The next items, in bytes. */
type ItemPull = Pull.Pull<Items, unknown, unknown>

/** What the items of a stream need. */
export interface ItemSettings {
  /** The caller's. */
  readonly stream: Stream.Stream<unknown, unknown, unknown>
  /** Where they run. */
  readonly context: Context.Context<never>
  readonly scope: Scope.Scope
  readonly format: Payload.Format
  readonly writer: (format: Payload.Format) => ItemWriter
  /** Rewrites an item in JSON. */
  readonly inJson: (item: Uint8Array) => Effect.Effect<Items, CallError>
}

/** The items of one stream. */
export class ClientItems {
  private readonly settings: ItemSettings
  private format: Payload.Format
  /** The items that were given out, in the order in which that was; undefined once the server has taken the stream. */
  private kept: Array<Items> | undefined = []
  /** The size of the items that were given out, and of the last of them. */
  private givenBytes = 0
  private lastBytes = 0
  /** The caller's Stream, once it is run. */
  private opened: ItemPull | undefined = undefined
  /** Pulls from the caller's Stream, while they are kept. */
  private pulling: Fiber.Fiber<Items, unknown> | undefined = undefined

  constructor(settings: ItemSettings) {
    this.settings = settings
    this.format = settings.format
  }

  /** Whether all items can still be given in JSON. */
  get isKept(): boolean {
    return this.kept !== undefined
  }

  /** The server has taken the stream: nothing is sent a second time. */
  noteTaken(): void {
    this.kept = undefined
  }

  /** All items, to be sent in the format. An earlier run of them must have ended. */
  in(format: Payload.Format): Stream.Stream<Uint8Array, unknown, unknown> {
    return Stream.fromPull(Effect.sync((): Pull.Pull<Items, unknown> => {
      this.format = format
      const again = this.kept?.slice() ?? []
      let at = 0
      return Effect.suspend(() => {
        const items = again[at++]
        return items === undefined ? this.next() : this.fitting(items)
      })
    }))
  }

  private next(): ItemPull {
    // What was pulled last has left by now, which the client may do with so many bytes only where it has got credit.
    if (this.givenBytes - this.lastBytes >= firstCredit) this.noteTaken()
    if (this.kept === undefined && this.pulling === undefined) return this.pull
    return Effect.suspend(() => {
      const { context, scope } = this.settings
      const fiber = this.pulling ??= Fiber.runIn(Effect.runForkWith(context)(this.pull), scope)
      // Nearly always it is done at once.
      return Effect.flatMap(fiber.pollUnsafe() ?? Fiber.join(fiber), (items) => {
        this.pulling = undefined
        this.keep(items)
        return this.fitting(items)
      })
    })
  }

  private keep(items: Items): void {
    if (this.kept === undefined) return
    this.kept.push(items)
    for (const { length } of items) {
      this.lastBytes = length
      this.givenBytes += length
    }
  }

  /** Items that were encoded in another format, in this one. */
  private fitting(items: Items): ItemPull {
    if (this.format === "binary" || items[0][0] === Payload.formatCode.json) return Effect.succeed(items)
    const [first, ...more] = items
    return Effect.flatMap(
      this.settings.inJson(first),
      (rewritten) =>
        Effect.map(Effect.forEach(more, this.settings.inJson), (others): Items => {
          const [one, ...rest] = rewritten
          return [one, ...rest, ...others.flat()]
        })
    )
  }

  /** The next items of the caller's Stream. */
  private readonly pull: ItemPull = Effect.suspend(() =>
    this.opened ?? Effect.flatMap(this.open(), (opened) => {
      this.opened = opened
      return opened
    })
  )

  private open(): Effect.Effect<ItemPull> {
    const { context, scope, stream } = this.settings
    // The cast: the context has what the caller's Stream needs.
    const channel = Stream.toChannel(stream) as Channel.Channel<Chunk, unknown>
    return Effect.map(Channel.toPullScoped(channel, scope), (pull) => {
      let left: Iterator<ReadonlyArray<unknown>> | undefined
      const encode = (values: ReadonlyArray<unknown>) => this.settings.writer(this.format).encode(values)
      const encodeNext = Effect.flatMap(Effect.provideContext(pull, context), (chunk): ItemPull => {
        if (chunk.length <= maxValues) return encode(chunk)
        left = slices(chunk)
        return encoded
      })
      const encoded: ItemPull = Effect.suspend((): ItemPull => {
        const slice = left?.next()
        if (slice !== undefined && slice.done !== true) return encode(slice.value)
        left = undefined
        return encodeNext
      })
      return encoded
    })
  }
}
