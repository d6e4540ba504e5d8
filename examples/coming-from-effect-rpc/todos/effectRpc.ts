/** The application with effect/rpc: the group over its socket protocol. */
import { NodeSocket, NodeSocketServer } from "@effect/platform-node"
import { Context, Layer } from "effect"
import { RpcClient, type RpcClientError, RpcSerialization, RpcServer } from "effect/rpc"
import { TodosGroup, TodosHandlers } from "./contract.ts"

export const TodosServer = RpcServer.layer(TodosGroup).pipe(
  Layer.provide(TodosHandlers),
  Layer.provide(RpcServer.layerProtocolSocketServer),
  Layer.provideMerge(NodeSocketServer.layer({ host: "127.0.0.1", port: 0 })),
  Layer.provide(RpcSerialization.layerSchemaBinary())
)

export class Todos extends Context.Service<
  Todos,
  RpcClient.FromGroup<typeof TodosGroup, RpcClientError.RpcClientError>
>()("example/effectRpc/Todos") {
  static readonly layer = (port: number) =>
    Layer.effect(this, RpcClient.make(TodosGroup)).pipe(
      Layer.provide(RpcClient.layerProtocolSocket()),
      Layer.provide(NodeSocket.layerNet({ host: "127.0.0.1", port })),
      Layer.provide(RpcSerialization.layerSchemaBinary())
    )
}
