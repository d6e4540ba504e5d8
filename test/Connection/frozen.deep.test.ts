/**
 * One of three replicas is a process that stands still for long, and calls have less time than a dial. `ejectionOfFrozen.test.ts` has the
 * single steps, and three minutes on a clock of its own.
 */
import { describe, it } from "@effect/vitest"
import { Effect, Fiber, Logger } from "effect"
import { Endpoint } from "effect-call"
import * as assert from "node:assert/strict"
import { echo, handlers } from "../chaos/restarts/calls.ts"
import { startReplica } from "../chaos/restarts/process.ts"
import { connect, tcp } from "../support/networks.ts"

/** How long it stands still. */
const millis = 30_000

/** Calls over and over while it stands still; gives how many calls were answered and how many failed from its first ejection on. */
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
      ["hardly a call fails after its first ejection", new Uint8Array(1), 300],
      ["nor where calls are so large that they wait for room", new Uint8Array(3_000_000), 1000]
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
