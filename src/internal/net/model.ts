/**
 * The contract between listeners and those who accept from them. `Listener.ts` exports all of it to users.
 *
 * It says nothing of how a listener listens, and knows no sessions.
 */
import type * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import type { Duplex } from "node:stream"
import type { PeerCertificate } from "node:tls"
import type { HandlerMap } from "../../HandlerMap.ts"
import { describe } from "./connect.ts"

/**
 * Who is at the other end of a connection.
 *
 * - `address`: `tcp://` and the client's address and port; for a Unix socket, whose clients have no address, `unix://` and the path.
 * - `certificate`: what the client has proved with {@link mtls}, as `node:tls` gives it: its name is at `subject.CN`, its further names
 *   at `subjectaltname`. Absent without TLS.
 *
 * @category models
 * @since 0.1.0
 */
export interface Peer {
  readonly address: string
  readonly certificate?: PeerCertificate
}

/**
 * What a listener's clients are served with: the same for all of them, or picked for each connection by who the client is.
 *
 * The function is called once for each connection, with {@link mtls} after the handshake. Where it throws, or finds
 * none, that connection is closed and an error is logged. What is neither a `HandlerMap` nor a function is a defect of
 * making the listener, a TypeError.
 *
 * @category models
 * @since 0.1.0
 */
export type Handlers<R = never> = HandlerMap<R> | ((peer: Peer) => HandlerMap<R>)

/**
 * A connection that was accepted, and what serves it. The connection belongs to whoever took it.
 *
 * @category models
 * @since 0.1.0
 */
export interface Accepted<out R = never> {
  readonly connection: Duplex
  readonly handlers: HandlerMap<R>
}

/**
 * Where clients come in.
 *
 * - `address`: where it listens, `network://address`, with the port that it was given. `Endpoint.parse` reads it.
 * - `accept`: waits for the next connection. It fails only when the listener is closed or broken, and then always. Interrupting it loses no
 *   connection.
 * - `close`: stops listening, ends `accept`, and destroys the connections that nobody has taken yet; those that were taken go on. It can
 *   be repeated. The end of the listener's Scope does the same.
 *
 * A server checks what a listener of one's own gives. An `accept` that dies, or is no Effect, ends the server with that
 * defect. What it gives that is no connection, has no handlers or is served already is logged as an error, and the next
 * one is accepted. A `close` that dies or takes longer than 10 seconds is logged, and the server ends without it.
 *
 * Source: `type Listener` of the Go package.
 *
 * @category models
 * @since 0.1.0
 */
export interface Listener<out R = never> {
  readonly address: string
  readonly accept: Effect.Effect<Accepted<R>, ListenerError>
  readonly close: Effect.Effect<void>
}

/**
 * A listener could not be opened, or it is closed.
 *
 * - `message`: what went wrong, with the address.
 * - `address`: the address of the listener.
 * - `cause`: the error of the socket, where there is one.
 *
 * @category errors
 * @since 0.1.0
 */
export class ListenerError
  extends Schema.TaggedError<ListenerError>("effect-call/Listener/ListenerError")("ListenerError", {
    message: Schema.String,
    address: Schema.optionalKey(Schema.String),
    cause: Schema.optionalKey(Schema.Defect())
  })
{}

/** It cannot listen, for a reason that we know. */
export const cannotListen = (address: string, reason: string): ListenerError =>
  new ListenerError({ message: `cannot listen on ${address}: ${reason}`, address })

/** It cannot listen, because of this error. */
export const listeningFailed = (address: string, cause: unknown): ListenerError =>
  new ListenerError({ message: `cannot listen on ${address}: ${describe(cause)}`, address, cause })

/** It has listened, and cannot any more. */
export const listenerBroke = (address: string, cause: unknown): ListenerError =>
  new ListenerError({ message: `the listener on ${address} broke: ${describe(cause)}`, address, cause })

/** It was closed. */
export const listenerClosed = (address: string): ListenerError =>
  new ListenerError({ message: `the listener on ${address} is closed`, address })
