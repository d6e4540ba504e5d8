/** Streams of bytes as the API has them, until the API is there. */
import type { Scope, Stream } from "effect"
import { type CallError, type Connection, HandlerMap, type MethodKey } from "effect-call"

export type ByteStream<E = unknown, R = never> = Stream.Stream<Uint8Array, E, R>
type StreamHandler<R> = (args: Uint8Array, items: ByteStream<never>) => ByteStream<unknown, R>
type StreamOptions<E, R> = Connection.CallOptions & { readonly items?: ByteStream<E, R> }

interface WithStream {
  readonly stream: <E = never, R = never>(
    key: MethodKey.MethodKey,
    args: Uint8Array,
    options?: StreamOptions<E, R>
  ) => ByteStream<CallError.CallError | E, R>
}

export const streamOf = <E = never, R = never>(
  connection: Connection.Connection,
  key: MethodKey.MethodKey,
  args: Uint8Array,
  options?: StreamOptions<E, R>
): ByteStream<CallError.CallError | E, R> => (connection as unknown as WithStream).stream(key, args, options)

export const setStream = <R, R2 = never>(
  map: HandlerMap.HandlerMap<R>,
  key: MethodKey.MethodKey,
  handler: StreamHandler<R2>
): HandlerMap.HandlerMap<R | Exclude<R2, Scope.Scope>> =>
  (HandlerMap as unknown as {
    readonly setStream: (
      map: unknown,
      component: string,
      method: string,
      handler: unknown
    ) => HandlerMap.HandlerMap<R | Exclude<R2, Scope.Scope>>
  }).setStream(map, key.component, key.method, handler)
