/**
 * What a Go client sees of a server of this package. The client here writes and reads the bytes by hand, exactly as the
 * Go package `call` does, and prints the errors that it would get.
 *
 * Run it with `npx node examples/coming-from-go/wire.ts`.
 */
import { NodeRuntime } from "@effect/platform-node"
import { Console, Effect, Stream } from "effect"
import { CallError, Endpoint, HandlerMap, Listener, MethodKey, Server } from "effect-call"

// Handlers as in Go: from bytes to bytes. What they fail with reaches a Go client as an error.
const ShopServer = Server.layer(Listener.tcp(
  "127.0.0.1:0",
  HandlerMap.empty.pipe(
    HandlerMap.set("example/Shop", "price", () => Effect.succeed(Buffer.from("42"))),
    HandlerMap.set("example/Shop", "order", () => Effect.fail(new Error("no order", { cause: new Error("no funds") }))),
    // This handler has called another service, which could not be reached.
    HandlerMap.set("example/Shop", "ship", () => Effect.fail(CallError.Unreachable.fromAttempts([])))
  )
))

/** A message: its call, its type, the length of what follows, and that. All numbers are little-endian. */
const message = (id: number, type: number, payload: Uint8Array) => {
  const header = Buffer.alloc(16)
  header.writeUInt8(id, 0)
  header.writeUInt8(type, 8)
  header.writeUInt32LE(payload.length, 9)
  return Buffer.concat([header, payload])
}

/** A request: the method's key, the time that is left in microseconds, no trace, and the arguments. */
const request = (id: number, method: string) => {
  const header = Buffer.alloc(49)
  header.set(MethodKey.make("example/Shop", method).bytes)
  header.writeBigInt64LE(1_000_000n, 16)
  return message(id, 1, Buffer.concat([header, Buffer.from("tea")]))
}

/** Reads the chain of an error: each error wraps the next one. */
const chainOf = (payload: Buffer) => {
  let offset = 8
  const text = () => {
    const start = offset + 4
    offset = start + payload.readUInt32LE(offset)
    return payload.toString("utf8", start, offset)
  }
  return Array.from({ length: Number(payload.readBigInt64LE(0)) }, () => `\n  ${text()}\n    ${text()}`).join("")
}

const methods = ["price", "order", "ship", "unknown"]

const program = Effect.gen(function*() {
  const { address } = yield* Server.Server
  const socket = yield* (yield* Endpoint.parse(address)).dial
  // A Go client sends its version, 0, and its first requests without waiting for the version of the server.
  const version = message(0, 0, Buffer.alloc(4))
  socket.write(Buffer.concat([version, ...methods.map((method, index) => request(index + 1, method))]))

  let bytes = Buffer.alloc(0)
  let answers = 0
  const read = Effect.fnUntraced(function*(chunk: Buffer) {
    bytes = Buffer.concat([bytes, chunk])
    while (bytes.length >= 16 && bytes.length >= 16 + bytes.readUInt32LE(9)) {
      const [id, type, end] = [bytes.readUInt8(0), bytes.readUInt8(8), 16 + bytes.readUInt32LE(9)]
      const payload = bytes.subarray(16, end)
      bytes = bytes.subarray(end)
      if (type === 0) continue // the version of the server
      answers++
      yield* Console.log(
        `${methods[id - 1]}: ${type === 2 ? `the result ${payload.toString()}` : `an error${chainOf(payload)}`}`
      )
    }
    return answers < methods.length
  })
  yield* Stream.runForEachWhile(Stream.fromAsyncIterable<Buffer, unknown>(socket, (error) => error), read)
})

program.pipe(Effect.scoped, Effect.provide(ShopServer), NodeRuntime.runMain)
