/**
 * The upload of a file, with a progress bar and a checksum. A second file is too large, and its upload ends early.
 *
 * Run it with `npx node examples/streams/upload.ts`, in a terminal to see the bar.
 */
import { NodeRuntime, NodeServices } from "@effect/platform-node"
import { Console, Effect, FileSystem, Stream } from "effect"
import { Component, Connection, Endpoint, Listener, Resolver, Server } from "effect-call"
import { createHash } from "node:crypto"
import "../support/closedOutput.ts"
import { Files, FilesHandlers } from "./upload/contract.ts"
import { progress } from "./upload/progress.ts"

const FilesServer = Server.layer(
  Effect.flatMap(Component.handlers(Files, FilesHandlers), (handlers) => Listener.tcp("127.0.0.1:0", handlers))
)

const upload = Effect.fnUntraced(function*(name: string, path: string) {
  const fs = yield* FileSystem.FileSystem
  const files = yield* Component.client(Files)
  const { size } = yield* fs.stat(path)
  const show = yield* progress(name, Number(size))
  const hash = createHash("sha256")
  let sent = 0
  // The file is read as fast as the handler takes its parts. It is never in memory as a whole.
  const parts = fs.stream(path, { chunkSize: 262_144 }).pipe(
    Stream.tap((part) => {
      hash.update(part)
      sent += part.length
      return show(sent)
    })
  )
  const stored = yield* files.Upload({ name }, parts)
  const isSame = stored.sha256 === hash.digest("hex")
  yield* Console.log(`${name}: ${stored.bytes} bytes are stored, the checksum is ${isSame ? "the same" : "another"}`)
})

const program = Effect.gen(function*() {
  const fs = yield* FileSystem.FileSystem
  const directory = yield* fs.makeTempDirectoryScoped()
  const make = Effect.fnUntraced(function*(name: string, mebibytes: number) {
    const path = `${directory}/${name}`
    yield* fs.writeFile(path, new Uint8Array(mebibytes * 1024 * 1024).fill(mebibytes))
    return path
  })
  yield* upload("song.wav", yield* make("song.wav", 32))
  yield* upload("film.mkv", yield* make("film.mkv", 64)).pipe(
    Effect.catchTag(
      "QuotaExceeded",
      ({ mebibytes }) => Console.log(`\nfilm.mkv: refused before its end, files may have ${mebibytes} MiB`)
    )
  )
})

const Client = Effect.gen(function*() {
  const { address } = yield* Server.Server
  return yield* Connection.make(Resolver.constant(yield* Endpoint.parse(address)))
})

program.pipe(
  Effect.provideServiceEffect(Connection.Connection, Client),
  Connection.withOptions({ timeout: "1 minute" }),
  Effect.scoped,
  Effect.provide([FilesServer, NodeServices.layer]),
  NodeRuntime.runMain
)
