/**
 * The items that one end receives on a stream: they are checked as they come, wait until they are taken, and what was
 * taken is granted to the peer again.
 *
 * It must not know what an item means, or who takes them.
 */
import type * as Arr from "effect/Array"
import type * as Effect from "effect/Effect"
import type * as Exit from "effect/Exit"
import type { Unfinished } from "./unfinished.ts"
import type { Windows } from "./windows.ts"

/** Why a stream must end: its peer has broken a rule or a limit. */
export interface Violation {
  readonly _tag: "FlowControl" | "TooLarge" | "Overloaded"
  /** What came and what was expected, as a text. */
  readonly problem: string
}

/** What the streams of one connection have in common where they receive. */
export interface ItemsReceiver {
  readonly windows: Windows
  readonly unfinished: Unfinished
  /** The size of the largest item, in bytes. */
  readonly maxItem: number
  /** Lets the peer send so many bytes more on stream `id`. */
  grant(id: number, bytes: number): void
}

/** One direction of a stream, receiving. */
export class IncomingItems {
  /** How many whole items and bytes of payload have come. */
  items = 0
  bytes = 0
  /**
   * Takes the items that wait, or the next that come, as one chunk. At the end it fails with what `finish` has said.
   * One at a time; it can be interrupted.
   */
  readonly pull: Effect.Effect<Arr.NonEmptyReadonlyArray<Uint8Array>, unknown>

  /** `credit` is what the peer may send at first, in bytes. */
  constructor(_id: number, _receiver: ItemsReceiver, _credit: number) {
    throw new Error("not yet")
  }

  /** Grants what the window has beyond the first credit. */
  open(): void {
    throw new Error("not yet")
  }

  /** A message of items has come. */
  push(_bytes: Uint8Array, _start: number, _end: number, _owned: boolean): Violation | undefined {
    throw new Error("not yet")
  }

  /** The peer says that no more come. */
  end(): Violation | undefined {
    throw new Error("not yet")
  }

  /** It ends like that, behind what waits. Only the first time counts. */
  finish(_exit: Exit.Exit<never, unknown>): void {
    throw new Error("not yet")
  }

  /** What waits is dropped, and nothing is taken any more. What comes is ignored. It can be repeated. */
  close(): void {
    throw new Error("not yet")
  }

  /** Looks whether an item gets no bytes for too long. */
  isStalled(_now: number): boolean {
    throw new Error("not yet")
  }
}
