/**
 * A server process of the `replicas` example: `node replica.ts NAME ADDRESS DIRECTORY`.
 *
 * It listens on ADDRESS: `tcp://127.0.0.1:0`, `unix:///tmp/worker.sock`, or one of them after `mtls://`, with the
 * certificates in DIRECTORY. It prints its actual address, and serves until its standard input ends, so that it does
 * not outlive its parent process.
 */
// These imports use the modules' own paths: the whole of @effect/platform-node takes longer to load than this program.
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as NodeServices from "@effect/platform-node/NodeServices"
import { Console, Effect, FileSystem, Schema, Stdio, Stream } from "effect"
import { Endpoint, HandlerMap, Listener, Server } from "effect-call"
import { component, Jobs, toBytes } from "./worker.ts"

const makeHandlers = (name: string) => {
  let running = 0
  let stopped = 0
  const work = Effect.sync(() => void running++).pipe(
    Effect.andThen(Effect.never),
    Effect.onInterrupt(() =>
      Effect.sync(() => {
        running--
        stopped++
      })
    )
  )
  return HandlerMap.empty.pipe(
    HandlerMap.set(component, "name", () => Effect.succeed(toBytes(name))),
    HandlerMap.set(component, "work", () => work),
    HandlerMap.set(
      component,
      "jobs",
      () => Effect.map(Schema.encodeEffect(Jobs)({ running, stopped }), toBytes)
    )
  )
}

const listen = Effect.fnUntraced(function*(name: string, address: string, directory: string) {
  const { addr, network } = yield* Endpoint.parse(address)
  const handlers = makeHandlers(name)
  const listener = network === "unix" ? yield* Listener.unix(addr, handlers) : yield* Listener.tcp(addr, handlers)
  if (!address.startsWith("mtls://")) return listener
  const fs = yield* FileSystem.FileSystem
  const tls = yield* Effect.all({
    ca: fs.readFileString(`${directory}/ca.pem`),
    cert: fs.readFileString(`${directory}/server.pem`),
    key: fs.readFileString(`${directory}/server-key.pem`)
  })
  return yield* Listener.mtls(tls, listener)
})

const main = Effect.gen(function*() {
  const stdio = yield* Stdio.Stdio
  const [name = "", address = "", directory = ""] = yield* stdio.args
  const untilStdinEnds = Effect.gen(function*() {
    const server = yield* Server.Server
    yield* Console.log(server.address)
    yield* Stream.runDrain(stdio.stdin)
  })
  yield* Effect.provide(untilStdinEnds, Server.layer(listen(name, address, directory)))
})

main.pipe(Effect.provide(NodeServices.layer), NodeRuntime.runMain)
