/** What a peer can make a server keep of streams. */
import { describe, it } from "@effect/vitest"
import { Effect } from "effect"
import * as assert from "node:assert/strict"
import { streamClient } from "../support/streamPeer.ts"
import { firstPiece, laterPiece, type } from "../support/streamWire.ts"
import { echo, serveStreams, sink } from "./streams.ts"

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
