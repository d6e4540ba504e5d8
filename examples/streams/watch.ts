/**
 * A watch without an end, over two replicas. When the one that serves it stops, the watch moves to the other.
 *
 * Run it with `npx node examples/streams/watch.ts`.
 */
import { NodeRuntime } from "@effect/platform-node"
import { Console, Duration, Effect, Fiber, Queue, Schedule, Schema, Stream, SubscriptionRef } from "effect"
import { type CallError, Component, Connection, Endpoint, Listener, Resolver, Server } from "effect-call"
import { Rpc, RpcGroup } from "effect/rpc"

const Settings = Component.make(
  "example/Settings",
  RpcGroup.make(
    Rpc.make("Watch", {
      success: Schema.Struct({ replica: Schema.String, theme: Schema.String }),
      stream: true
    }).pipe(Component.idempotent)
  )
)

/** Starts a replica. It stops, with a grace of 20 seconds, when its fiber is interrupted. */
const startReplica = Effect.fnUntraced(function*(replica: string, themes: SubscriptionRef.SubscriptionRef<string>) {
  const handlers = yield* Component.handlers(
    Settings,
    Settings.group.toLayer({
      // Without `untilLeaving` the watch would last until the end of the grace.
      Watch: () =>
        SubscriptionRef.changes(themes).pipe(Stream.map((theme) => ({ replica, theme })), Server.untilLeaving)
    })
  )
  const listener = yield* Listener.tcp("127.0.0.1:0", handlers)
  const serving = Server.serve(listener, { shutdownGrace: "20 seconds" })
  const fiber = yield* Effect.forkScoped(serving, { startImmediately: true })
  return { endpoint: yield* Endpoint.parse(listener.address), fiber }
})

/** Whether another replica may have what this one cannot give any more. */
const isWorthAnotherTry = (error: CallError.CallError): boolean =>
  error._tag === "RemoteError" ? error.isLeaving : error._tag !== "DeadlineExceeded"

const program = Effect.gen(function*() {
  const themes = yield* SubscriptionRef.make("light")
  const [a, b] = [yield* startReplica("a", themes), yield* startReplica("b", themes)]
  const connection = yield* Connection.make(Resolver.constant(a.endpoint, b.endpoint))
  const settings = yield* Effect.provideService(Component.client(Settings), Connection.Connection, connection)

  const watch = settings.Watch().pipe(
    Stream.tapError((error) => Console.log(`the watch ends: ${error._tag}: ${error.message}`)),
    Stream.retry(
      Schedule.spaced("50 millis").pipe(
        Schedule.while(({ input }: { readonly input: CallError.CallError }) => isWorthAnotherTry(input))
      )
    )
  )
  const seen = yield* Stream.toQueue(watch, { capacity: 16 })
  const next = Effect.flatMap(Queue.take(seen), ({ replica, theme }) => Console.log(`${replica} says: ${theme}`))

  yield* next
  yield* SubscriptionRef.set(themes, "dark")
  yield* next
  const [time] = yield* Effect.timed(Fiber.interrupt(a.fiber))
  yield* Console.log(`a has stopped, long before its grace was over: ${Duration.toSeconds(time) < 5}`)
  yield* next
  yield* SubscriptionRef.set(themes, "light")
  yield* next
})

program.pipe(Effect.timeout("30 seconds"), Effect.scoped, NodeRuntime.runMain)
