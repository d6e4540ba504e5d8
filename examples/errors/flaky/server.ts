/**
 * A stock server that is not reliable: it stops while a handler runs, as a crash would stop it, and is started again.
 */
import { Effect, Latch, Layer, Schema } from "effect"
import { Component, Listener, Server } from "effect-call"
import { Rpc, RpcGroup } from "effect/rpc"

export const Stock = Component.make(
  "example/Stock",
  RpcGroup.make(
    // To count twice does no harm. If a call is lost, it may be made again.
    Rpc.make("Count", { success: Schema.Int }).pipe(Component.idempotent),
    // To take twice takes two. A call is made again only if it surely has not run.
    Rpc.make("Take", { success: Schema.Int })
  )
)

/** How often each handler has begun. */
export const runs = { Count: 0, Take: 0 }

let left = 10

/** Serves at a Unix socket. The first call of each method ends the server before it is answered. */
export const serveFlaky = (path: string) =>
  Effect.gen(function*() {
    const crashed = yield* Latch.make()
    const crash = Effect.andThen(crashed.open, Effect.never)
    const handlers = Stock.group.toLayer({
      Count: () => Effect.suspend(() => ++runs.Count === 1 ? crash : Effect.succeed(left)),
      Take: () => Effect.suspend(() => (left--, ++runs.Take === 1) ? crash : Effect.succeed(left))
    })
    const server = Server.layer(
      Effect.flatMap(Component.handlers(Stock, handlers), (map) => Listener.unix(path, map)),
      { shutdownGrace: 0 }
    )
    yield* Effect.provide(crashed.await, Layer.fresh(server))
  }).pipe(Effect.forever)

/** A server of the same contract that can only run one call at a time, and refuses the others. */
export const BusyServer = Server.layer(
  Effect.flatMap(
    Component.handlers(
      Stock,
      Stock.group.toLayer({ Count: () => Effect.as(Effect.sleep("20 millis"), 10), Take: () => Effect.succeed(9) })
    ),
    (map) => Listener.tcp("127.0.0.1:0", map)
  ),
  { maxConcurrentCalls: 1, maxQueuedCalls: 0 }
)
