/**
 * A program of `Server.layer`, `Layer.launch` and `NodeRuntime.runMain` that is told to stop by its system.
 */
import { describe, it } from "@effect/vitest"
import { Effect, Fiber } from "effect"
import { Endpoint } from "effect-call"
import * as assert from "node:assert/strict"
import { existsSync } from "node:fs"
import { join } from "node:path"
import { echo, work } from "../chaos/restarts/calls.ts"
import { startReplica } from "../chaos/restarts/process.ts"
import { connect, temporaryDirectory } from "../support/networks.ts"
import { message, messagesOf, rawClient, receives, request, version } from "../support/raw.ts"

const grace = 30_000
/** Takes as many milliseconds. */
const taking = (millis: number) => Uint8Array.of(millis, 1, 2, 3)

// A process takes most of a second to start.
describe("a server that gets SIGTERM", () => {
  for (const transport of ["tcp", "unix"] as const) {
    it.live(`over ${transport} answers the calls in flight, and its process ends as soon as it has`, () =>
      Effect.gen(function*() {
        const path = join(yield* temporaryDirectory, "socket")
        const replica = yield* startReplica(transport === "tcp" ? "tcp://127.0.0.1:0" : `unix://${path}`, {
          shutdownGrace: grace
        })
        const endpoint = yield* Endpoint.parse(replica.address)
        const connection = yield* connect([endpoint])
        const calls = yield* Effect.forEach(
          Array.from({ length: 20 }, (_, i) => taking(200 + i)),
          (args) => Effect.forkChild(connection.call(work, args), { startImmediately: true })
        )
        // One that does not understand that a server goes away, as of the Go package, and one that says nothing.
        const other = yield* rawClient(endpoint)
        const silent = yield* rawClient(endpoint)
        other.write(Buffer.concat([version, request(1, work, taking(250)), request(2, echo, taking(0))]))
        // Requests are read in their order: by the time that these are answered, all the others have come.
        yield* connection.call(echo, taking(0))
        // On a busy machine, the answer that takes longer may be here as well.
        yield* other.until((received) => messagesOf(received).some(({ id }) => id === 2))

        const startedAt = performance.now()
        replica.signal("SIGTERM")
        const answers = yield* Fiber.joinAll(calls)
        assert.deepEqual(answers.map(([millis]) => millis), Array.from({ length: 20 }, (_, i) => 200 + i))
        yield* receives(other, version, message(2, 2, taking(0)), message(1, 2, taking(250)))
        yield* Effect.all([other.closed, silent.closed])
        // What NodeRuntime makes of an interruption.
        assert.deepEqual(yield* replica.ended, { code: 130, signal: null })
        const took = performance.now() - startedAt
        assert.ok(took < grace / 3, `${took} ms`)
        assert.equal(existsSync(path), false)
        assert.equal((yield* Effect.flip(connection.call(echo, taking(0))))._tag, "Unreachable")
      }).pipe(Effect.scoped))
  }
})
