/**
 * Values that outlive the call that brought them. What is decoded lies in the buffer that a socket reads into, and is
 * overwritten by what comes next: nothing that a handler or a caller keeps may change with it.
 */
import { it } from "@effect/vitest"
import { Context, Deferred, Effect, Fiber, Latch, Schema, SchemaGetter } from "effect"
import { Component } from "effect-call"
import { Rpc, RpcGroup } from "effect/rpc"
import * as assert from "node:assert/strict"
import { eachNetwork, tcp, unix } from "../support/networks.ts"
import { formats, open } from "./support.ts"

const Blob = Schema.Struct({ name: Schema.String, bytes: Schema.Uint8Array, parts: Schema.Array(Schema.Uint8Array) })
const Blobs = Component.make("test/Blobs", RpcGroup.make(Rpc.make("Swap", { payload: Blob, success: Blob })))

/** A value whose bytes can be told from those of any other round. */
const blob = (size: number, round: number): typeof Blob.Type => ({
  name: `${size} bytes, round ${round}`,
  bytes: new Uint8Array(size).fill(round),
  parts: [new Uint8Array(3).fill(round), new Uint8Array(100).fill(round)]
})
/** What the handler makes of it. */
const swapped = ({ bytes, name, parts }: typeof Blob.Type): typeof Blob.Type => ({
  name: `not ${name}`,
  bytes: bytes.map((byte) => ~byte),
  parts: parts.map((part) => part.map((byte) => ~byte))
})

/** `deepEqual` of arrays of 200 KiB takes its time. */
const assertSame = (actual: typeof Blob.Type, expected: typeof Blob.Type) => {
  assert.equal(actual.name, expected.name)
  for (const [index, bytes] of [expected.bytes, ...expected.parts].entries()) {
    const got = [actual.bytes, ...actual.parts][index]!
    assert.ok(Buffer.compare(got, bytes) === 0, `${expected.name}: bytes ${index} have changed`)
  }
}

const sizes = [5, 64, 4096, 200 * 1024]
const rounds = 5

eachNetwork((network) => {
  for (const format of formats) {
    it.live(`what was decoded does not change, on both sides, in ${format}`, () =>
      Effect.gen(function*() {
        const received: Array<typeof Blob.Type> = []
        const results: Array<typeof Blob.Type> = []
        const { client } = yield* open(
          Blobs,
          Blobs.group.toLayer({
            Swap: (blob) =>
              Effect.sync(() => {
                received.push(blob)
                return swapped(blob)
              })
          }),
          { network, format }
        )
        const call = (round: number) =>
          Effect.forEach(
            sizes,
            (size) => Effect.map(client.Swap(blob(size, round)), (result) => results.push(result)),
            {
              concurrency: "unbounded"
            }
          )
        // One after the other, so that each is read into the same place; and the small ones of a round in one read.
        for (let round = 1; round <= rounds; round++) yield* call(round)
        for (const side of [received, results]) {
          side.sort((a, b) => a.name.length - b.name.length || (a.name < b.name ? -1 : 1))
        }
        const expected = sizes
          .flatMap((size) => Array.from({ length: rounds }, (_, round) => blob(size, round + 1)))
          .sort((a, b) => a.name.length - b.name.length || (a.name < b.name ? -1 : 1))
        assert.equal(received.length, expected.length)
        for (const [index, blob] of expected.entries()) {
          assertSame(received[index]!, blob)
          assertSame(results[index]!, swapped(blob))
        }
      }).pipe(Effect.scoped))
  }
}, [tcp, unix])

/** What a schema needs: a key to write and read by, and a gate that it waits for. */
class Cipher
  extends Context.Service<Cipher, { readonly key: number; readonly decoding: Effect.Effect<void> }>()("Cipher")
{}

const crypt = (key: number, bytes: Uint8Array) => bytes.map((byte) => byte ^ key)

/** Bytes that are in no state to be read when they come, and take their time to be. */
const Secret = Schema.Uint8Array.pipe(Schema.decodeTo(Schema.Uint8Array, {
  decode: SchemaGetter.transformEffect((bytes: Uint8Array) =>
    Cipher.use(({ decoding, key }) => Effect.map(decoding, () => crypt(key, bytes)))
  ),
  encode: SchemaGetter.transformEffect((bytes: Uint8Array) =>
    Cipher.use(({ key }) => Effect.andThen(Effect.yieldNow, Effect.sync(() => crypt(key, bytes))))
  )
}))

const Secrets = Component.make(
  "test/Secrets",
  RpcGroup.make(
    Rpc.make("Keep", { payload: { secret: Secret }, success: Secret }),
    Rpc.make("Noise", { payload: Schema.Uint8Array, success: Schema.Uint8Array })
  )
)

eachNetwork((network) => {
  for (const format of formats) {
    it.live(`a payload with a slow schema is not overwritten while it is decoded, in ${format}`, () =>
      Effect.gen(function*() {
        // The server waits at its gate, and so does the client at its own.
        const gates = { server: yield* Latch.make(), client: yield* Latch.make() }
        const waiting = { server: yield* Deferred.make<void>(), client: yield* Deferred.make<void>() }
        const cipher = (side: "server" | "client") => ({
          key: 0x5a,
          decoding: Effect.andThen(Deferred.succeed(waiting[side], undefined), gates[side].await)
        })
        const kept: Array<Uint8Array> = []
        const { client } = yield* open(
          Secrets,
          Secrets.group.toLayer({
            Keep: ({ secret }) => Effect.sync(() => (kept.push(secret), secret.toReversed())),
            Noise: (bytes) => Effect.succeed(bytes)
          }),
          { network, format }
        ).pipe(Effect.provideService(Cipher, cipher("server")))
        const noise = Effect.forEach(
          [100, 4096, 60_000],
          (size) => client.Noise(new Uint8Array(size).fill(0xee)),
          { concurrency: "unbounded", discard: true }
        )
        const secret = Uint8Array.from({ length: 1000 }, (_, i) => i)
        const calling = yield* Effect.forkChild(
          Effect.provideService(client.Keep({ secret }), Cipher, cipher("client"))
        )
        yield* Deferred.await(waiting.server)
        yield* noise
        yield* gates.server.open
        yield* Deferred.await(waiting.client)
        yield* noise
        yield* gates.client.open
        assert.deepEqual(yield* Fiber.join(calling), secret.toReversed())
        yield* noise
        assert.deepEqual(kept, [secret])
      }).pipe(Effect.scoped))
  }
}, [tcp, unix])
