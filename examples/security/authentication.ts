/**
 * Authentication by middleware. The client's half adds a bearer token to each call. The server's half checks the token
 * and provides the caller's identity to the handler.
 *
 * Run it with `npx node examples/security/authentication.ts`.
 */
import { NodeRuntime } from "@effect/platform-node"
import { Console, Context, Effect, Layer, Schema } from "effect"
import { Component, Connection, Endpoint, Listener, Resolver, Server } from "effect-call"
import { Headers } from "effect/http"
import { Rpc, RpcGroup, RpcMiddleware } from "effect/rpc"
import * as assert from "node:assert/strict"

// ---- The contract.

class CurrentUser extends Context.Service<CurrentUser, { readonly name: string }>()("example/CurrentUser") {}

class Unauthorized extends Schema.TaggedError<Unauthorized>()("Unauthorized", { message: Schema.String }) {}

/**
 * The middleware of a method. It provides the handler with a `CurrentUser`, and adds `Unauthorized` to the method's
 * errors. A client requires the client's half.
 */
class Authentication extends RpcMiddleware.Service<Authentication, { provides: CurrentUser }>()(
  "example/Authentication",
  { error: Unauthorized, requiredForClient: true }
) {}

const Greeter = Component.make(
  "example/Greeter",
  RpcGroup.make(Rpc.make("Greet", { success: Schema.String })).middleware(Authentication)
)

// ---- The server.

const users = new Map([["Bearer a-secret", { name: "Ada" }]])

/** The server's half: the handler runs only for a known user. */
const CheckTokens = Layer.succeed(Authentication, (handler, { headers }) => {
  const user = users.get(headers["authorization"] ?? "")
  return user === undefined
    ? Effect.fail(new Unauthorized({ message: "expected the token of a user" }))
    : Effect.provideService(handler, CurrentUser, user)
})

const GreeterHandlers = Greeter.group.toLayer({
  Greet: () => CurrentUser.useSync(({ name }) => `Hello, ${name}!`)
})

const GreeterServer = Server.layer(
  Effect.flatMap(Component.handlers(Greeter, GreeterHandlers), (handlers) => Listener.tcp("127.0.0.1:0", handlers))
).pipe(Layer.provide(CheckTokens))

// ---- The client.

/** The client's half: it adds the token to each request. */
const withToken = (token: string) =>
  RpcMiddleware.layerClient(
    Authentication,
    ({ next, request }) =>
      next({ ...request, headers: Headers.set(request.headers, "authorization", `Bearer ${token}`) })
  )

const ToServer = Layer.effect(
  Connection.Connection,
  Effect.gen(function*() {
    const { address } = yield* Server.Server
    return yield* Connection.make(Resolver.constant(yield* Endpoint.parse(address)))
  })
)

const greet = Effect.gen(function*() {
  const greeter = yield* Component.client(Greeter)
  return yield* greeter.Greet() // fails with Unauthorized or a CallError
})

const program = Effect.gen(function*() {
  const greeting = yield* Effect.provide(greet, withToken("a-secret"))
  yield* Console.log(`with the right token: ${greeting}`)
  assert.equal(greeting, "Hello, Ada!")

  const error = yield* Effect.flip(Effect.provide(greet, withToken("a-guess")))
  yield* Console.log(`with a wrong one: ${error._tag}: ${error.message}`)
  assert.ok(error instanceof Unauthorized)
})

program.pipe(Effect.provide(ToServer), Effect.provide(GreeterServer), NodeRuntime.runMain)
