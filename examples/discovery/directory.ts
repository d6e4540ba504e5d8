/**
 * The replicas are the Unix sockets in a directory. The client notices when sockets are added or removed.
 *
 * Run it with `npx node examples/discovery/directory.ts`.
 */
import { NodeRuntime, NodeServices } from "@effect/platform-node"
import { Console, Effect, FileSystem, Stream } from "effect"
import { Connection, Resolver } from "effect-call"
import * as assert from "node:assert/strict"
import "../support/closedOutput.ts"
import { askOver, namesHandlers, serve } from "../support/names.ts"

const program = Effect.gen(function*() {
  const fs = yield* FileSystem.FileSystem
  const directory = yield* fs.makeTempDirectoryScoped({ prefix: "directory-" })
  const startServer = Effect.fnUntraced(function*(name: string) {
    yield* serve(`${directory}/${name}.sock`, yield* namesHandlers(name))
  })

  const connection = yield* Connection.make(yield* Resolver.directory(directory))
  const endpointsAre = (count: number) =>
    connection.changes.pipe(Stream.filter(({ endpoints }) => endpoints.length === count), Stream.runHead)

  const early = yield* Effect.flip(askOver(connection, 1))
  yield* Console.log(`the directory is empty: ${early._tag}`)
  assert.equal(early._tag, "Unreachable")

  yield* startServer("one")
  // This call waits until the client has found the server.
  const first = yield* Connection.withOptions(askOver(connection, 1), { waitForReady: true, timeout: "5 seconds" })
  yield* Console.log(`a server has started:   ${first.join(", ")}`)
  assert.deepEqual(first, ["one"])

  yield* Effect.scoped(Effect.gen(function*() {
    yield* startServer("two")
    yield* endpointsAre(2)
    const both = yield* askOver(connection, 4)
    yield* Console.log(`a second server:        ${both.toSorted().join(", ")}`)
    assert.deepEqual(both.toSorted(), ["one", "one", "two", "two"])
  }))

  // The second server has stopped. A server removes its socket when it stops.
  yield* endpointsAre(1)
  const last = yield* askOver(connection, 3)
  yield* Console.log(`it has stopped:         ${last.join(", ")}`)
  assert.deepEqual(last, ["one", "one", "one"])
})

program.pipe(Effect.timeout("20 seconds"), Effect.scoped, Effect.provide(NodeServices.layer), NodeRuntime.runMain)
