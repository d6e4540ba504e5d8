/**
 * Effect's own RPC over TCP with SchemaBinary: the same typed methods as effect-call's, on one connection.
 */
import { NodeSocket, NodeSocketServer } from "@effect/platform-node"
import { Context, Layer, ManagedRuntime } from "effect"
import { RpcClient, type RpcClientError, RpcSerialization, RpcServer } from "effect/rpc"
import { SocketServer } from "effect/socket"
import type { StreamSystem } from "../system.ts"
import { group, groupLayer } from "./contract.ts"
import { effectStreams } from "./effects.ts"

class StreamsClient extends Context.Service<
  StreamsClient,
  RpcClient.FromGroup<typeof group, RpcClientError.RpcClientError>
>()("benchmark/StreamsClient") {}

/** A chunk of items must not be too large for it. */
const serialization = RpcSerialization.layerSchemaBinary({ maxFrameSize: "unbounded" })
const options = { disableTracing: true }
/** The default of `streamBufferSize`; a chunk that is larger must fit into it. */
const defaultBuffer = 16

export const effectRpc: StreamSystem = {
  // Neither runtime is disposed of: both last until the process ends.
  serve: () => {
    const server = RpcServer.layer(group, options).pipe(
      Layer.provide(groupLayer),
      Layer.provide(RpcServer.layerProtocolSocketServer),
      Layer.provideMerge(NodeSocketServer.layer({ port: 0, host: "127.0.0.1", noDelay: true })),
      Layer.provide(serialization)
    )
    return ManagedRuntime.make(server).runPromise(
      SocketServer.SocketServer.useSync(({ address }) => String(address._tag === "UnixPathAddress" ? 0 : address.port))
    )
  },
  connect: async (port) => {
    const layer = Layer.effect(StreamsClient, RpcClient.make(group, options)).pipe(
      Layer.provide(RpcClient.layerProtocolSocket()),
      Layer.provide(NodeSocket.layerNet({ port: Number(port), host: "127.0.0.1", noDelay: true })),
      Layer.provide(serialization)
    )
    const client = await ManagedRuntime.make(layer).runPromise(StreamsClient)
    return effectStreams(
      (feed) => client.Items(feed, { streamBufferSize: Math.max(defaultBuffer, feed.chunk) }),
      (bytes) => client.Answer({ bytes })
    )
  }
}
