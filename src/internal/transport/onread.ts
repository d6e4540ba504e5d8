/**
 * Dials an endpoint in the way that costs least to read from.
 *
 * `net.connect({ onread })` reads into one buffer that is used again, where `"data"` brings a fresh buffer for every
 * chunk. But such a socket emits no `"data"`, so users must not get one: `Endpoint.dial` gives an ordinary Duplex, and
 * built-in endpoints have a second way to be dialed under a symbol. This file knows no addresses and no sessions.
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { OnReadOpts, Socket } from "node:net"
import type { Duplex } from "node:stream"
import { describe } from "./capabilities.ts"
import { OnreadReceiver } from "./receiver.ts"

/** What can be dialed: the part of an endpoint that is used here. */
export interface Dialable<E> {
  readonly dial: Effect.Effect<Duplex, E, Scope.Scope>
}

/** The key of the second way to dial: the socket reads into the caller's buffer and emits no `"data"`. */
export const dialOnread: unique symbol = Symbol.for("effect-call/internal/dialOnread")

/** An endpoint that can be dialed with `onread`. */
export interface OnreadDialable<E> extends Dialable<E> {
  readonly [dialOnread]: (onread: OnReadOpts) => Effect.Effect<Socket, E, Scope.Scope>
}

/** Whether an endpoint can be dialed with `onread`. */
export const isOnreadDialable = <E>(endpoint: Dialable<E>): endpoint is OnreadDialable<E> => dialOnread in endpoint

/** Dials an endpoint: only a transport can read what it gives. It throws where a getter of the endpoint does. */
export const dialOf = <E>(endpoint: Dialable<E>): Effect.Effect<Duplex, E, Scope.Scope> =>
  isOnreadDialable(endpoint)
    ? Effect.suspend(() => {
      const receiver = new OnreadReceiver()
      return Effect.map(endpoint[dialOnread](receiver.options), (socket) => describe(socket, { receiver }))
    })
    : endpoint.dial
