/**
 * A custom resolver. Its endpoints are the socket files in a directory; each server has one.
 *
 * A Connection asks the resolver for the endpoints, and then repeatedly for newer ones.
 *
 * Run it with `node examples/custom-resolver.ts`.
 */
import { NodeRuntime, NodeServices } from "@effect/platform-node"
import { Console, Effect, Equal, FileSystem, Path, Schedule } from "effect"
import { Connection, Endpoint, HandlerMap, Listener, MethodKey, Resolver, Server } from "effect-call"
import * as assert from "node:assert/strict"

/** Resolves to the files `*.sock` in a directory, and notices when files are added or removed. */
const socketsIn = Effect.fnUntraced(function*(directory: string) {
  const fs = yield* FileSystem.FileSystem
  const path = yield* Path.Path

  // The version identifies a set of endpoints. It can be any text that changes when the endpoints change.
  const current = fs.readDirectory(directory).pipe(
    Effect.map((files): Resolver.Resolution => {
      const sockets = files.filter((file) => file.endsWith(".sock")).toSorted()
      return {
        endpoints: sockets.map((file) => Endpoint.unix(path.join(directory, file))),
        version: Resolver.version(sockets.join("/"))
      }
    }),
    Effect.mapError((cause) => new Resolver.ResolverError({ message: `cannot read ${directory}`, cause }))
  )

  const resolver: Resolver.Resolver = {
    isConstant: false,
    // Without a version, return the current endpoints. With a version, wait until the current version is a different
    // one. A resolver may also return the same version at once; then the Connection asks again after a delay.
    resolve: (seen) =>
      seen === undefined ? current : Effect.repeat(current, {
        until: ({ version }) => !Equal.equals(version, seen),
        schedule: Schedule.spaced("20 millis")
      })
  }
  return resolver
})

// ---- The servers. Each answers with its name.

const name = MethodKey.make("example/Names", "name")

const startServer = Effect.fnUntraced(function*(directory: string, serverName: string) {
  const handlers = HandlerMap.empty.pipe(
    HandlerMap.set("example/Names", "name", () => Effect.succeed(new TextEncoder().encode(serverName)))
  )
  yield* Effect.forkScoped(Server.serve(yield* Listener.unix(`${directory}/${serverName}.sock`, handlers)))
})

const program = Effect.gen(function*() {
  const fs = yield* FileSystem.FileSystem
  const directory = yield* fs.makeTempDirectoryScoped({ prefix: "resolver-" })
  const connection = yield* Connection.make(yield* socketsIn(directory))
  const ask = connection.call(name, new Uint8Array(), { waitForReady: true, timeout: "5 seconds" }).pipe(
    Effect.map((answer) => new TextDecoder().decode(answer))
  )
  const endpointsAre = (count: number) =>
    Effect.repeat(connection.state, {
      until: ({ endpoints }) => endpoints.length === count,
      schedule: Schedule.spaced("5 millis")
    })

  const error = yield* Effect.flip(connection.call(name, new Uint8Array()))
  yield* Console.log(`the directory is empty: ${error._tag}`)
  assert.equal(error._tag, "Unreachable")

  yield* startServer(directory, "one")
  const one = yield* ask
  yield* Console.log(`one server is there: ${one} answers a call that waited for it`)
  assert.equal(one, "one")

  yield* Effect.scoped(Effect.gen(function*() {
    yield* startServer(directory, "two")
    yield* endpointsAre(2)
    const answers = yield* Effect.replicateEffect(ask, 4)
    yield* Console.log(`a second one: ${answers.join(", ")}`)
    assert.deepEqual(new Set(answers), new Set(["one", "two"]))
  }))

  yield* endpointsAre(1)
  const answers = yield* Effect.replicateEffect(ask, 3)
  yield* Console.log(`it has gone again: ${answers.join(", ")}`)
  assert.deepEqual(answers, ["one", "one", "one"])
})

program.pipe(Effect.timeout("20 seconds"), Effect.scoped, Effect.provide(NodeServices.layer), NodeRuntime.runMain)
