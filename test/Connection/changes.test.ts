/** The state of a Connection as a stream. */
import { describe, it } from "@effect/vitest"
import { Effect, Fiber, Stream } from "effect"
import type { Connection } from "effect-call"
import { TestNetwork } from "effect-call/testing"
import * as assert from "node:assert/strict"
import { ask, connectToListed, settle, startInMemory, until } from "./support.ts"

const onNetwork = Effect.provide(TestNetwork.layer)

const brief = ({ closed, endpoints }: Connection.ConnectionState) =>
  closed ? "closed" : endpoints.map(({ address, state }) => `${address.slice(-1)} ${state}`).join(", ")

/** Keeps what a Connection says of its state. */
const follow = Effect.fnUntraced(function*(connection: Connection.Connection) {
  const seen: Array<string> = []
  const fiber = yield* Effect.forkChild(
    Stream.runForEach(connection.changes, (state) => Effect.sync(() => seen.push(brief(state)))),
    { startImmediately: true }
  )
  return { seen, fiber }
})

describe("the changes of a Connection", () => {
  it.effect("begin with the current state", () =>
    Effect.gen(function*() {
      const a = yield* startInMemory("a")
      const { connection } = yield* connectToListed([a])
      const { seen } = yield* follow(connection)
      yield* settle
      assert.deepEqual(seen, ["a Idle"])
    }).pipe(onNetwork))

  it.effect("tell of an endpoint that is dialed, connected, lost, added and removed", () =>
    Effect.gen(function*() {
      const [a, b] = [yield* startInMemory("a"), yield* startInMemory("b")]
      const { connection, list } = yield* connectToListed([a])
      const { seen } = yield* follow(connection)
      yield* ask(connection)
      yield* until(() => seen.at(-1) === "a Active")
      assert.deepEqual(seen, ["a Idle", "a Dialing", "a Active"])
      yield* TestNetwork.fault("a", { cutAfter: { toClient: 0 } })
      yield* until(() => seen.at(-1) === "a Idle")
      yield* list(a, b)
      yield* until(() => seen.at(-1) === "a Idle, b Idle")
      yield* list(b)
      yield* until(() => seen.at(-1) === "b Idle")
    }).pipe(onNetwork))

  it.effect("do not tell of calls", () =>
    Effect.gen(function*() {
      const a = yield* startInMemory("a")
      const { connection } = yield* connectToListed([a])
      yield* ask(connection)
      const { seen } = yield* follow(connection)
      yield* Effect.replicateEffect(ask(connection), 5)
      yield* settle
      assert.deepEqual(seen, ["a Active"])
    }).pipe(onNetwork))

  it.effect("end when it is closed, with that", () =>
    Effect.gen(function*() {
      const a = yield* startInMemory("a")
      const { connection } = yield* connectToListed([a])
      const { fiber, seen } = yield* follow(connection)
      yield* settle
      yield* connection.close
      yield* Fiber.join(fiber)
      assert.equal(seen.at(-1), "closed")
      const after = yield* follow(connection)
      yield* Fiber.join(after.fiber)
      assert.deepEqual(after.seen, ["closed"])
    }).pipe(onNetwork))

  it.effect("go to all listeners, and no longer to one that has gone", () =>
    Effect.gen(function*() {
      const a = yield* startInMemory("a")
      const { connection } = yield* connectToListed([a])
      const [one, two] = [yield* follow(connection), yield* follow(connection)]
      yield* Fiber.interrupt(one.fiber)
      yield* ask(connection)
      yield* until(() => two.seen.at(-1) === "a Active")
      assert.deepEqual(one.seen, ["a Idle"])
    }).pipe(onNetwork))
})
