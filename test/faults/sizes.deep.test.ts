/** The largest request whose bytes a server drops, and the largest arguments that a client sends by default. */
import { describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { HandlerMap } from "effect-call"
import * as assert from "node:assert/strict"
import { component, connect, echo, handlers, tcp } from "../support/networks.ts"
import { ok } from "./hostile.ts"
import { message, rawPeer, request, type } from "./wire.ts"

const mebibyte = 1_048_576
const size = 1024 * mebibyte

describe("a server with a limit, to which a client sends", () => {
  it.live("a request of 1 GiB: its bytes are dropped as they arrive, and what is behind it is served", () =>
    Effect.gen(function*() {
      const called: Array<number> = []
      const { endpoint } = yield* tcp.serve(
        HandlerMap.set(HandlerMap.empty, component, "echo", (args) => {
          called.push(args.length)
          return Effect.succeed(args)
        }),
        { maxMessageSize: 5000 }
      )
      const peer = yield* rawPeer(endpoint)
      const other = yield* rawPeer(endpoint)
      yield* peer.send(message(1, type.request, new Uint8Array(), BigInt(size)))
      assert.equal((yield* peer.answer(1)).type, type.responseError)
      const piece = Buffer.alloc(4 * mebibyte)
      const before = process.memoryUsage().arrayBuffers
      let kept = 0
      let others = 0
      for (let sent = 0; sent < size; sent += piece.length) {
        yield* peer.send(piece)
        if (sent % (64 * mebibyte) !== 0) continue
        // Others are served meanwhile.
        yield* other.send(request(++others, echo, ok))
        yield* other.answer(others)
        kept = Math.max(kept, process.memoryUsage().arrayBuffers - before)
      }
      yield* peer.send(request(2, echo, ok))
      assert.deepEqual((yield* peer.answer(2)).payload, ok)
      assert.deepEqual(peer.messages.length, 2)
      assert.ok(called.every((length) => length === 2))
      assert.ok(kept < 256 * mebibyte, `${kept} bytes were kept while 1 GiB was dropped`)
    }).pipe(Effect.scoped))
})

describe("a client without a limit of its own", () => {
  it.live("sends arguments of 100 MiB less the request's header, and gets as much back", () =>
    Effect.gen(function*() {
      const connection = yield* connect([(yield* tcp.serve(handlers)).endpoint])
      const largest = Buffer.alloc(100 * mebibyte - 49, "0123456789abcdef!")
      assert.equal(Buffer.compare(yield* connection.call(echo, largest), largest), 0)
    }).pipe(Effect.scoped))
})
