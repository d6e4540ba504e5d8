/**
 * Replicas that stand still: their system goes on accepting connections and taking bytes, and never answers.
 * `ejectionOfFrozen.test.ts` has the single steps of what happens to calls with less time than a dial, and three
 * minutes on a clock of its own; `test/chaos/silence.ts` does the same under load.
 */
import { describe, it } from "@effect/vitest"
import { Effect, Fiber, Logger } from "effect"
import { type CallError, Endpoint } from "effect-call"
import * as assert from "node:assert/strict"
import { echo, handlers } from "../chaos/restarts/calls.ts"
import { startReplica } from "../chaos/restarts/process.ts"
import { connect, tcp } from "../support/networks.ts"

/** How long it stands still. */
const millis = 30_000

/**
 * Calls over and over while it stands still; gives how many calls were answered and how many failed from its first
 * ejection on.
 */
const call = Effect.fnUntraced(function*(args: Uint8Array, timeout: number) {
  const replica = yield* startReplica("tcp://127.0.0.1:0")
  const frozen = yield* Endpoint.parse(replica.address)
  const others = yield* Effect.forEach([1, 2], () => tcp.serve(handlers))
  const connection = yield* connect([frozen, ...others.map(({ endpoint }) => endpoint)], {
    keepAlive: { interval: 2000, timeout: 2000 },
    outlierEjection: { duration: 500, maxDuration: 3000 }
  })
  const state = Effect.map(
    connection.state,
    ({ endpoints }) => endpoints.find(({ address }) => address === frozen.address)!
  )
  while ((yield* state).state !== "Active") yield* connection.call(echo, Uint8Array.of(1))
  const seen = { everEjected: false, states: new Set<string>(), ok: 0, failed: 0 }
  const caller = Effect.gen(function*() {
    const exit = yield* Effect.exit(connection.call(echo, args, { timeout }))
    if (seen.everEjected) {
      if (exit._tag === "Success") seen.ok++
      else seen.failed++
    }
    const { isEjected, state: now } = yield* state
    seen.everEjected ||= isEjected
    seen.states.add(now)
    yield* Effect.sleep(5)
  })
  replica.signal("SIGSTOP")
  const callers = yield* Effect.forEach([1, 2, 3, 4], () => Effect.forkChild(Effect.forever(caller)))
  yield* Effect.sleep(millis)
  // On a busy machine it takes longer until there are enough calls to tell.
  while (seen.ok <= 300 && seen.failed < 30) yield* Effect.sleep(5)
  yield* Fiber.interruptAll(callers)
  assert.ok(seen.everEjected)
  // Its connection was given up, and it was dialed.
  assert.ok(seen.states.has("Dialing"), [...seen.states].join())
  // It is used again when it goes on.
  replica.signal("SIGCONT")
  while ((yield* state).isEjected || (yield* state).state !== "Active") {
    yield* connection.call(echo, Uint8Array.of(1))
    yield* Effect.sleep(5)
  }
  return seen
})

describe("while a process stands still", () => {
  for (
    const [name, args, timeout] of [
      ["hardly any call fails after its first ejection", new Uint8Array(1), 1000],
      ["nor where calls are so large that they wait for room", new Uint8Array(3_000_000), 2500]
    ] as const
  ) {
    it.live(name, () =>
      Effect.gen(function*() {
        const { failed, ok } = yield* call(args, timeout)
        assert.ok(ok > 300, `${ok} calls were answered`)
        assert.ok(failed <= 0.01 * (ok + failed), `${failed} of ${ok + failed} calls failed`)
      }).pipe(Effect.scoped, Effect.provide(Logger.layer([]))), 120_000)
  }
})

describe("a replica whose process stands still", () => {
  it.live("is given up, calls go elsewhere meanwhile, and it is used again when it goes on", () =>
    Effect.gen(function*() {
      const replica = yield* startReplica("tcp://127.0.0.1:0")
      const frozen = yield* Endpoint.parse(replica.address)
      const { endpoint: other } = yield* tcp.serve(handlers)
      const connection = yield* connect([frozen, other], {
        // As much as a busy machine may keep a process waiting, and more.
        keepAlive: { interval: 500, timeout: 2000 },
        dialTimeout: 2000,
        backoff: { max: 100 }
      })
      const callAll = Effect.all(
        Array.from({ length: 20 }, (_, i) => Effect.result(connection.call(echo, Uint8Array.of(i)))),
        { concurrency: "unbounded" }
      )
      const reasons = (results: Effect.Success<typeof callAll>) =>
        results.flatMap((result) => {
          if (result._tag === "Success") return []
          const error: CallError.CallError = result.failure
          return [error._tag === "CommunicationError" ? error.reason._tag : error._tag]
        })
      while ((yield* connection.state).endpoints.some(({ state }) => state !== "Active")) yield* callAll
      assert.deepEqual(reasons(yield* callAll), [])
      replica.signal("SIGSTOP")
      // Every other call, which was sent to it before it was known to fail.
      assert.deepEqual(reasons(yield* callAll), new Array(10).fill("Lost"))
      assert.deepEqual(reasons(yield* callAll), [])
      replica.signal("SIGCONT")
      const stateOf = (state: Effect.Success<typeof connection.state>) =>
        state.endpoints.find(({ address }) => address === frozen.address)?.state
      while (stateOf(yield* connection.state) !== "Active") assert.deepEqual(reasons(yield* callAll), [])
      assert.deepEqual(reasons(yield* callAll), [])
    }).pipe(Effect.scoped, Effect.provide(Logger.layer([]))))
})
