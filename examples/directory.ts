/**
 * The replicas are the Unix sockets in a directory. The client notices when sockets are added or removed, and
 * distributes its calls over the current ones.
 *
 * A single text tells the client which directory to use; in an application it would come from the configuration.
 *
 * Run it with `node examples/directory.ts`.
 */
import { NodeRuntime, NodeServices } from "@effect/platform-node"
import { Console, Effect, FileSystem, Layer, Schedule } from "effect"
import { Balancer, Connection, HandlerMap, Listener, MethodKey, Resolver, Server } from "effect-call"
import * as assert from "node:assert/strict"

const name = MethodKey.make("example/Names", "name")

/** A server that answers with its name. Its socket has the same name. */
const startServer = Effect.fnUntraced(function*(directory: string, serverName: string) {
  const handlers = HandlerMap.empty.pipe(
    HandlerMap.set("example/Names", "name", () => Effect.succeed(new TextEncoder().encode(serverName)))
  )
  yield* Effect.forkScoped(Server.serve(yield* Listener.unix(`${directory}/${serverName}`, handlers)))
})

const useReplicas = Effect.fnUntraced(function*(directory: string) {
  const connection = yield* Connection.Connection
  const ask = connection.call(name, new Uint8Array(), { waitForReady: true, timeout: "5 seconds" }).pipe(
    Effect.map((answer) => new TextDecoder().decode(answer))
  )
  const endpointsAre = (count: number) =>
    Effect.repeat(connection.state, {
      until: ({ endpoints }) => endpoints.length === count,
      schedule: Schedule.spaced("5 millis")
    })

  yield* startServer(directory, "one")
  const first = yield* ask
  yield* Console.log(`a server has come: ${first} answers`)
  assert.equal(first, "one")

  yield* Effect.scoped(Effect.gen(function*() {
    yield* startServer(directory, "two")
    yield* endpointsAre(2)
    const answers = yield* Effect.replicateEffect(ask, 4)
    yield* Console.log(`another one: ${answers.join(", ")}`)
    assert.deepEqual(new Set(answers), new Set(["one", "two"]))
  }))

  yield* endpointsAre(1)
  const answers = yield* Effect.replicateEffect(ask, 3)
  yield* Console.log(`it has gone again: ${answers.join(", ")}`)
  assert.deepEqual(answers, ["one", "one", "one"])
})

const program = Effect.gen(function*() {
  const fs = yield* FileSystem.FileSystem
  const directory = yield* fs.makeTempDirectoryScoped({ prefix: "directory-" })
  const replicas = Resolver.layer(Resolver.parse(`unixdir://${directory}`)).pipe(Layer.provide(Resolver.layerDns()))
  const client = Connection.layer().pipe(Layer.provide([replicas, Balancer.layer(Balancer.roundRobin)]))
  yield* Effect.provide(useReplicas(directory), client)
})

program.pipe(Effect.timeout("20 seconds"), Effect.scoped, Effect.provide(NodeServices.layer), NodeRuntime.runMain)
