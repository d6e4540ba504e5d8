/**
 * effect-call itself: streams of bytes, and typed ones, over TCP.
 */
import { Effect, Layer, Scope } from "effect"
import { Component, Connection, Endpoint, HandlerMap, Listener, MethodKey, Resolver, Server } from "effect-call"
import {
  type Feed,
  feedFromBytes,
  feedToBytes,
  itemOf,
  sizeFromBytes,
  sizeToBytes,
  type StreamClient,
  type StreamSystem
} from "../system.ts"
import { group, groupLayer } from "./contract.ts"
import { effectStreams, feedStream } from "./effects.ts"

const name = "benchmark/Streams"
const items = MethodKey.make(name, "items")
const answer = MethodKey.make(name, "answer")

const Streams = Component.make("benchmark/TypedStreams", group)

/** It is never closed: both halves last until their process ends. */
const scope = Scope.makeUnsafe()

const serve = (handlers: Effect.Effect<HandlerMap.HandlerMap<never>, never, Scope.Scope>): Promise<string> =>
  Effect.runPromise(
    Effect.gen(function*() {
      const listening = Effect.flatMap(handlers, (handlers) => Listener.tcp("127.0.0.1:0", handlers))
      const context = yield* Layer.build(Server.layer(listening))
      return (yield* Effect.provideContext(Server.Server, context)).address
    }).pipe(Scope.provide(scope))
  )

const connect = (
  address: string,
  clientOf: (connection: Connection.Connection) => Effect.Effect<StreamClient, never, Scope.Scope>
): Promise<StreamClient> =>
  Effect.runPromise(
    Effect.gen(function*() {
      const endpoint = yield* Endpoint.parse(address)
      return yield* clientOf(yield* Connection.make(Resolver.constant(endpoint)))
    }).pipe(Scope.provide(scope))
  )

/** Items are bytes. */
export const bytes: StreamSystem = {
  serve: () =>
    serve(Effect.succeed(HandlerMap.empty.pipe(
      HandlerMap.setStream(name, "items", (args) => feedStream(feedFromBytes(args))),
      HandlerMap.set(name, "answer", (args) => Effect.succeed(itemOf(sizeFromBytes(args))))
    ))),
  connect: (address) =>
    connect(address, (connection) =>
      Effect.succeed(effectStreams(
        (feed) => connection.stream(items, feedToBytes(feed)),
        (size) => connection.call(answer, sizeToBytes(size))
      )))
}

/** Items are values of a schema, the same as effect/rpc's. */
export const typed: StreamSystem = {
  serve: () => serve(Component.handlers(Streams, groupLayer, { disableTracing: true })),
  connect: (address) =>
    connect(address, (connection) =>
      Effect.map(
        Effect.provideService(Component.client(Streams, { disableTracing: true }), Connection.Connection, connection),
        (client) => effectStreams((feed: Feed) => client.Items(feed), (size) => client.Answer({ bytes: size }))
      ))
}
