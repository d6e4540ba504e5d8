/** The session of a server over a connection in memory, with a client at the other end that knows streams. */
import { Effect, Stream } from "effect"
import { HandlerMap, MethodKey } from "effect-call"
import type { ServerOptions } from "../../../src/internal/server/options.ts"
import { streamPeerOn, type StreamPeerOptions } from "../../support/streamPeer.ts"
import { type } from "../../support/streamWire.ts"
import { begin } from "./support.ts"

const component = "test/Streams"

export const bytes = (text: string): Uint8Array => new TextEncoder().encode(text)

export const key = (method: string): MethodKey.MethodKey => MethodKey.make(component, method)

/** A map of these handlers of streams, by their methods. */
export const streams = (handlers: Record<string, HandlerMap.StreamHandler>): HandlerMap.HandlerMap<never> =>
  Object.entries(handlers).reduce(
    (map, [method, handler]) => HandlerMap.setStream(map, component, method, handler),
    HandlerMap.empty
  )

/** A map of these handlers of calls, in addition. */
export const calls = (
  map: HandlerMap.HandlerMap<never>,
  handlers: Record<string, HandlerMap.Handler>
): HandlerMap.HandlerMap<never> =>
  Object.entries(handlers).reduce((map, [method, handler]) => HandlerMap.set(map, component, method, handler), map)

/** Sends back each item. */
export const echo: HandlerMap.StreamHandler = (_args, items) => items

/** Takes no items and never ends. */
export const never: HandlerMap.StreamHandler = () => Stream.never

/** A session, and a client that has said that it knows streams and has heard that the server does. */
export const openStreams = Effect.fnUntraced(function*(
  handlers: HandlerMap.HandlerMap<never>,
  options: ServerOptions = {},
  peerOptions: StreamPeerOptions = {}
) {
  const begun = yield* begin(handlers, options)
  const peer = yield* streamPeerOn(begun.pair.client, "client", peerOptions)
  yield* peer.next({ type: type.version })
  return { ...begun, peer }
})
