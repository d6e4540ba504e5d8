/**
 * The items that one end sends on a stream: they leave while there is credit and room, in the order in which they were
 * given.
 *
 * It must not know what an item means, or who makes them. A write is done at once where there is credit and room.
 */
import type * as Effect from "effect/Effect"
import type { Flow } from "./flow.ts"

/** One direction of a stream, sending. */
export class OutgoingItems {
  /** How many items and bytes of payload (prefixes included) have left. */
  items = 0
  bytes = 0

  /** `credit` is what may be sent at first, in bytes; `maxItem` the size of the largest item. */
  constructor(_id: number, _flow: Flow, _credit: number, _maxItem: number) {}

  /**
   * Sends items. It ends when all of them have left. It dies where one is no Uint8Array, and fails with `ItemTooLarge`
   * where one is longer than `maxItem`; then the items before it have left. One write at a time.
   */
  readonly write: (items: ReadonlyArray<Uint8Array>) => Effect.Effect<void, ItemTooLarge> = () => {
    throw new Error("not yet")
  }

  /** The peer takes so many bytes more. Returns what is wrong with that. */
  grant(_bytes: number): string | undefined {
    throw new Error("not yet")
  }

  /** Nothing leaves any more. A write that waits never ends: its fiber is to be interrupted. */
  close(): void {
    throw new Error("not yet")
  }
}

/** An item is longer than the largest message. */
export class ItemTooLarge {
  readonly _tag = "ItemTooLarge"
  readonly size: number
  readonly limit: number
  constructor(size: number, limit: number) {
    this.size = size
    this.limit = limit
  }
}
