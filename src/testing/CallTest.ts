/**
 * A connection directly to handlers, for unit tests of code that makes calls. It knows no faults: `TestNetwork` has
 * them.
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
 * Use it in unit tests of code that makes calls. For several servers, or for faults, see `TestNetwork`.
 *
 * **Details**
 *
 * Calls, failures, deadlines and cancellation work as over a socket: everything is encoded, sent and decoded. If the
 * connection breaks, it is dialed again.
 *
 * **Example**
 *
 * ```ts
 * import { assert, it } from "@effect/vitest"
 * import { Effect } from "effect"
 * import { Connection, HandlerMap, MethodKey } from "effect-call"
 * import { CallTest } from "effect-call/testing"
 *
 * // The code under test: it makes a call.
 * const greet = Effect.fn("greet")(function*(name: string) {
 *   const connection = yield* Connection.Connection
 *   const key = MethodKey.make("example/Greeter", "greet")
 *   return new TextDecoder().decode(yield* connection.call(key, new TextEncoder().encode(name)))
 * })
 *
 * const handlers = HandlerMap.empty.pipe(
 *   HandlerMap.set("example/Greeter", "greet", (name) =>
 *     Effect.succeed(new TextEncoder().encode(`Hello, ${new TextDecoder().decode(name)}`)))
 * )
 *
 * it.effect("greets by name", () =>
 *   Effect.gen(function*() {
 *     assert.strictEqual(yield* greet("Ada"), "Hello, Ada")
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
