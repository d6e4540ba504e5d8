/**
 * One application, once with effect/rpc and once with effect-call: the same group, handlers, headers and errors. Then
 * there is no server, and the call fails.
 *
 * Run it with `npx node examples/coming-from-effect-rpc/both.ts`.
 */
import { NodeRuntime } from "@effect/platform-node"
import { Console, Context, Effect, Exit, Layer, Logger } from "effect"
import { Server } from "effect-call"
import { RpcClient, RpcTest } from "effect/rpc"
import { SocketServer } from "effect/socket"
import { TodosGroup, TodosHandlers } from "./todos/contract.ts"
import * as OverCall from "./todos/effectCall.ts"
import * as OverRpc from "./todos/effectRpc.ts"

/** What both clients have, but for the errors of a call that goes wrong. */
type Client<E> = RpcClient.FromGroup<typeof TodosGroup, E>

const use = Effect.fnUntraced(function*<E>(name: string, todos: Client<E>) {
  const todo = yield* todos.Get({ id: 1 })
  const missing = yield* Effect.flip(todos.Get({ id: 2 }))
  const user = yield* todos.WhoAmI().pipe(RpcClient.withHeaders({ user: "Ada" }))
  yield* Console.log(`${name}: ${todo}, ${String(missing)}, ${user}`)
  const broken = yield* Effect.exit(todos.Break())
  yield* Console.log(`${name}, a bug in a handler: ${Exit.isFailure(broken) ? String(broken.cause.reasons[0]) : ""}`)
})

const inMemory = Effect.flatMap(RpcTest.makeClient(TodosGroup), (todos) => use("RpcTest", todos)).pipe(
  Effect.provide(TodosHandlers)
)

const withEffectRpc = Effect.gen(function*() {
  const server = yield* Layer.build(OverRpc.TodosServer)
  const { address } = Context.get(server, SocketServer.SocketServer)
  const port = address._tag === "UnixPathAddress" ? 0 : address.port
  yield* Effect.provide(OverRpc.Todos.use((todos) => use("effect/rpc", todos)), OverRpc.Todos.layer(port))
})

const withEffectCall = Effect.gen(function*() {
  const server = yield* Layer.build(OverCall.TodosServer)
  const port = Number(new URL(Context.get(server, Server.Server).address).port)
  yield* Effect.provide(OverCall.Todos.use((todos) => use("effect-call", todos)), OverCall.Todos.layer(port))
})

/** Nothing listens on port 1. */
const withoutServer = Effect.gen(function*() {
  const rpc = OverRpc.Todos.use((todos) => todos.WhoAmI()).pipe(Effect.provide(OverRpc.Todos.layer(1)), Effect.flip)
  const { _tag: rpcTag, message: rpcMessage } = yield* rpc
  yield* Console.log(`effect/rpc without a server: ${rpcTag}: ${rpcMessage}`)
  const call = OverCall.Todos.use((todos) => todos.WhoAmI()).pipe(Effect.provide(OverCall.Todos.layer(1)), Effect.flip)
  const { _tag: callTag, message: callMessage } = yield* call
  yield* Console.log(`effect-call without a server: ${callTag}: ${callMessage}`)
})

Effect.all([inMemory, withEffectRpc, withEffectCall, withoutServer], { discard: true }).pipe(
  Effect.scoped,
  // effect-call would log the bug, and that an endpoint could not be dialed.
  Effect.provide(Logger.layer([])),
  NodeRuntime.runMain
)
