/**
 * A connection directly to handlers, for unit tests of code that makes calls.
 *
 * It is one server on a network in memory, without faults. `TestNetwork` has several servers, and faults.
 *
 * @module
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import * as Connection from "../Connection.ts"
import type { HandlerMap } from "../HandlerMap.ts"
import * as Resolver from "../Resolver.ts"
import * as Server from "../Server.ts"
import * as TestNetwork from "./TestNetwork.ts"

/**
 * Provides a `Connection` to a server that runs `handlers`, in memory and through the real protocol.
 *
 * **When to use**
 *
 * Use it in tests of code that makes calls, together with the handlers that it calls. For several servers, or for
 * faults, see `TestNetwork`. For handlers alone, or for fake handlers, the `RpcTest` of effect/rpc is enough: a
 * component's `group` works with it.
 *
 * **Details**
 *
 * Calls, failures, deadlines and cancellation work as over a socket: everything is encoded, sent and decoded. If the
 * connection breaks, it is dialed again. The timeouts of the Connection and of the server go by the `Clock` that the
 * layer is built with. The Connection and the server have their default options.
 *
 * **Gotchas**
 *
 * `TestClock.adjust` does not wait for bytes. A request reaches its handler in a later turn of the event loop, and so
 * does the answer its caller. If the test adjusts the clock before a handler begins to sleep, the handler sleeps on,
 * and the test hangs. Fork the call with `{ startImmediately: true }`: then it reaches its handler before `adjust`
 * moves the clock. If the handler itself makes calls, or if the call is made again after a delay, wait with a
 * `Deferred` until the sleep is near, or adjust the clock in small steps until the call is done. A `timeout` or a
 * `Deadline` of the caller starts with the call, and needs none of this.
 *
 * **Example** (A client of a component)
 *
 * ```ts
 * import { assert, it } from "@effect/vitest"
 * import { Effect, Layer, Schema } from "effect"
 * import { Component } from "effect-call"
 * import { CallTest } from "effect-call/testing"
 * import { Rpc, RpcGroup } from "effect/rpc"
 *
 * const Greeter = Component.make(
 *   "example/Greeter",
 *   RpcGroup.make(Rpc.make("Greet", { payload: { name: Schema.String }, success: Schema.String }))
 * )
 *
 * const GreeterHandlers = Greeter.group.toLayer({ Greet: ({ name }) => Effect.succeed(`Hello, ${name}!`) })
 *
 * const ToGreeter = Layer.unwrap(Effect.map(Component.handlers(Greeter, GreeterHandlers), CallTest.layer))
 *
 * it.effect("greets by name", () =>
 *   Effect.gen(function*() {
 *     const greeter = yield* Component.client(Greeter)
 *     assert.strictEqual(yield* greeter.Greet({ name: "Ada" }), "Hello, Ada!")
 *   }).pipe(Effect.provide(ToGreeter)))
 * ```
 *
 * **Example** (Bytes, without a component)
 *
 * ```ts
 * import { assert, it } from "@effect/vitest"
 * import { Effect } from "effect"
 * import { Connection, HandlerMap, MethodKey } from "effect-call"
 * import { CallTest } from "effect-call/testing"
 *
 * const echo = MethodKey.make("example/Echo", "echo")
 * const handlers = HandlerMap.empty.pipe(HandlerMap.set("example/Echo", "echo", (args) => Effect.succeed(args)))
 *
 * it.effect("answers with its arguments", () =>
 *   Effect.gen(function*() {
 *     const connection = yield* Connection.Connection
 *     assert.deepEqual(yield* connection.call(echo, new Uint8Array([1])), new Uint8Array([1]))
 *   }).pipe(Effect.provide(CallTest.layer(handlers))))
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = <R>(handlers: HandlerMap<R>): Layer.Layer<Connection.Connection, never, Exclude<R, Scope.Scope>> =>
  Layer.effect(
    Connection.Connection,
    Effect.gen(function*() {
      const network = yield* TestNetwork.make
      const listener = yield* network.listener("CallTest", handlers)
      yield* Effect.forkScoped(Server.serve(listener), { startImmediately: true })
      return yield* Connection.make(Resolver.constant(network.endpoint("CallTest")))
    }).pipe(
      // The name is free in a new network, and a resolver with a constant endpoint does not fail.
      Effect.orDie
    )
  )
