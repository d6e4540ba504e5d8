/** Typed calls on connections that break before they have left: they are sent again as they were. */
import { it } from "@effect/vitest"
import { Effect, Fiber, Schema } from "effect"
import { Component, Connection, Resolver } from "effect-call"
import { TestNetwork } from "effect-call/testing"
import { Rpc, RpcGroup } from "effect/rpc"
import * as assert from "node:assert/strict"
import { settle } from "../Connection/support.ts"
import { onNetwork } from "../testing/support.ts"
import { clientOver, formats } from "./support.ts"

const group = RpcGroup.make(Rpc.make("Echo", { payload: Schema.Uint8Array, success: Schema.Uint8Array }))
const Echo = Component.make("test/Echo", group)

for (const format of formats) {
  it.effect(`a call that waits to be written when its connection is lost goes over the next one, in ${format}`, () =>
    Effect.gen(function*() {
      const tokens: Array<string | undefined> = []
      const map = yield* Component.handlers(
        Echo,
        group.toLayer({
          Echo: (bytes, { headers }) =>
            Effect.sync(() => {
              tokens.push(headers["token"])
              return bytes
            })
        })
      )
      yield* TestNetwork.listen("a", map, { shutdownGrace: 0 })
      const connection = yield* Connection.make(Resolver.constant(yield* TestNetwork.endpoint("a")))
      const client = yield* clientOver(connection, Echo, { format })
      yield* client.Echo(new Uint8Array(1))
      tokens.length = 0
      yield* TestNetwork.fault("a", { blackHole: "toServer" })
      // What the socket has been given, and waits with.
      const left = yield* Effect.forkChild(Effect.flip(client.Echo(new Uint8Array(180 * 1024))), {
        startImmediately: true
      })
      yield* settle
      // What is still ours: copied, and by reference.
      const sizes = [0, 10, 1000, 100_000]
      const queued = yield* Effect.forkChild(
        Effect.forEach(sizes, (size) => client.Echo(new Uint8Array(size).fill(7), { headers: { token: `${size}` } }), {
          concurrency: "unbounded"
        }),
        { startImmediately: true }
      )
      yield* settle
      yield* TestNetwork.fault("a", { dial: "hang", cutAfter: { toServer: 0 } })
      assert.equal((yield* Fiber.join(left))._tag, "CommunicationError")
      yield* TestNetwork.heal("a")
      const answers = yield* Fiber.join(queued)
      assert.deepEqual(answers.map((bytes) => Buffer.from(bytes)), sizes.map((size) => Buffer.alloc(size, 7)))
      assert.deepEqual(new Set(tokens), new Set(sizes.map(String)))
      assert.equal(tokens.length, sizes.length)
    }).pipe(onNetwork, Effect.scoped))
}
