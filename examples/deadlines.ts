/**
 * One deadline for a chain of calls: A (this program) calls B, and B's handler calls C.
 *
 * The calls carry A's deadline, so B and C know how much time remains, and stop working when the deadline passes.
 *
 * Run it with `node examples/deadlines.ts`.
 */
import { NodeRuntime } from "@effect/platform-node"
import { Cause, Console, Context, Duration, Effect, Exit, Layer, Option, Queue } from "effect"
import {
  Balancer,
  CallError,
  Connection,
  Deadline,
  Endpoint,
  HandlerMap,
  Listener,
  MethodKey,
  Resolver,
  Server
} from "effect-call"
import * as assert from "node:assert/strict"

const toBytes = (text: string) => new TextEncoder().encode(text)
const fromBytes = (bytes: Uint8Array) => new TextDecoder().decode(bytes)

interface Hop {
  readonly who: string
  readonly millisLeft: number
  readonly outcome: string
}

/** Collects a report from each hop: how much time remained when it started, and how it ended. */
class Journal extends Context.Service<Journal, Queue.Queue<Hop>>()("Journal") {
  static readonly layer = Layer.effect(this, Queue.unbounded<Hop>())
}

const millisLeft = Effect.map(Deadline.remaining, (left) =>
  // Without a deadline, the time is unlimited.
  Math.round(Duration.toMillis(Option.getOrElse(left, () => Duration.infinity))))

const outcomeOf = (exit: Exit.Exit<unknown, unknown>): string => {
  if (Exit.isSuccess(exit)) return "done"
  const error = Option.getOrUndefined(Cause.findErrorOption(exit.cause))
  return CallError.isCallError(error) ? error._tag : Cause.hasInterruptsOnly(exit.cause) ? "interrupted" : "failed"
}

const reported = Effect.fnUntraced(function*<A, E, R>(who: string, work: Effect.Effect<A, E, R>) {
  const journal = yield* Journal
  const left = yield* millisLeft
  return yield* Effect.onExit(
    work,
    (exit) => Queue.offer(journal, { who, millisLeft: left, outcome: outcomeOf(exit) })
  )
})

// C: the request says how long its handler takes.
const C = Server.layer(Listener.tcp(
  "127.0.0.1:0",
  HandlerMap.empty.pipe(
    HandlerMap.set(
      "example/C",
      "look",
      (millis) => reported("C", Effect.as(Effect.sleep(Number(fromBytes(millis))), toBytes("what C found")))
    )
  )
))
const lookC = MethodKey.make("example/C", "look")

// B: its handlers need a Connection to C.
const B = Server.layer(Listener.tcp(
  "127.0.0.1:0",
  HandlerMap.empty.pipe(
    HandlerMap.set(
      "example/B",
      "look",
      (millis) => reported("B", Connection.Connection.use((toC) => toC.call(lookC, millis)))
    ),
    // This handler reserves 100 ms for itself. If C does not answer in the remaining time, it answers with a guess.
    HandlerMap.set("example/B", "lookOrGuess", (millis) =>
      reported(
        "B",
        Effect.gen(function*() {
          const toC = yield* Connection.Connection
          return yield* toC.call(lookC, millis, { timeout: (yield* millisLeft) - 100 }).pipe(
            Effect.catchTag("DeadlineExceeded", () => Effect.succeed(toBytes("a guess of B")))
          )
        })
      ))
  )
))
const lookB = MethodKey.make("example/B", "look")
const lookOrGuessB = MethodKey.make("example/B", "lookOrGuess")

const connectionTo = <E, R>(server: Layer.Layer<Server.Server, E, R>) => {
  const endpoint = Server.Server.use(({ address }) => Endpoint.parse(address))
  return Connection.layer().pipe(
    Layer.provide([Balancer.layer(Balancer.roundRobin), Resolver.layer(Effect.map(endpoint, Resolver.constant))]),
    Layer.provide(server)
  )
}

const BWithC = Layer.provide(B, connectionTo(C))

/** Calls B, and returns the result of the call and the reports of the three hops. */
const ask = Effect.fnUntraced(function*(method: MethodKey.MethodKey, millisOfC: number, allowed: Duration.Input) {
  const toB = yield* Connection.Connection
  const call = toB.call(method, toBytes(String(millisOfC)))
  const exit = yield* Effect.exit(Deadline.within(reported("A", call), allowed))
  const hops = yield* Queue.takeN(yield* Journal, 3)
  const [a, b, c] = ["A", "B", "C"].map((who) => hops.find((hop) => hop.who === who))
  assert.ok(a !== undefined && b !== undefined && c !== undefined)
  // The outcome for A is the result of `Deadline.within`.
  const told = { ...a, outcome: outcomeOf(exit) }
  for (const { millisLeft, outcome, who } of [told, b, c]) {
    yield* Console.log(`  ${who} had ${millisLeft} ms left: ${outcome}`)
  }
  return { exit, a: told, b, c }
})

const program = Effect.gen(function*() {
  yield* Console.log("A allows 2 seconds, and C takes 50 ms:")
  const inTime = yield* ask(lookB, 50, "2 seconds")
  assert.deepEqual(Exit.map(inTime.exit, fromBytes), Exit.succeed("what C found"))
  assert.ok(inTime.a.millisLeft >= inTime.b.millisLeft && inTime.b.millisLeft >= inTime.c.millisLeft)
  assert.ok(inTime.c.millisLeft > 0)

  yield* Console.log("A allows 500 ms, and C takes a minute:")
  const tooLate = yield* ask(lookB, 60_000, "500 millis")
  assert.equal(tooLate.a.outcome, "DeadlineExceeded")
  // At the deadline, the handler is interrupted. If its own call to C ends first, it fails with DeadlineExceeded.
  assert.match(tooLate.b.outcome, /^(interrupted|DeadlineExceeded)$/)
  assert.equal(tooLate.c.outcome, "interrupted")

  yield* Console.log("A allows 500 ms, C takes a minute, and B allows C 100 ms less:")
  const guessed = yield* ask(lookOrGuessB, 60_000, "500 millis")
  assert.deepEqual(Exit.map(guessed.exit, fromBytes), Exit.succeed("a guess of B"))
  assert.deepEqual([guessed.b.outcome, guessed.c.outcome], ["done", "interrupted"])
  assert.ok(guessed.c.millisLeft <= guessed.b.millisLeft - 100)
})

program.pipe(
  Effect.timeout("10 seconds"),
  Effect.provide(connectionTo(BWithC)),
  Effect.provide(Journal.layer),
  NodeRuntime.runMain
)
