/** Messages that are as large as they may be: a typed call has a format byte more than its payload. */
import { it } from "@effect/vitest"
import { Effect, Schema } from "effect"
import { Component } from "effect-call"
import { Rpc, RpcGroup } from "effect/rpc"
import * as assert from "node:assert/strict"
import { open } from "./support.ts"

const group = RpcGroup.make(
  Rpc.make("Length", { payload: Schema.String, success: Schema.Int }),
  Rpc.make("Repeat", { payload: Schema.Int, success: Schema.String })
)
const Sized = Component.make("test/Sized", group)
const layer = group.toLayer({
  Length: (text) => Effect.succeed(text.length),
  Repeat: (length) => Effect.succeed("x".repeat(length))
})

const maxMessageSize = 2000
// A format byte, and the quotes of a text in JSON.
const around = 3

it.effect("a request is refused before it is sent where it is a byte too large", () =>
  Effect.gen(function*() {
    const { client } = yield* open(Sized, layer, { format: "json", connection: { maxMessageSize } })
    // A request's own header is 49 bytes.
    const largest = maxMessageSize - 49 - around
    assert.equal(yield* client.Length("x".repeat(largest)), largest)
    const error = yield* Effect.flip(client.Length("x".repeat(largest + 1)))
    assert.ok(error._tag === "CommunicationError" && error.reason._tag === "TooLarge")
    assert.equal(error.maybeExecuted, false)
    assert.match(error.message, /the arguments of test\/Sized\.Length are 1952 bytes, expected at most 1951/)
  }).pipe(Effect.scoped))

it.effect("a request is refused by its server where it is a byte too large for that, and no handler sees it", () =>
  Effect.gen(function*() {
    const { client } = yield* open(Sized, layer, { format: "json", server: { maxMessageSize } })
    const largest = maxMessageSize - 49 - around
    assert.equal(yield* client.Length("x".repeat(largest)), largest)
    const error = yield* Effect.flip(client.Length("x".repeat(largest + 1)))
    assert.ok(error._tag === "CommunicationError" && error.reason._tag === "TooLarge")
    assert.equal(error.maybeExecuted, false)
    assert.match(
      error.message,
      / refused a call of test\/Sized\.Length: the arguments are 1952 bytes, expected at most 1951$/
    )
  }).pipe(Effect.scoped))

for (const side of ["server", "connection"] as const) {
  it.effect(`a result fails its call where it is a byte too large for the ${side}, and only that`, () =>
    Effect.gen(function*() {
      const { client } = yield* open(Sized, layer, { format: "json", [side]: { maxMessageSize } })
      const largest = maxMessageSize - around
      assert.equal((yield* client.Repeat(largest)).length, largest)
      const [error, concurrent] = yield* Effect.all([
        Effect.flip(client.Repeat(largest + 1)),
        client.Length("concurrent")
      ], {
        concurrency: 2
      })
      assert.ok(error._tag === "CommunicationError" && error.reason._tag === "TooLarge")
      assert.equal(error.maybeExecuted, true)
      assert.equal(error.message, "the result of test/Sized.Repeat is 2001 bytes, expected at most 2000")
      assert.equal(concurrent, 10)
    }).pipe(Effect.scoped))
}
