/**
 * Connections on their way from the operating system to whoever accepts them.
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import type { Duplex } from "node:stream"
import type { HandlerMap } from "../../HandlerMap.ts"
import { discard, effectOf, unexpected } from "../guard.ts"
import { isHandlerMap } from "../handlerMap.ts"
import { logged } from "../log.ts"
import { isDuplex } from "../transport/given.ts"
import { attempt } from "../userError.ts"
import type { Accepted, Handlers, Listener, ListenerError, Peer } from "./model.ts"

/** A connection whose handlers have not been picked yet: they may depend on what a TLS handshake over it will prove. */
export interface Arrival<out R> {
  readonly connection: Duplex
  readonly peer: Peer
  readonly handlers: Handlers<R>
}

/**
 * Makes what waits interruptible again in an uninterruptible region. Who accepts takes the connection in its own region and says where it may
 * be interrupted: between an accept that has ended and what is done with its connection, an interruption would lose that.
 */
export type Restore = <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>

/** Accepts a connection without picking its handlers. */
const acceptArrival: unique symbol = Symbol.for("effect-call/internal/acceptArrival")

/**
 * A listener of this package, from which a connection can be accepted before its handlers are picked. That it can is its `accept`'s own: an
 * object that is made of it, with another `accept` in place of this one, means that.
 */
interface ArrivalListener<R> extends Listener<R> {
  readonly accept: ArrivalAccept<R>
}

type Accept<R> = Listener<R>["accept"]

type ArrivalAccept<R> = Accept<R> & {
  readonly [acceptArrival]: (restore: Restore) => Effect.Effect<Arrival<R>, ListenerError>
}

const isArrivalAccept = <R>(accept: Accept<R>): accept is ArrivalAccept<R> => acceptArrival in accept

/** The accept of any listener. One that is none, or whose getter throws, is one that dies: that listener is broken. */
const acceptOf = <R>(listener: Listener<R>, address: string): Accept<R> =>
  effectOf(`the accept of the listener ${address}`, () => listener.accept)

/** The arrivals of any listener. One that is not ours has picked its handlers, and has not said who its peer is. */
export const arrivalsOf = <R>(
  listener: Listener<R>,
  address: string,
  restore: Restore
): Effect.Effect<Arrival<R>, ListenerError> => {
  const accept = acceptOf(listener, address)
  return isArrivalAccept(accept)
    ? accept[acceptArrival](restore)
    : Effect.map(acceptForeign(accept, address, restore), ({ connection, handlers }) => ({
      connection,
      handlers,
      peer: { address }
    }))
}

/** `accept` of any listener, in the caller's uninterruptible region. */
export const acceptFrom = <R>(
  listener: Listener<R>,
  address: string,
  restore: Restore
): Effect.Effect<Accepted<R>, ListenerError> => {
  const accept = acceptOf(listener, address)
  return isArrivalAccept(accept)
    ? accepting(address, accept[acceptArrival](restore))
    : acceptForeign(accept, address, restore)
}

/** How long a listener is left alone that has given what is no connection: it may do so again and again. */
const pause = "100 millis"

/** `accept` of a listener that is not ours, which may give anything. */
const acceptForeign = <R>(
  accept: Accept<R>,
  address: string,
  restore: Restore
): Effect.Effect<Accepted<R>, ListenerError> => {
  const next: Effect.Effect<Accepted<R>, ListenerError> = Effect.flatMap(restore(accept), (accepted) => {
    const given = attempt(() => ({ connection: accepted.connection, handlers: accepted.handlers }), undefined)
    if (given !== undefined && isDuplex(given.connection)) return Effect.succeed(given)
    discard(given?.connection)
    const what = `what the listener ${address} has accepted`
    const problem = unexpected(what, "a connection that is a Duplex, and its handlers", accepted)
    return logged(Effect.logError("a listener has accepted what is no connection", problem)).pipe(
      Effect.annotateLogs({ listener: address }),
      Effect.andThen(restore(Effect.sleep(pause))),
      Effect.andThen(next)
    )
  })
  return next
}

/** A function that looks them up by who the peer is may not find any. That is not to end the server. */
const checked = <R>(handlers: HandlerMap<R>): HandlerMap<R> => {
  if (isHandlerMap(handlers)) return handlers
  discard(handlers)
  throw new TypeError("it gave no HandlerMap")
}

/** Handlers that are not looked up are checked where a listener is made; it throws where they are none. */
export const checkHandlers = (handlers: Handlers<unknown>): void => {
  if (typeof handlers === "function" || attempt(() => isHandlerMap(handlers), false)) return
  throw unexpected("the handlers of a listener", "a HandlerMap, or a function that gives one", handlers)
}

const pickHandlers = <R>({ connection, handlers, peer }: Arrival<R>, address: string) =>
  Effect.try({
    try: (): HandlerMap<R> => checked(typeof handlers === "function" ? handlers(peer) : handlers),
    catch: (error) => error
  }).pipe(
    Effect.map((handlers): Accepted<R> => ({ connection, handlers })),
    Effect.catch((error) =>
      logged(
        Effect.logError(
          "No handlers for a connection: the function that gives them threw, or gave none",
          Cause.fail(error)
        )
      ).pipe(
        Effect.annotateLogs({ listener: address, peer: peer.address }),
        Effect.andThen(Effect.sync((): undefined => attempt(() => void connection.destroy(), undefined)))
      )
    )
  )

/** The next of the arrivals, with its handlers. A connection whose handlers cannot be picked is closed, and the next one is waited for. */
const accepting = <R>(
  address: string,
  arrivals: Effect.Effect<Arrival<R>, ListenerError>
): Effect.Effect<Accepted<R>, ListenerError> => {
  const next: Effect.Effect<Accepted<R>, ListenerError> = Effect.flatMap(
    arrivals,
    (arrival) =>
      Effect.flatMap(
        pickHandlers(arrival, address),
        (accepted) => accepted === undefined ? next : Effect.succeed(accepted)
      )
  )
  return next
}

/** A listener over arrivals. */
export const fromArrivals = <R>(options: {
  readonly address: string
  readonly arrivals: ArrivalQueue<R>
  readonly close: Effect.Effect<void>
}): ArrivalListener<R> => ({
  address: options.address,
  accept: Object.assign(
    Effect.uninterruptibleMask((restore) => accepting(options.address, options.arrivals.take(restore))),
    { [acceptArrival]: (restore: Restore) => options.arrivals.take(restore) }
  ),
  close: options.close
})

/**
 * The arrivals that nobody has taken yet. One that dies while it waits leaves; those that wait when it is closed are destroyed.
 */
export class ArrivalQueue<R> {
  readonly #waiting = new Map<Arrival<R>, () => void>()
  readonly #takers = new Set<() => void>()
  #end: ListenerError | undefined

  /** How many connections wait. */
  get size(): number {
    return this.#waiting.size
  }

  offer(arrival: Arrival<R>): void {
    const { connection } = arrival
    if (this.#end !== undefined) return void connection.destroy()
    if (connection.destroyed) return
    const leave = () => void this.#waiting.delete(arrival)
    connection.once("close", leave)
    this.#waiting.set(arrival, leave)
    this.#wake()
  }

  /** Ends every `take`, this one's and later ones'. Only the first close counts. */
  close(error: ListenerError): void {
    if (this.#end !== undefined) return
    this.#end = error
    for (const { connection } of this.#waiting.keys()) connection.destroy()
    this.#waiting.clear()
    this.#wake()
  }

  /** Takes the oldest, in the caller's uninterruptible region: only who waits can be interrupted, and that loses none. */
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
      // Destroyed a moment ago, and its "close" still to come.
      if (!arrival.connection.destroyed) return arrival
    }
    return undefined
  }

  // Every taker is woken, and those that find nothing wait again: one that was interrupted cannot keep an arrival from the others.
  readonly #change: Effect.Effect<void> = Effect.callback((resume) => {
    // The fiber may have yielded since it looked, and what has come by then wakes nobody.
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
