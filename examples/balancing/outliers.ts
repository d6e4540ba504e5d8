/**
 * A replica hangs: it takes calls, and does not answer. The client ejects it after a few failures, and uses it again
 * when it answers.
 *
 * Run it with `npx node examples/balancing/outliers.ts`.
 */
import { NodeRuntime } from "@effect/platform-node"
import { Console, Effect, Latch, Stream } from "effect"
import { Component, Connection, Endpoint, Resolver } from "effect-call"
import * as assert from "node:assert/strict"
import { Names, namesHandlers, serve } from "../support/names.ts"

const program = Effect.gen(function*() {
  // While the latch is closed, the second replica does not answer.
  const works = yield* Latch.make(true)
  const good = yield* serve("127.0.0.1:0", yield* namesHandlers("good"))
  const bad = yield* serve("127.0.0.1:0", yield* namesHandlers("bad", works.await))

  const connection = yield* Connection.make(
    Resolver.constant(yield* Endpoint.parse(good), yield* Endpoint.parse(bad)),
    // The default is 5 failures and 5 seconds. This is shorter, so that the program is.
    { outlierEjection: { failures: 3, duration: "300 millis" } }
  )
  const names = yield* Effect.provideService(Component.client(Names), Connection.Connection, connection)
  // Without a timeout, a call to the bad replica waits forever, and no failure is counted.
  const ask = names.Name().pipe(
    Connection.withOptions({ timeout: "500 millis" }),
    Effect.catchTag("DeadlineExceeded", ({ _tag }) => Effect.succeed(_tag))
  )
  // The first calls also dial, and compile code. They have more time.
  yield* Effect.replicateEffect(Connection.withOptions(names.Name(), { timeout: "10 seconds" }), 4)
  const show = (title: string, answers: ReadonlyArray<string>) =>
    Console.log(`${title.padEnd(20)} ${answers.join(" ")}`)

  const before = yield* Effect.replicateEffect(ask, 4)
  yield* show("both work:", before)
  assert.deepEqual(before, ["good", "bad", "good", "bad"])

  yield* works.close
  const during = yield* Effect.replicateEffect(ask, 8)
  yield* show("one hangs:", during)
  assert.deepEqual(during.filter((answer) => answer !== "good"), Array(3).fill("DeadlineExceeded"))
  const { endpoints } = yield* connection.state
  yield* Console.log(`ejected:             ${endpoints.filter(({ isEjected }) => isEjected).length} of 2`)
  assert.deepEqual(endpoints.map(({ isEjected }) => isEjected), [false, true])

  yield* works.open
  // After its time, the replica gets a single call. It answers, so it gets its share again.
  yield* Effect.forkScoped(Effect.forever(Effect.delay(ask, "20 millis")))
  yield* connection.changes.pipe(
    Stream.filter(({ endpoints }) => endpoints.every(({ isEjected }) => !isEjected)),
    Stream.runHead
  )
  const after = yield* Effect.repeat(Effect.replicateEffect(ask, 4), { until: (answers) => answers.includes("bad") })
  yield* show("it works again:", after.toSorted())
})

program.pipe(Effect.timeout("30 seconds"), Effect.scoped, NodeRuntime.runMain)
