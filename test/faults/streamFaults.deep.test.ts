/** What a peer can make a server keep of streams, and how much memory that takes. */
import { describe, it } from "@effect/vitest"
import { Effect, Fiber, Stream } from "effect"
import * as assert from "node:assert/strict"
import * as Networks from "../support/networks.ts"
import { streamClient } from "../support/streamPeer.ts"
import { firstPiece, laterPiece, type } from "../support/streamWire.ts"
import { echo, endless, makeStreams, serveStreams, sink, u32s } from "./streams.ts"
import { until } from "./wire.ts"

const nothing = new Uint8Array()

describe("items of 40 MB on each of 50 streams that are never finished", () => {
  it.live("end those for which there is no room as overloaded, and nothing else", () =>
    Effect.gen(function*() {
      const server = yield* serveStreams()
      const peer = yield* streamClient(server.endpoint, { strict: false })
      yield* peer.next({ type: type.version })
      const piece = Buffer.alloc(1_000_000)
      const ids = Array.from({ length: 50 }, (_, index) => index + 2)
      for (const id of ids) peer.open(id, sink, 1000)
      // The room is for 100 MiB and 64 MiB more: 172 pieces of 1 MB.
      for (let round = 0; round < 5; round++) {
        for (const id of ids) {
          peer.rawItems(id, round === 0 ? firstPiece(40_000_000, piece) : laterPiece(piece))
        }
      }
      peer.request(1000, echo, new Uint8Array(2))
      assert.equal((yield* peer.answer(1000)).payload.length, 2)
      const refused = peer.messages.filter((message) => message.type === type.responseError)
      assert.ok(refused.length > 5 && refused.length < 50, `${refused.length} were refused`)
      assert.ok(refused.every(({ payload }) => payload.includes("(effect-call:overloaded)")))
      assert.ok(process.memoryUsage().arrayBuffers < 600_000_000)
    }).pipe(Effect.scoped))
})

describe("ten thousand streams that are opened and canceled", () => {
  it.live("leave no memory behind, on either end", () =>
    Effect.gen(function*() {
      const { handlers, seen } = makeStreams()
      const { endpoint } = yield* Networks.tcp.serve(handlers)
      const connection = yield* Networks.connect([endpoint])
      const some = Effect.gen(function*() {
        for (let round = 0; round < 100; round++) {
          const fibers = yield* Effect.replicateEffect(
            Effect.forkChild(Stream.runDrain(connection.stream(endless, u32s(1000))), { startImmediately: true }),
            50
          )
          if (round % 2 === 0) yield* connection.call(echo, nothing)
          yield* Fiber.interruptAll(fibers)
        }
        yield* until("all handlers to have ended", () => seen.running === 0)
        for (let i = 0; i < 3; i++) {
          globalThis.gc?.()
          yield* Effect.callback<void>((resume) => void setImmediate(() => resume(Effect.void)))
        }
        const { arrayBuffers, heapUsed } = process.memoryUsage()
        return arrayBuffers + heapUsed
      })
      yield* some
      const before = yield* some
      const after = yield* some
      assert.ok(after - before < 8_000_000, `${after - before} bytes more than after 5 000 streams before`)
    }).pipe(Effect.scoped))
})
