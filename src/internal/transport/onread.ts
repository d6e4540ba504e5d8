/**
 * How a built-in endpoint reads without a fresh buffer for every chunk.
 *
 * `net.connect({ onread })` reads into one reused buffer, but such a socket emits no `"data"`. It is therefore kept away from users:
 * `Endpoint.dial` gives an ordinary Duplex, and the client prefers the method under this symbol where an endpoint has it.
 */
import type * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { OnReadOpts, Socket } from "node:net"
import type { DialError, Endpoint } from "../../Endpoint.ts"

/** Dials with `onread`: the socket reads into the caller's buffer and emits no `"data"`. */
export const dialOnread: unique symbol = Symbol.for("effect-call/internal/dialOnread")

/** An endpoint that can be dialed with `onread`. */
export interface OnreadEndpoint extends Endpoint {
  readonly [dialOnread]: (onread: OnReadOpts) => Effect.Effect<Socket, DialError, Scope.Scope>
}

/** Whether an endpoint can be dialed with `onread`. */
export const isOnreadEndpoint = (endpoint: Endpoint): endpoint is OnreadEndpoint => dialOnread in endpoint
