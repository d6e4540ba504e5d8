/**
 * A listener over a `net.Server`: its sockets become arrivals, unless there are too many of them.
 *
 * It does not know how an address is read and opened, nor TLS.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as net from "node:net"
import { logIn } from "../log.ts"
import { checkTransition, type Transitions } from "../transitions.ts"
import { checkHandlers, fromArrivals } from "./accept.ts"
import { ArrivalQueue, type Restore } from "./arrivals.ts"
import { describe, ignoreError } from "./connect.ts"
import { type Connections, Gate } from "./gate.ts"
import { type Handlers, type Listener, listenerBroke, listenerClosed, type ListenerError } from "./model.ts"

/** A server that listens. */
interface Opened {
  readonly address: string
  /** Cleans up what closing the server leaves behind. It runs before the server is closed. */
  readonly cleanUp: Effect.Effect<void>
}

/**
 * ```
 *   ┌─────────┐  the server is open   ┌───────────┐
 *   │ Opening │ ────────────────────▶ │ Listening │
 *   └─────────┘                       └───────────┘
 *        │ it could not be opened,          │ its Scope is closed,
 *        │ or is closed before              │ or `close` is run
 *        │            ┌────────┐            │
 *        └──────────▶ │ Closed │ ◀──────────┘
 *                     └────────┘
 * ```
 */
type State =
  | { readonly _tag: "Opening" }
  | { readonly _tag: "Listening"; readonly opened: Opened }
  | { readonly _tag: "Closed" }

const allowed: Transitions<State["_tag"]> = {
  Opening: ["Listening", "Closed"],
  Listening: ["Closed"],
  Closed: []
}

/** Opens a server, and closes it with the Scope. */
export const listenOnServer = Effect.fnUntraced(function*<R>(options: {
  /** The address that was asked for, until the real one is known. */
  readonly address: string
  readonly handlers: Handlers<R>
  readonly limits: Connections
  /** Runs uninterruptibly, except for the parts that it restores: so everything that it opens is also closed. */
  readonly open: (server: net.Server, restore: Restore) => Effect.Effect<Opened, ListenerError>
  /**
   * A client's address, and the name by which its connections are counted. Undefined if the client has already gone.
   */
  readonly peerOf: (socket: net.Socket) => { readonly address: string; readonly name?: string } | undefined
}): Effect.fn.Return<Listener<R>, ListenerError, Scope.Scope> {
  const { handlers, limits, open, peerOf } = options
  checkHandlers(handlers)
  const queue = new ArrivalQueue<R>()
  const context = yield* Effect.context<never>()
  let state: State = { _tag: "Opening" }
  const transition = (to: State): void => {
    checkTransition("a listener", allowed, state._tag, to._tag)
    state = to
  }
  let address = options.address
  const warn = (message: string) =>
    logIn(context, Effect.annotateLogs(Effect.logWarning(message), { listener: address }))
  const gate = new Gate(limits, yield* Clock.Clock, warn)

  // While a socket waits, it reads ahead until its buffer is full. The first listener of "data" gets these bytes.
  const server = net.createServer({ noDelay: true }, (socket) => {
    socket.on("error", ignoreError)
    const peer = peerOf(socket)
    if (peer === undefined || !gate.admits(socket, peer.name)) return void socket.destroy()
    queue.offer({ connection: socket, peer: { address: peer.address }, handlers })
  })
  server.on("error", (error) => {
    // Before the server listens, `open` fails with this error.
    if (state._tag === "Opening") return
    if (!server.listening) return queue.close(listenerBroke(address, error))
    // Only one connection could not be accepted, perhaps because there was no file descriptor left.
    warn(`A connection could not be accepted: ${describe(error)}`)
  })

  const close = Effect.suspend(() => {
    if (state._tag === "Closed") return Effect.void
    const cleanUp = state._tag === "Listening" ? state.opened.cleanUp : Effect.void
    transition({ _tag: "Closed" })
    return Effect.andThen(
      cleanUp,
      Effect.sync(() => {
        server.close()
        queue.close(listenerClosed(address))
      })
    )
  }).pipe(Effect.uninterruptible)
  yield* Effect.addFinalizer(() => close)
  yield* Effect.uninterruptibleMask((restore) =>
    Effect.tap(open(server, restore), (opened) =>
      Effect.sync(() => {
        // It may have been closed meanwhile.
        if (state._tag === "Opening") transition({ _tag: "Listening", opened })
        address = opened.address
      }))
  )
  return fromArrivals({ address, arrivals: queue, close })
})
