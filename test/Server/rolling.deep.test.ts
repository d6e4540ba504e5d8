/**
 * Replicas that are restarted one after the other, under load. `test/chaos/rolling.ts` does the same at length, with
 * processes.
 */
import { describe, it } from "@effect/vitest"
import { Effect, Exit, Fiber, Logger, Scope } from "effect"
import { Server } from "effect-call"
import * as assert from "node:assert/strict"
import { handlers, startCallers } from "../chaos/restarts/calls.ts"
import { untilState } from "../Connection/support.ts"
import { connect, eachNetwork, mtlsOverTcp, tcp, unix } from "../support/networks.ts"

describe("a rolling restart", () => {
  eachNetwork((network) => {
    // Each restart waits until the client is back, which is after a backoff.
    it.live("fails none of the calls of 16 callers", () =>
      Effect.gen(function*() {
        const replicas = yield* Effect.replicateEffect(
          Effect.gen(function*() {
            const listen = yield* network.place("replica")
            const start = Effect.gen(function*() {
              const scope = yield* Scope.fork(yield* Effect.scope)
              const { endpoint, listener } = yield* Scope.provide(listen(handlers), scope)
              const serving = yield* Effect.forkIn(Server.serve(listener), scope, { startImmediately: true })
              return { endpoint, stop: Effect.andThen(Fiber.interrupt(serving), Scope.close(scope, Exit.void)) }
            })
            return { start, running: yield* start }
          }),
          3
        )
        const connection = yield* connect(replicas.map(({ running }) => running.endpoint))
        const untilActive = (address: string) =>
          untilState(connection, ({ endpoints }) =>
            endpoints.some((endpoint) => endpoint.address === address && endpoint.state === "Active"))
        const { stop, tally } = yield* startCallers(connection, 16)
        for (const { running, start } of replicas) {
          yield* untilActive(running.endpoint.address)
          yield* running.stop
          yield* start
          yield* untilActive(running.endpoint.address)
        }
        yield* stop
        assert.deepEqual([...tally.messages], [])
        assert.ok(tally.calls > 100, `${tally.calls} calls`)
      }).pipe(Effect.scoped, Effect.provide(Logger.layer([]))))
  }, [tcp, unix, mtlsOverTcp])
})
