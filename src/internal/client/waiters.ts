/**
 * What calls wait for at one endpoint: a connection, or room on one.
 *
 * It must not know how connections are made, or why one is full.
 */
import * as Effect from "effect/Effect"

/** Calls that wait for something that all of them learn at once. */
export class Waiters<A> {
  /** Undefined while there are none: most of many endpoints never have any. */
  private waiting: Set<(value: A) => void> | undefined = undefined

  get size(): number {
    return this.waiting?.size ?? 0
  }

  /** Adds one that is told; returns what takes it out again. */
  add(waiter: (value: A) => void): Effect.Effect<void> {
    const joined = this.waiting ??= new Set()
    joined.add(waiter)
    return Effect.sync(() => joined.delete(waiter))
  }

  /** Tells all that wait now. */
  tellAll(value: A): void {
    const told = this.waiting
    if (told === undefined) return
    this.waiting = undefined
    for (const tell of told) tell(value)
  }
}

/** The connections that have room, or not. */
export interface RoomSource {
  readonly isOpen: boolean
  hasRoom(): boolean
}

/** Calls that wait for room on a connection, in their order. */
export class RoomWaiters {
  private readonly source: RoomSource
  private waiting: Set<() => void> | undefined = undefined

  constructor(source: RoomSource) {
    this.source = source
  }

  get size(): number {
    return this.waiting?.size ?? 0
  }

  /** Ends when a connection can take more, or none is open. */
  whenRoom(): Effect.Effect<void> {
    return Effect.callback<void>((resume) => {
      const { source } = this
      if (!source.isOpen || source.hasRoom()) return resume(Effect.void)
      const waiting = this.waiting ??= new Set()
      const wake = () => resume(Effect.void)
      waiting.add(wake)
      return Effect.sync(() => waiting.delete(wake))
    })
  }

  /** There may be room, or a connection is over. Only as many calls go on as there is room for. */
  wake(): void {
    const { source, waiting } = this
    if (waiting === undefined) return
    // One after the other, since each that goes on takes some of the room at once: to wake all would cost each drain a
    // look at all of them.
    for (const wake of waiting) {
      if (source.isOpen && !source.hasRoom()) return
      waiting.delete(wake)
      wake()
    }
  }

  /** All go on, whether or not there is room: there are better endpoints. */
  wakeAll(): void {
    const { waiting } = this
    this.waiting = undefined
    if (waiting !== undefined) { for (const wake of waiting) wake() }
  }
}
