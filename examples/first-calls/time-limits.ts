/**
 * A call has no time limit unless you set one. This program sets one in three ways, for a server that never
 * answers.
 *
 * Run it with `npx node examples/first-calls/time-limits.ts`.
 */
import { NodeRuntime } from "@effect/platform-node"
import { Console, Context, Effect, Layer, Queue, Schema } from "effect"
import { Component, Connection, Deadline, Endpoint, Listener, Resolver, Server } from "effect-call"
import { Rpc, RpcGroup } from "effect/rpc"

const Sleeper = Component.make(
  "example/Sleeper",
  RpcGroup.make(Rpc.make("Sleep", { payload: { who: Schema.String } }), Rpc.make("Wake"))
)

/** The callers whose handlers were stopped. */
class Stopped extends Context.Service<Stopped, Queue.Queue<string>>()("example/Stopped") {
  static readonly layer = Layer.effect(this, Queue.unbounded<string>())
}

const SleeperServer = Server.layer(
  Effect.gen(function*() {
    const stopped = yield* Stopped
    const layer = Sleeper.group.toLayer({
      // It never answers. When the time of its caller is up, it is interrupted.
      Sleep: ({ who }) => Effect.never.pipe(Effect.onInterrupt(() => Queue.offer(stopped, who))),
      Wake: () => Effect.void
    })
    return yield* Listener.tcp("127.0.0.1:0", yield* Component.handlers(Sleeper, layer))
  })
)

const ToSleeper = Layer.effect(
  Connection.Connection,
  Effect.gen(function*() {
    const { address } = yield* Server.Server
    return yield* Connection.make(Resolver.constant(yield* Endpoint.parse(address)))
  })
)

const program = Effect.gen(function*() {
  const sleeper = yield* Component.client(Sleeper)
  const stopped = yield* Stopped
  const show = Effect.fnUntraced(function*(text: string) {
    yield* Console.log(`${text}; the server stopped the call of ${yield* Queue.take(stopped)}`)
  })

  yield* sleeper.Wake() // opens the connection

  // 1. Each call in the region has this time.
  const calls = Effect.gen(function*() {
    yield* sleeper.Wake()
    yield* sleeper.Sleep({ who: "Ada" })
  })
  const first = yield* Effect.flip(calls.pipe(Connection.withOptions({ timeout: "700 millis" })))
  yield* Console.log(first.message)
  yield* show(`1. timeout: ${first._tag}`)

  // 2. All calls in the region share this time. What is left of it goes with each call.
  const second = yield* Effect.flip(calls.pipe(Deadline.within("700 millis")))
  yield* show(`2. deadline: ${second._tag}`)

  // 3. Effect's own timeout interrupts the call. That stops the handler, too.
  const third = yield* Effect.timeoutOption(sleeper.Sleep({ who: "Grace" }), "700 millis")
  yield* show(`3. interrupted: ${third._tag}`)
})

program.pipe(
  Effect.provide(ToSleeper.pipe(Layer.provide(SleeperServer), Layer.provideMerge(Stopped.layer))),
  NodeRuntime.runMain
)
