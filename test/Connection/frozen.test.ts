/**
 * A replica that stands still: its system goes on accepting connections and taking bytes, and nobody answers. `test/chaos/silence.ts` does
 * the same under load.
 */
import { describe, it } from "@effect/vitest"
import { Effect, Logger } from "effect"
import { type CallError, Endpoint } from "effect-call"
import * as assert from "node:assert/strict"
import { echo, handlers } from "../chaos/restarts/calls.ts"
import { startReplica } from "../chaos/restarts/process.ts"
import { connect, tcp } from "../support/networks.ts"

describe("a replica whose process stands still", () => {
  // A process takes most of a second to start, and the client is to be sure of its silence, and to be back after a backoff.
  it.live("is given up, calls go elsewhere meanwhile, and it is used again when it goes on", () =>
    Effect.gen(function*() {
      const replica = yield* startReplica("tcp://127.0.0.1:0")
      const frozen = yield* Endpoint.parse(replica.address)
      const { endpoint: other } = yield* tcp.serve(handlers)
      const connection = yield* connect([frozen, other], {
        // As much as a busy machine may keep a process waiting, and more.
        keepAlive: { interval: 100, timeout: 400 },
        dialTimeout: 300,
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
      assert.deepEqual(reasons(yield* callAll), [])
      replica.signal("SIGSTOP")
      // Those that were sent to it in good faith, every other one.
      assert.deepEqual(reasons(yield* callAll), new Array(10).fill("Lost"))
      assert.deepEqual(reasons(yield* callAll), [])
      replica.signal("SIGCONT")
      const stateOf = (state: Effect.Success<typeof connection.state>) =>
        state.endpoints.find(({ address }) => address === frozen.address)?.state
      while (stateOf(yield* connection.state) !== "Active") assert.deepEqual(reasons(yield* callAll), [])
      assert.deepEqual(reasons(yield* callAll), [])
    }).pipe(Effect.scoped, Effect.provide(Logger.layer([]))))
})
