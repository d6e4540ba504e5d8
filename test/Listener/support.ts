/** What the tests of listeners share: handlers that can be told apart, and clients of a listener. */
import { assert } from "@effect/vitest"
import { Effect, type Scope } from "effect"
import { Endpoint, HandlerMap, type Listener } from "effect-call"
import type { Duplex } from "node:stream"
import { read, write } from "../internal/net/sockets.ts"

export const named = (name: string) =>
  HandlerMap.set(HandlerMap.empty, name, "get", () => Effect.succeed(new Uint8Array()))
export const handlers = named("everybody")

/** Dials the address of a listener as it stands there. */
export const dial = (listener: Listener.Listener<unknown>) =>
  Effect.flatMap(Endpoint.parse(listener.address), (endpoint) => endpoint.dial)

export const failure = (listening: Effect.Effect<unknown, Listener.ListenerError, Scope.Scope>) =>
  Effect.map(Effect.flip(listening), (error) => error.message)

/** Accepts what has just been dialed. */
export const connect = Effect.fnUntraced(function*<R>(listener: Listener.Listener<R>) {
  const client = yield* dial(listener)
  return { client, ...(yield* listener.accept) }
})

/** Sends something in both directions. */
export const exchange = Effect.fnUntraced(function*(client: Duplex, connection: Duplex) {
  yield* write(client, "ping")
  assert.strictEqual(yield* read(connection, 4), "ping")
  yield* write(connection, "pong")
  assert.strictEqual(yield* read(client, 4), "pong")
})
