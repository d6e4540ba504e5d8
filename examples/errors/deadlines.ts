/**
 * One deadline for a chain of calls: this program, A, calls B, and B's handler calls C.
 *
 * The time that is left travels with each call. When it is over, and when A gives up before that, the handlers of B and
 * C are interrupted.
 *
 * Run it with `npx node examples/errors/deadlines.ts`.
 */
import { NodeRuntime } from "@effect/platform-node"
import { Console, Effect, Fiber, Queue } from "effect"
import { Component, Deadline } from "effect-call"
import { B, Events, ToB } from "./chain/servers.ts"

const program = Effect.gen(function*() {
  const b = yield* Component.client(B)
  const events = yield* Events
  // B and C have begun, or have ended.
  const both = Queue.takeN(events, 2)
  const bothHaveEnded = Effect.andThen(both, both)

  yield* Console.log("A allows 5 seconds, and C takes 50 ms:")
  const found = yield* b.Look({ millis: 50 }).pipe(Deadline.within("5 seconds"))
  yield* Console.log(`  A gets: ${found}`)
  yield* bothHaveEnded

  yield* Console.log("A allows 1 second, and C takes a minute:")
  const late = yield* b.Look({ millis: 60_000 }).pipe(Deadline.within("1 second"), Effect.flip)
  yield* bothHaveEnded
  yield* Console.log(`  A gets: ${late._tag}: ${late.message}`)

  yield* Console.log("The same, but B allows C less time than it has itself:")
  const guess = yield* b.LookOrGuess({ millis: 60_000 }).pipe(Deadline.within("1 second"))
  yield* bothHaveEnded
  yield* Console.log(`  A gets: ${guess}`)

  yield* Console.log("There is no time limit, C takes a minute, and A gives up:")
  const call = yield* Effect.forkChild(b.Look({ millis: 60_000 }))
  yield* both
  yield* Fiber.interrupt(call)
  yield* both
})

program.pipe(Effect.provide(ToB), Effect.provide(Events.layer), NodeRuntime.runMain)
