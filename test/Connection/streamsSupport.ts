/**
 * A Connection to servers that are written by hand from the page of the wire, and streams on it.
 */
import { type Cause, Effect, Fiber, type Scope, Stream } from "effect"
import { Connection, MethodKey, Resolver } from "effect-call"
import { type StreamPeer, type StreamPeerOptions, type StreamServer, streamServer } from "../support/streamPeer.ts"
import { type } from "../support/streamWire.ts"

export const feed = MethodKey.make("test/Echo", "feed")

export const bytes = (text: string): Uint8Array => Buffer.from(text)
export const textOf = (item: Uint8Array): string => Buffer.from(item).toString()

/** All items of a stream, as texts. */
export const texts = <E, R>(stream: Stream.Stream<Uint8Array, E, R>): Effect.Effect<Array<string>, E, R> =>
  Stream.runCollect(Stream.map(stream, textOf))

/** A server, and a Connection to it. */
export const connected = (options?: Connection.ClientOptions, peers?: StreamPeerOptions) =>
  Effect.gen(function*() {
    const server = yield* streamServer(peers)
    const connection = yield* Effect.orDie(Connection.make(Resolver.constant(server.endpoint), options))
    return { server, connection }
  })

/** A stream that its server has got. */
export interface Opened<E, R> {
  readonly peer: StreamPeer
  readonly id: number
  /** The next chunk, as texts; its end is a failure `Done`. */
  readonly next: Effect.Effect<ReadonlyArray<string>, E | Cause.Done, R>
}

/** Opens a stream. Its consumer takes what `next` asks for. */
export const opened = <E, R>(
  server: StreamServer,
  stream: Stream.Stream<Uint8Array, E, R>
): Effect.Effect<Opened<E, R>, never, R | Scope.Scope> =>
  Effect.gen(function*() {
    const pull = yield* Stream.toPull(stream)
    // The first pull opens it.
    const first = yield* Effect.forkScoped(Effect.exit(pull), { startImmediately: true })
    const peer = server.peers[0] ?? (yield* server.accepted)
    const { id } = yield* peer.next({ type: type.open })
    let isFirst = true
    const next = Effect.suspend(() => {
      if (!isFirst) return pull
      isFirst = false
      return Effect.flatten(Fiber.join(first))
    })
    return { peer, id, next: Effect.map(next, (chunk) => chunk.map(textOf)) }
  })
