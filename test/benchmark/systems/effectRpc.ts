/**
 * Effect's own RPC over TCP: the same typed method as effect-call's, on one connection, put together from the layers
 * that its documentation names.
 */
import { NodeSocket, NodeSocketServer } from "@effect/platform-node"
import { Context, Effect, Layer, ManagedRuntime, Schema } from "effect"
import { Rpc, RpcClient, type RpcClientError, RpcGroup, RpcSerialization, RpcServer } from "effect/rpc"
import { SocketServer } from "effect/socket"
import type { System } from "../system.ts"
import { effectClient } from "./effects.ts"

const group = RpcGroup.make(
  Rpc.make("Echo", { payload: { bytes: Schema.Uint8Array }, success: Schema.Struct({ bytes: Schema.Uint8Array }) })
)

class EchoClient extends Context.Service<
  EchoClient,
  RpcClient.FromGroup<typeof group, RpcClientError.RpcClientError>
>()("benchmark/EchoClient") {}

const serializations = {
  binary: RpcSerialization.layerSchemaBinary(),
  ndjson: RpcSerialization.layerNdjson
}

/** With and without spans on both sides. All else is the default: the server runs all calls at once that there are. */
export const effectRpc = (
  format: keyof typeof serializations,
  { tracing }: { readonly tracing: boolean }
): System => {
  const options = { disableTracing: !tracing }
  const serialization = serializations[format]
  return {
    // Neither runtime is disposed of: both last until the process ends.
    serve: () => {
      const server = RpcServer.layer(group, options).pipe(
        Layer.provide(group.toLayer({ Echo: (payload) => Effect.succeed(payload) })),
        Layer.provide(RpcServer.layerProtocolSocketServer),
        Layer.provideMerge(NodeSocketServer.layer({ port: 0, host: "127.0.0.1", noDelay: true })),
        Layer.provide(serialization)
      )
      return ManagedRuntime.make(server).runPromise(
        SocketServer.SocketServer.useSync(({ address }) =>
          String(address._tag === "UnixPathAddress" ? 0 : address.port)
        )
      )
    },
    connect: async (port) => {
      const layer = Layer.effect(EchoClient, RpcClient.make(group, options)).pipe(
        Layer.provide(RpcClient.layerProtocolSocket()),
        Layer.provide(NodeSocket.layerNet({ port: Number(port), host: "127.0.0.1", noDelay: true })),
        Layer.provide(serialization)
      )
      const client = await ManagedRuntime.make(layer).runPromise(EchoClient)
      return effectClient((bytes) => client.Echo({ bytes }), ({ bytes }) => bytes)
    }
  }
}
