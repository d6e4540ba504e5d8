/**
 * Accepts from any listener: one of this package, or a custom one, which may give any value.
 *
 * It knows the contract of listeners. It does not know where connections come from.
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import type { HandlerMap } from "../../HandlerMap.ts"
import { discard, effectOf, unexpected } from "../guard.ts"
import { isHandlerMap } from "../handlerMap.ts"
import { logged } from "../log.ts"
import { isDuplex } from "../transport/given.ts"
import { attempt } from "../userError.ts"
import type { Arrival, ArrivalQueue, Restore } from "./arrivals.ts"
import type { Accepted, Handlers, Listener, ListenerError } from "./model.ts"

/** Accepts a connection without picking its handlers. */
const acceptArrival: unique symbol = Symbol.for("effect-call/internal/acceptArrival")

/**
 * A listener of this package, from which a connection can be accepted before its handlers are picked. The mark is on
 * `accept`, not on the listener: in a copy of the listener with another `accept`, the other one is used.
 */
interface ArrivalListener<R> extends Listener<R> {
  readonly accept: ArrivalAccept<R>
}

type Accept<R> = Listener<R>["accept"]

type ArrivalAccept<R> = Accept<R> & {
  readonly [acceptArrival]: (restore: Restore) => Effect.Effect<Arrival<R>, ListenerError>
}

const isArrivalAccept = <R>(accept: Accept<R>): accept is ArrivalAccept<R> => acceptArrival in accept

/** The accept of any listener. If it is no Effect, or its getter throws, the result is an Effect that dies. */
const acceptOf = <R>(listener: Listener<R>, address: string): Accept<R> =>
  effectOf(`the accept of the listener ${address}`, () => listener.accept)

/** The next arrival of any listener. A custom listener has picked the handlers already, and does not name the peer. */
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

/** The pause after a listener has given something that is not a connection: it may do so again and again. */
const pause = "100 millis"

/** `accept` of a custom listener, which may give any value. */
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
    return logged(Effect.logError("a listener has accepted something that is not a connection", problem)).pipe(
      Effect.annotateLogs({ listener: address }),
      Effect.andThen(restore(Effect.sleep(pause))),
      Effect.andThen(next)
    )
  })
  return next
}

/** The user's function may find no handlers for a peer. That must not end the server. */
const checked = <R>(handlers: HandlerMap<R>): HandlerMap<R> => {
  if (isHandlerMap(handlers)) return handlers
  throw unexpected("the handlers for a connection", "a HandlerMap", handlers)
}

/**
 * Checks the handlers of a listener when the listener is made. It throws if the value is neither a map nor a function.
 */
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
          "No handlers for a connection: the function that picks them threw, or gave no HandlerMap",
          Cause.fail(error)
        )
      ).pipe(
        Effect.annotateLogs({ listener: address, peer: peer.address }),
        Effect.andThen(Effect.sync((): undefined => attempt(() => void connection.destroy(), undefined)))
      )
    )
  )

/**
 * The next arrival with its handlers. A connection whose handlers cannot be picked is closed, and the next one is
 * taken.
 */
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

/** A listener that gives the arrivals of a queue. */
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
