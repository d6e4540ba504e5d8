import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber } from "effect"
import { Endpoint } from "effect-call"
import { dialOnread, isOnreadEndpoint } from "../../../src/internal/transport/onread.ts"
import { OnreadReceiver } from "../../../src/internal/transport/transport.ts"
import { until } from "../../Connection/support.ts"
import { plainServer, write } from "../net/sockets.ts"

describe("what a client reads into", () => {
  it.live("is made when a connection has got its first bytes, and not before", () =>
    Effect.gen(function*() {
      const server = yield* plainServer({ port: 0, host: "127.0.0.1" })
      const endpoint = Endpoint.tcp(`127.0.0.1:${server.port}`)
      assert(isOnreadEndpoint(endpoint))
      const receiver = new OnreadReceiver()
      const size = () => {
        const { buffer } = receiver.options
        assert(typeof buffer === "function")
        return buffer().byteLength
      }
      const dialing = yield* Effect.forkChild(endpoint[dialOnread](receiver.options), { startImmediately: true })
      assert.strictEqual(size(), 512)
      yield* Fiber.join(dialing)
      yield* until(() => server.sockets.length === 1)
      assert.strictEqual(size(), 512)
      yield* write(server.sockets[0]!, "hello")
      yield* until(() => size() === 65_536)
    }))

  it.live("takes all bytes in their order, however many come at first", () =>
    Effect.gen(function*() {
      const server = yield* plainServer({ port: 0, host: "127.0.0.1" })
      const endpoint = Endpoint.tcp(`127.0.0.1:${server.port}`)
      assert(isOnreadEndpoint(endpoint))
      const chunks: Array<Buffer> = []
      const { options } = new OnreadReceiver()
      yield* endpoint[dialOnread]({
        buffer: options.buffer,
        callback: (length, into) => {
          chunks.push(Buffer.from(into.subarray(0, length)))
          return options.callback(length, into)
        }
      })
      yield* until(() => server.sockets.length === 1)
      const sent = Buffer.from(Array.from({ length: 300_000 }, (_, i) => i % 251))
      server.sockets[0]!.write(sent)
      yield* until(() => chunks.reduce((sum, chunk) => sum + chunk.length, 0) >= sent.length)
      assert.isTrue(Buffer.concat(chunks).equals(sent))
      assert.isAbove(Math.max(...chunks.map((chunk) => chunk.length)), 512)
    }))
})
