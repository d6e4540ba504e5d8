/** Streams that a server serves, with a client by hand. */
import { describe, it } from "@effect/vitest"
import { Effect, Stream } from "effect"
import * as assert from "node:assert/strict"
import { type } from "../../support/streamWire.ts"
import { bytes, echo, key, openStreams, streams } from "./streamSupport.ts"

describe("a stream of bytes", () => {
  it.effect("sends the handler's items, and an empty response behind them", () =>
    Effect.gen(function*() {
      const { peer, session } = yield* openStreams(
        streams({ count: () => Stream.make(bytes("a"), bytes("bc"), bytes("")) })
      )
      peer.open(1, key("count"), 65_536)
      for (const item of ["a", "bc", ""]) assert.equal((yield* peer.item(1)).toString(), item)
      assert.equal((yield* peer.next({ id: 1, type: type.response })).payload.length, 0)
      assert.equal(session.callsInFlight, 0)
    }))

  it.effect("gives the client's items to the handler, and their end", () =>
    Effect.gen(function*() {
      const { peer } = yield* openStreams(streams({ echo }))
      peer.open(1, key("echo"), 65_536, bytes("args"))
      peer.items(1, bytes("one"), bytes("two"))
      assert.equal((yield* peer.item(1)).toString(), "one")
      assert.equal((yield* peer.item(1)).toString(), "two")
      peer.items(1, bytes("three"))
      assert.equal((yield* peer.item(1)).toString(), "three")
      peer.end(1)
      yield* peer.next({ id: 1, type: type.response })
    }))
})
