/**
 * Two servers: B, whose handlers call C. Each handler prints how much time is left when it begins, and how it ends.
 */
import { Cause, Console, Context, Duration, Effect, Exit, Layer, Option, Queue, Schema } from "effect"
import { type CallError, Component, Connection, Deadline, Endpoint, Listener, Resolver, Server } from "effect-call"
import { Rpc, RpcGroup } from "effect/rpc"

/** What B fails with when it cannot get an answer from C. */
class Unavailable extends Schema.TaggedError<Unavailable>()("Unavailable", { message: Schema.String }) {}
const orUnavailable = Effect.mapError((error: CallError.CallError) => new Unavailable({ message: error.message }))

const shape = { payload: { millis: Schema.Int }, success: Schema.String }
const C = Component.make("example/C", RpcGroup.make(Rpc.make("Look", shape)))
export const B = Component.make(
  "example/B",
  RpcGroup.make(
    Rpc.make("Look", { ...shape, error: Unavailable }),
    Rpc.make("LookOrGuess", { ...shape, error: Unavailable })
  )
)

/** Gets an element when a handler begins and when it ends, so that the program can wait for that. */
export class Events extends Context.Service<Events, Queue.Queue<string>>()("Events") {
  static readonly layer = Layer.effect(this, Queue.unbounded<string>())
}

const millisLeft = Effect.map(
  Deadline.remaining,
  Option.match({ onNone: () => Infinity, onSome: (left) => Math.round(Duration.toMillis(left)) })
)

const reported = Effect.fnUntraced(function*<A, E, R>(who: string, work: Effect.Effect<A, E, R>) {
  const events = yield* Events
  const say = (what: string) => Effect.andThen(Console.log(`  ${who} ${what}`), Queue.offer(events, what))
  const left = yield* millisLeft
  yield* say(left === Infinity ? "begins, without a time limit" : `begins, ${left} ms are left`)
  return yield* Effect.onExit(work, (exit) => say(`ends: ${outcome(exit)}`))
})

const outcome = (exit: Exit.Exit<unknown, unknown>): string => {
  if (Exit.isSuccess(exit)) return String(exit.value)
  return Cause.hasInterruptsOnly(exit.cause) ? "interrupted" : String(Cause.squash(exit.cause))
}

// C: the caller says how long the handler works.
const CHandlers = C.group.toLayer({
  Look: ({ millis }) => reported("C", Effect.as(Effect.sleep(millis), "found"))
})
const CServer = Server.layer(
  Effect.flatMap(Component.handlers(C, CHandlers), (handlers) => Listener.tcp("127.0.0.1:0", handlers))
)

// B: its handlers have a client of C.
const BHandlers = B.group.toLayer(Effect.gen(function*() {
  const c = yield* Component.client(C)
  return {
    // The call of C has the time that the call of B has left. No code is needed for that.
    Look: ({ millis }) => reported("B", orUnavailable(c.Look({ millis }))),
    // B keeps 200 ms for itself. If C has not answered by then, B answers with a guess.
    LookOrGuess: ({ millis }) =>
      reported(
        "B",
        Effect.flatMap(millisLeft, (left) => Deadline.within(c.Look({ millis }), left - 200)).pipe(
          Effect.catchTag("DeadlineExceeded", () => Effect.succeed("a guess")),
          orUnavailable
        )
      )
  }
}))

const BServer = Server.layer(
  Effect.flatMap(Component.handlers(B, BHandlers), (handlers) => Listener.tcp("127.0.0.1:0", handlers))
)

const connectionTo = <E, R>(server: Layer.Layer<Server.Server, E, R>) =>
  Layer.effect(
    Connection.Connection,
    Effect.gen(function*() {
      const { address } = yield* Server.Server
      return yield* Connection.make(Resolver.constant(yield* Endpoint.parse(address)))
    })
  ).pipe(Layer.provide(server))

/** A Connection to B, whose handlers have a Connection to C. */
export const ToB = connectionTo(Layer.provide(BServer, connectionTo(CServer)))
