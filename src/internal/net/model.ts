/**
 * The contract between listeners and their callers. `Listener.ts` exports all of it to users.
 *
 * It does not know how a listener listens, and knows no sessions.
 */
import type * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import type { Duplex } from "node:stream"
import type { PeerCertificate } from "node:tls"
import type { HandlerMap } from "../../HandlerMap.ts"
import { describe } from "./connect.ts"

/**
 * The client at the other end of a connection: where it is, and, with mTLS, who it is. A function that picks handlers
 * gets it: see {@link Handlers}.
 *
 * @category models
 * @since 0.1.0
 */
export interface Peer {
  /**
   * `tcp://` and the client's address and port. Clients of a Unix socket have no address: `unix://` and the path of the
   * socket.
   */
  readonly address: string
  /**
   * The client's certificate, verified by `Listener.mtls`, as `node:tls` gives it: its name is in `subject.CN` (a list
   * if there are several), its other names are in the text `subjectaltname`. Absent without TLS.
   */
  readonly certificate?: PeerCertificate
}

/**
 * The handlers of a listener: the same for all clients, or a function that picks them for each connection.
 *
 * **When to use**
 *
 * Use a function if clients may call different methods, or if handlers must know who calls. A method that is not in the
 * client's map is an unknown method to that client.
 *
 * **Details**
 *
 * The function is called once for each connection, with `Listener.mtls` after the handshake.
 *
 * **Gotchas**
 *
 * If the function throws, or gives no `HandlerMap`, that connection is closed and an error is logged. Handlers that are
 * neither a `HandlerMap` nor a function are a defect when the listener is made: a TypeError.
 *
 * Compare a name in full: `certificate?.subject.CN === "admin"`. A text that only contains the name may come from
 * another certificate.
 *
 * @category models
 * @since 0.1.0
 */
export type Handlers<R = never> = HandlerMap<R> | ((peer: Peer) => HandlerMap<R>)

/**
 * A client's connection that a listener has accepted, and its handlers. The connection belongs to the code that has
 * accepted it.
 *
 * @category models
 * @since 0.1.0
 */
export interface Accepted<out R = never> {
  /** The connection, which is not read from yet. */
  readonly connection: Duplex
  /** The handlers that serve this client. */
  readonly handlers: HandlerMap<R>
}

/**
 * Accepts the connections of clients, for `Server.serve` or `Server.layer`.
 *
 * **When to use**
 *
 * `Listener.tcp`, `Listener.unix` and `Listener.mtls` make listeners. To accept connections from elsewhere, make a
 * custom listener: it is a plain object.
 *
 * **Gotchas**
 *
 * A server checks the values of a custom listener. An `accept` that dies, or is no Effect, ends the server with that
 * defect. If it gives no connection, no handlers, or a connection that is served already, an error is logged, and the
 * next connection is accepted. A `close` that dies or takes longer than 10 seconds is logged, and the server ends
 * without it.
 *
 * Source: `type Listener` of the Go package.
 *
 * @category models
 * @since 0.1.0
 */
export interface Listener<out R = never> {
  /**
   * The address on which it listens: `network://address`, with the port that the system has picked. `Endpoint.parse`
   * reads it.
   */
  readonly address: string
  /**
   * Waits for the next connection. It fails only if the listener is closed or broken. From then on, it always fails. If
   * it is interrupted, no connection is lost.
   */
  readonly accept: Effect.Effect<Accepted<R>, ListenerError>
  /**
   * Stops listening, ends `accept`, and destroys the connections that were not accepted yet. Accepted ones go on. It
   * can be repeated. The end of the listener's Scope does the same.
   */
  readonly close: Effect.Effect<void>
}

/**
 * A listener could not be opened, is closed, or is broken.
 *
 * @category errors
 * @since 0.1.0
 */
export class ListenerError
  extends Schema.TaggedError<ListenerError>("effect-call/Listener/ListenerError")("ListenerError", {
    /** What went wrong, with the address. */
    message: Schema.String,
    /** The address of the listener. Absent if the code that made the error does not know it. */
    address: Schema.optionalKey(Schema.String),
    /** The error of the socket or of TLS, if there is one. */
    cause: Schema.optionalKey(Schema.Defect())
  })
{}

/** It cannot listen, for a reason that this package knows. */
export const cannotListen = (address: string, reason: string): ListenerError =>
  new ListenerError({ message: `cannot listen on ${address}: ${reason}`, address })

/** It cannot listen, because of this error. */
export const listeningFailed = (address: string, cause: unknown): ListenerError =>
  new ListenerError({ message: `cannot listen on ${address}: ${describe(cause)}`, address, cause })

/** It has listened, but cannot accept any more. */
export const listenerBroke = (address: string, cause: unknown): ListenerError =>
  new ListenerError({ message: `the listener on ${address} broke: ${describe(cause)}`, address, cause })

/** It was closed. */
export const listenerClosed = (address: string): ListenerError =>
  new ListenerError({ message: `the listener on ${address} is closed`, address })
