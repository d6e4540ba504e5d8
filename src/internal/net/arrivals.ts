/**
 * Connections that have arrived, until they are accepted.
 *
 * It knows no listeners, and does not pick handlers.
 */
import * as Effect from "effect/Effect"
import type { Duplex } from "node:stream"
import type { Handlers, ListenerError, Peer } from "./model.ts"

/** A connection whose handlers are not picked yet: they may depend on the certificate of a TLS handshake over it. */
export interface Arrival<out R> {
  readonly connection: Duplex
  readonly peer: Peer
  readonly handlers: Handlers<R>
}

/**
 * Makes an effect interruptible again within an uninterruptible region. A caller of `accept` has such a region around
 * the accept and the use of the connection: an interruption between the two would lose the connection.
 */
export type Restore = <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>

/**
 * The connections that have arrived and were not accepted yet. A connection that closes while it waits is removed. When
 * the queue is closed, all waiting connections are destroyed.
 */
export class ArrivalQueue<R> {
  readonly #waiting = new Map<Arrival<R>, () => void>()
  readonly #takers = new Set<() => void>()
  #end: ListenerError | undefined

  /** The number of waiting connections. */
  get size(): number {
    return this.#waiting.size
  }

  /** Adds a connection. It is destroyed if the queue is closed. */
  offer(arrival: Arrival<R>): void {
    const { connection } = arrival
    if (this.#end !== undefined) return void connection.destroy()
    if (connection.destroyed) return
    const leave = () => void this.#waiting.delete(arrival)
    connection.once("close", leave)
    this.#waiting.set(arrival, leave)
    this.#wake()
  }

  /** Ends every `take`, present and future, with this error. Only the first close counts. */
  close(error: ListenerError): void {
    if (this.#end !== undefined) return
    this.#end = error
    for (const { connection } of this.#waiting.keys()) connection.destroy()
    this.#waiting.clear()
    this.#wake()
  }

  /**
   * Takes the oldest connection, in the caller's uninterruptible region. It can be interrupted only while it waits, so
   * that no connection is lost.
   */
  take(restore: Restore): Effect.Effect<Arrival<R>, ListenerError> {
    const next: Effect.Effect<Arrival<R>, ListenerError> = Effect.suspend(() => {
      const oldest = this.#shift()
      if (oldest !== undefined) return Effect.succeed(oldest)
      return this.#end === undefined ? Effect.andThen(restore(this.#change), next) : Effect.fail(this.#end)
    })
    return next
  }

  #shift(): Arrival<R> | undefined {
    for (const [arrival, leave] of this.#waiting) {
      arrival.connection.off("close", leave)
      this.#waiting.delete(arrival)
      // It may be destroyed already, before its "close" event.
      if (!arrival.connection.destroyed) return arrival
    }
    return undefined
  }

  // Every taker is woken, and takers that find nothing wait again. If only one were woken and interrupted, the others
  // would not get the arrival.
  readonly #change: Effect.Effect<void> = Effect.callback((resume) => {
    // The fiber may have yielded since its check, so it was not a taker when a connection came.
    if (this.#waiting.size > 0 || this.#end !== undefined) return resume(Effect.void)
    const taker = () => resume(Effect.void)
    this.#takers.add(taker)
    return Effect.sync(() => void this.#takers.delete(taker))
  })

  #wake(): void {
    const takers = [...this.#takers]
    this.#takers.clear()
    for (const taker of takers) taker()
  }
}
