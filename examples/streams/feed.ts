/**
 * A live feed with a fast and a slow reader: the feed of the slow one waits for it, and nothing else does.
 *
 * Run it with `npx node examples/streams/feed.ts`.
 */
import { NodeRuntime } from "@effect/platform-node"
import { Console, Duration, Effect, Fiber, Schema, Stream } from "effect"
import { Component, Connection, Endpoint, Listener, Resolver, Server } from "effect-call"
import { Rpc, RpcGroup } from "effect/rpc"
import * as assert from "node:assert/strict"

const Prices = Component.make(
  "example/Prices",
  RpcGroup.make(
    Rpc.make("Watch", { payload: { reader: Schema.String }, success: Schema.Int, stream: true }),
    Rpc.make("Current", { success: Schema.Int })
  )
)

/** How many prices the feed of each reader has made so far. */
const made: Record<string, number> = {}

const PricesHandlers = Prices.group.toLayer({
  // A feed without an end, which makes prices as fast as its reader takes them.
  Watch: ({ reader }) =>
    Stream.iterate(1, (price) => price + 1).pipe(
      Stream.tap((price) => Effect.sync(() => void (made[reader] = price)))
    ),
  Current: () => Effect.succeed(42)
})

const PricesServer = Server.layer(
  Effect.flatMap(Component.handlers(Prices, PricesHandlers), (handlers) => Listener.tcp("127.0.0.1:0", handlers))
)

const program = Effect.gen(function*() {
  const { address } = yield* Server.Server
  const connection = yield* Connection.make(Resolver.constant(yield* Endpoint.parse(address)))
  const prices = yield* Effect.provideService(Component.client(Prices), Connection.Connection, connection)

  const taken: Array<number> = []
  const slow = yield* prices.Watch({ reader: "slow" }).pipe(
    Stream.take(40),
    Stream.runForEach((price) => Effect.delay(Effect.sync(() => taken.push(price)), "50 millis")),
    Effect.forkChild({ startImmediately: true })
  )

  yield* prices.Watch({ reader: "fast" }).pipe(Stream.take(50_000), Stream.runDrain)
  yield* Console.log(`the fast reader has taken 50000 prices, and the slow one ${taken.length}`)

  const [time] = yield* Effect.timed(prices.Current())
  yield* Console.log(`a call on the same connection took ${Duration.toMillis(time).toFixed(1)} ms`)

  const before = made["slow"] ?? 0
  yield* Effect.sleep("100 millis")
  const ahead = before - taken.length
  yield* Console.log(`the feed of the slow reader is ${ahead} prices ahead of it, and waits`)
  assert.deepEqual([made["slow"], before < 20_000], [before, true])

  yield* Fiber.join(slow)
  yield* Console.log(`the slow reader has ${taken.length} prices: from ${taken[0]} to ${taken.at(-1)}`)
})

program.pipe(
  Connection.withOptions({ timeout: "20 seconds" }),
  Effect.scoped,
  Effect.provide(PricesServer),
  NodeRuntime.runMain
)
