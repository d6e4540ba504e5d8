import { describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { Endpoint } from "effect-call"
import * as assert from "node:assert/strict"
import { Duplex } from "node:stream"
import { capabilitiesOf } from "../../../src/internal/transport/capabilities.ts"
import { dialOf } from "../../../src/internal/transport/onread.ts"
import { until } from "../../Connection/support.ts"
import { plainServer, write } from "../net/sockets.ts"

describe("an endpoint that is dialed for a transport", () => {
  it.live("reads into a buffer of ours where it is built in, with a receiver of its own at each dial", () =>
    Effect.gen(function*() {
      const server = yield* plainServer({ port: 0, host: "127.0.0.1" })
      const dial = dialOf(Endpoint.tcp(`127.0.0.1:${server.port}`))
      const receivers = [yield* dial, yield* dial].map((socket) => capabilitiesOf(socket).receiver)
      assert.notEqual(receivers[0], receivers[1])
      let text = ""
      receivers[0]?.attach({
        receive: (bytes, start, end, owned) => {
          assert.equal(owned, false)
          text += Buffer.from(bytes.subarray(start, end)).toString()
        }
      })
      yield* until(() => server.sockets.length === 2)
      for (const socket of server.sockets) yield* write(socket, "hello")
      yield* until(() => text === "hello")
    }).pipe(Effect.scoped))

  it.effect("emits its data where it is a user's own, or a copy of a built-in one", () =>
    Effect.gen(function*() {
      const duplex = new Duplex()
      const copy = { ...Endpoint.tcp("127.0.0.1:1"), dial: Effect.succeed(duplex) }
      for (const endpoint of [{ address: "test://own", dial: Effect.succeed(duplex) }, copy]) {
        assert.equal(yield* dialOf(endpoint), duplex)
        assert.equal(capabilitiesOf(duplex).receiver, undefined)
      }
    }).pipe(Effect.scoped))
})
