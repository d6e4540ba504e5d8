/**
 * What gRPC calls a service, metadata, interceptors, status codes, a deadline, a service config and a health check, in
 * one program.
 *
 * Run it with `npx node examples/coming-from-grpc/inventory.ts`.
 */
import { NodeRuntime } from "@effect/platform-node"
import { Console, Effect, Layer, Option, Schedule, Schema } from "effect"
import {
  type CallError,
  Component,
  Connection,
  Deadline,
  Endpoint,
  HandlerMap,
  Health,
  Listener,
  Resolver,
  Server
} from "effect-call"
import { Headers } from "effect/http"
import { Rpc, RpcGroup, RpcMiddleware } from "effect/rpc"

// ---- The .proto file: a service, its methods, and what they fail with.

class NotFound extends Schema.TaggedError<NotFound>()("NotFound", { item: Schema.String }) {}
class Unauthenticated extends Schema.TaggedError<Unauthenticated>()("Unauthenticated", {}) {}

/** An interceptor on both sides. */
class Token extends RpcMiddleware.Service<Token>()("example/Token", {
  error: Unauthenticated,
  requiredForClient: true
}) {}

const served = RpcGroup.make(
  Rpc.make("Count", { payload: { item: Schema.String }, success: Schema.Int, error: NotFound }).pipe(
    Component.idempotent
  ),
  Rpc.make("Recount", { success: Schema.Int })
).middleware(Token)
const Inventory = Component.make("example/Inventory", served)
/** A newer version, with a method that the server does not have. */
const Newer = Component.make("example/Inventory", served.add(Rpc.make("Move")))

// ---- The server.

const ServerInterceptor = Layer.succeed(
  Token,
  (handler, { headers }) =>
    headers["authorization"] === "Bearer a-secret" ? handler : Effect.fail(new Unauthenticated())
)

const InventoryHandlers = Inventory.group.toLayer({
  Count: ({ item }) => item === "tea" ? Effect.succeed(3) : Effect.fail(new NotFound({ item })),
  // The deadline of the caller arrives with the call.
  Recount: () =>
    Effect.gen(function*() {
      const left = yield* Deadline.remaining
      yield* Console.log(`the handler has a deadline: ${Option.isSome(left)}`)
      return yield* Effect.never
    })
})

const InventoryServer = Server.layer(Effect.gen(function*() {
  const handlers = yield* Component.handlers(Inventory, InventoryHandlers)
  return yield* Listener.tcp("127.0.0.1:0", HandlerMap.merge(handlers, yield* Health.handlers))
})).pipe(Layer.provide([ServerInterceptor, Health.layer("Serving")]))

// ---- The client: a channel with client-side health checks, and an interceptor that sends metadata.

const Channel = Layer.effect(
  Connection.Connection,
  Effect.gen(function*() {
    const { address } = yield* Server.Server
    return yield* Connection.make(Resolver.constant(yield* Endpoint.parse(address)), { health: Inventory.name })
  })
).pipe(Layer.provide(InventoryServer))

const interceptor = (token: string) =>
  RpcMiddleware.layerClient(
    Token,
    ({ next, request }) =>
      next({ ...request, headers: Headers.set(request.headers, "authorization", `Bearer ${token}`) })
  )

/** The status code that gRPC has for an error. */
const statusOf = (error: CallError.CallError | NotFound | Unauthenticated): string => {
  switch (error._tag) {
    case "NotFound":
      return "NOT_FOUND"
    case "Unauthenticated":
      return "UNAUTHENTICATED"
    case "DeadlineExceeded":
      return "DEADLINE_EXCEEDED"
    case "Unreachable":
      return "UNAVAILABLE"
    case "CommunicationError":
      return error.reason._tag === "TooLarge" ? "RESOURCE_EXHAUSTED" : "UNAVAILABLE"
    case "RemoteError":
      return error.isUnknownMethod ? "UNIMPLEMENTED" : error.isOverloaded ? "RESOURCE_EXHAUSTED" : "UNKNOWN"
  }
}

const show = <A>(name: string, call: Effect.Effect<A, CallError.CallError | NotFound | Unauthenticated>) =>
  call.pipe(
    Effect.match({ onSuccess: (value) => `OK ${String(value)}`, onFailure: statusOf }),
    Effect.flatMap((status) => Console.log(`${name}: ${status}`))
  )

const program = Effect.gen(function*() {
  const inventory = yield* Effect.provide(Component.client(Newer), interceptor("a-secret"))
  const stranger = yield* Effect.provide(Component.client(Inventory), interceptor("a-guess"))
  yield* show("Count tea", inventory.Count({ item: "tea" }))
  yield* show("Count coal", inventory.Count({ item: "coal" }))
  yield* show("Count as a stranger", stranger.Count({ item: "tea" }))
  yield* show("Recount", inventory.Recount().pipe(Connection.withOptions({ timeout: "1 second" })))
  yield* show("Move", inventory.Move())
})

// What a service config says: a timeout, and retries with exponential backoff for idempotent methods.
program.pipe(
  Connection.withOptions({ timeout: "5 seconds", retry: Schedule.exponential("20 millis") }),
  Effect.provide(Channel),
  NodeRuntime.runMain
)
