/** What the tests of users' loggers and tracers share. */
import { Cause, Effect, Exit, type Fiber, type SubscriptionRef } from "effect"
import { Connection, Endpoint, HandlerMap, Listener, MethodKey, Server } from "effect-call"
import * as assert from "node:assert/strict"
import { component, handlers } from "../support/networks.ts"

export const die = MethodKey.make(component, "die")
export const dying = HandlerMap.set(handlers, component, "die", () => Effect.die(new Error("the handler's own")))

/** What a call ends with; where nothing ends it, its time is up, which is a failure of the test. */
export const ends = <A, E>(call: Effect.Effect<A, E>) =>
  Effect.map(Effect.exit(Connection.withOptions(call, { timeout: "10 seconds" })), (exit) => {
    const error = Exit.isFailure(exit) ? Cause.squash(exit.cause) : undefined
    assert.ok(!(error instanceof Error) || error.name !== "DeadlineExceeded", "nothing has ended it")
    return exit
  })

/** What may be done from outside in the middle of a scenario. */
export interface Reach {
  connection?: Connection.Connection
  servers: Array<Fiber.Fiber<unknown, unknown>>
  endpoints?: SubscriptionRef.SubscriptionRef<ReadonlyArray<Endpoint.Endpoint>>
  all?: ReadonlyArray<Endpoint.Endpoint>
}

/** Serves for the ambient Scope, in a fiber that is kept. */
export const served = Effect.fnUntraced(function*(reach: Reach, how: Listener.Handlers) {
  const listener = yield* Listener.tcp("127.0.0.1:0", how)
  const serving = yield* Effect.forkScoped(Server.serve(listener, { shutdownGrace: "10 millis" }), {
    startImmediately: true
  })
  reach.servers.push(serving)
  return { endpoint: yield* Endpoint.parse(listener.address), serving }
})
