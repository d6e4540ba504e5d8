/**
 * A stream of bytes, without a contract: it splits a text into lines, while the text is still being sent.
 *
 * Run it with `npx node examples/streams/bytes.ts`.
 */
import { NodeRuntime } from "@effect/platform-node"
import { Console, Effect, Stream } from "effect"
import { Connection, Endpoint, HandlerMap, Listener, MethodKey, Resolver, Server } from "effect-call"

const toBytes = (text: string) => new TextEncoder().encode(text)
const fromBytes = (bytes: Uint8Array) => new TextDecoder().decode(bytes)

// The items of the result are bytes, as those of the client are. The handler's Scope is that of its stream.
const handlers = HandlerMap.empty.pipe(
  HandlerMap.setStream("example/Text", "lines", (prefix, items) =>
    items.pipe(
      Stream.decodeText(),
      Stream.splitLines,
      Stream.map((line) => toBytes(`${fromBytes(prefix)}${line}`))
    ))
)
const TextServer = Server.layer(Listener.tcp("127.0.0.1:0", handlers))

const lines = MethodKey.make("example/Text", "lines")

const program = Effect.gen(function*() {
  const { address } = yield* Server.Server
  const connection = yield* Connection.make(Resolver.constant(yield* Endpoint.parse(address)))

  const items = Stream.make(toBytes("one\ntw"), toBytes("o\nthree"))
  yield* connection.stream(lines, toBytes("> "), { timeout: "5 seconds", items }).pipe(
    Stream.runForEach((line) => Console.log(fromBytes(line)))
  )

  const error = yield* Effect.flip(connection.call(lines, toBytes("> "), { timeout: "5 seconds" }))
  yield* Console.log(`a call of a stream's method: ${error._tag}: ${error.message}`)
})

program.pipe(Effect.scoped, Effect.provide(TextServer), NodeRuntime.runMain)
