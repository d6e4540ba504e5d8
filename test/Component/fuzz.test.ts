/**
 * Bytes that mean nothing, to a server with schemas and to a client with schemas: each costs its own call, and nothing
 * more.
 */
import { describe, it } from "@effect/vitest"
import { Effect, Exit, Option, Schema } from "effect"
import { Component, HandlerMap } from "effect-call"
import { Rpc, RpcGroup } from "effect/rpc"
import * as fc from "fast-check"
import * as assert from "node:assert/strict"
import * as Codec from "../../src/internal/component/codec.ts"
import { MethodCodecs } from "../../src/internal/component/methodCodecs.ts"
import * as Payload from "../../src/internal/component/payload.ts"
import { fingerprintBytes } from "../support/fingerprints.ts"
import { connect, memory } from "../support/networks.ts"
import { clientOver, formats, open } from "./support.ts"

class Refused extends Schema.TaggedError<Refused>()("Refused", { why: Schema.String }) {}
class Busy extends Schema.TaggedError<Busy>()("Busy", { until: Schema.Date }) {}

interface Tree {
  readonly name: string
  readonly children: ReadonlyArray<Tree>
}
const Tree = Schema.Struct({
  name: Schema.String,
  children: Schema.Array(Schema.suspend((): Schema.Codec<Tree> => Tree))
})

/** Something of everything. */
const Everything = Schema.Struct({
  id: Schema.Int,
  big: Schema.BigInt,
  at: Schema.Date,
  bytes: Schema.Uint8Array,
  kind: Schema.Literals(["a", "b"]),
  tree: Tree,
  maybe: Schema.Option(Schema.NonEmptyString),
  either: Schema.Union([
    Schema.TaggedStruct("X", { x: Schema.Finite }),
    Schema.TaggedStruct("Y", { y: Schema.Boolean }),
    Schema.String
  ]),
  record: Schema.Record(Schema.String, Schema.Finite),
  map: Schema.ReadonlyMap(Schema.String, Schema.Int),
  nothings: Schema.Array(Schema.Void),
  note: Schema.optionalKey(Schema.String)
})
const example: typeof Everything.Type = {
  id: 1,
  big: 2n ** 70n,
  at: new Date(1_700_000_000_000),
  bytes: Uint8Array.of(1, 2, 3),
  kind: "a",
  tree: { name: "root", children: [{ name: "leaf", children: [] }] },
  maybe: Option.some("x"),
  either: { _tag: "Y", y: true },
  record: { a: 1.5 },
  map: new Map([["k", 1]]),
  nothings: [undefined, undefined]
}

const group = RpcGroup.make(
  Rpc.make("Do", { payload: Everything, success: Everything, error: Schema.Union([Refused, Busy]) })
)
const Fuzzed = Component.make("test/Fuzzed", group)
const key = Fuzzed.keys.get("Do")!

const codecs = new MethodCodecs(group.requests.get("Do")!)
const encoded = (codec: (format: Payload.Format) => Codec.Codec, value: unknown, fingerprint: Iterable<number> = []) =>
  formats.map((format) =>
    Uint8Array.of(
      Payload.formatCode[format],
      ...(format === "binary" ? fingerprint : []),
      ...Codec.valueNow(codec(format).encode(value))!.value
    )
  )
/** Bytes that begin as valid ones do, with some of them changed, or cut. */
const damaged = (valid: ReadonlyArray<Uint8Array>) =>
  fc.record({
    bytes: fc.constantFrom(...valid),
    changes: fc.array(fc.record({ at: fc.nat(400), to: fc.integer({ min: 0, max: 255 }) }), { maxLength: 2 }),
    cut: fc.option(fc.nat(400), { freq: 1 })
  }).map(({ bytes, changes, cut }) => {
    const copy = Uint8Array.from(bytes)
    for (const { at, to } of changes) copy[at % copy.length] = to
    return cut === null ? copy : copy.subarray(0, cut % copy.length)
  })

const sample = (valid: ReadonlyArray<Uint8Array>, flags: ReadonlyArray<number>) => {
  const bytes = fc.uint8Array({ maxLength: 100 })
  const begun = fc.tuple(fc.constantFrom(0x01, 0x02), fc.constantFrom(...flags), bytes).map(([format, flag, bytes]) =>
    Uint8Array.of(format | flag, ...bytes)
  )
  return fc.sample(fc.oneof(bytes, begun, begun, damaged(valid), damaged(valid), damaged(valid)), {
    numRuns: 400,
    seed: 7
  })
}

describe("any bytes", () => {
  it.effect("to a server are a call of its method, or a RemoteError that says what is wrong with them", () =>
    Effect.gen(function*() {
      const { client, connection } = yield* open(
        Fuzzed,
        group.toLayer({ Do: (payload) => Effect.succeed(payload) })
      )
      const outcomes = { success: 0, failure: 0 }
      for (const args of sample(encoded(codecs.payload, example, fingerprintBytes(Fuzzed, "Do")), [0, 0x10, 0x20])) {
        const exit = yield* Effect.result(connection.call(key, args))
        if (exit._tag === "Success") outcomes.success++
        else {
          outcomes.failure++
          assert.equal(exit.failure._tag, "RemoteError")
          assert.match(
            exit.failure.message,
            /^(cannot decode the payload of test\/Fuzzed\.Do: .|client and server have different contracts)/
          )
          assert.ok(exit.failure.message.length < 1100)
        }
      }
      // Both were met, and the server is as it was.
      assert.ok(outcomes.success > 40 && outcomes.failure > 200, JSON.stringify(outcomes))
      assert.deepEqual(yield* client.Do(example), example)
    }).pipe(Effect.scoped))

  it.effect("to a client are a result, one of the method's failures, or a CommunicationError that says what is wrong", () =>
    Effect.gen(function*() {
      const valid = [
        ...encoded(codecs.success, example),
        ...encoded(codecs.error, new Refused({ why: "no" })).map((bytes) => {
          bytes[0]! |= Payload.isFailure
          return bytes
        })
      ]
      let answer: Uint8Array = new Uint8Array(0)
      const map = HandlerMap.set(HandlerMap.empty, key.component, key.method, () => Effect.succeed(answer))
      const connection = yield* connect([(yield* memory.serve(map)).endpoint])
      const client = yield* clientOver(connection, Fuzzed)
      const outcomes = { success: 0, typed: 0, protocol: 0 }
      for (const bytes of sample(valid, [0, 0x10, 0x20])) {
        answer = bytes
        const exit = yield* Effect.result(client.Do(example))
        if (exit._tag === "Success") outcomes.success++
        else if (exit.failure instanceof Refused || exit.failure instanceof Busy) outcomes.typed++
        else {
          outcomes.protocol++
          assert.ok(exit.failure._tag === "CommunicationError" && exit.failure.reason._tag === "Protocol")
          assert.match(exit.failure.message, /^cannot decode the (result|failure) of test\/Fuzzed\.Do: ./)
          assert.ok(exit.failure.message.length < 1100)
        }
      }
      assert.ok(outcomes.success > 10 && outcomes.typed > 10 && outcomes.protocol > 200, JSON.stringify(outcomes))
      answer = valid[0]!
      assert.deepEqual(yield* client.Do(example), example)
    }).pipe(Effect.scoped))
})

describe("bytes that ask for too much", () => {
  const Recursive = Component.make(
    "test/Recursive",
    RpcGroup.make(Rpc.make("Do", { payload: Tree }), Rpc.make("Nothings", { payload: Schema.Array(Schema.Void) }))
  )

  const refusal = Effect.fnUntraced(function*(method: string, args: Uint8Array) {
    const { connection } = yield* open(
      Recursive,
      Recursive.group.toLayer({ Do: () => Effect.void, Nothings: () => Effect.void })
    )
    const exit = yield* Effect.exit(connection.call(Recursive.keys.get(method)!, args))
    assert.ok(Exit.isFailure(exit))
    return String(exit.cause.reasons[0])
  })

  it.effect("such as a tree deeper than the stack, are refused", () =>
    Effect.gen(function*() {
      const depth = 20_000
      const json = "{\"name\":\"\",\"children\":[".repeat(depth) + "]}".repeat(depth)
      const message = yield* refusal("Do", Buffer.concat([Uint8Array.of(0x02), Buffer.from(json)]))
      assert.match(message, /cannot decode the payload of test\/Recursive\.Do: /)
    }).pipe(Effect.scoped))

  it.effect("such as more elements than there are bytes, are refused", () =>
    Effect.gen(function*() {
      // 2^35 − 1 elements, of no bytes each.
      const message = yield* refusal(
        "Nothings",
        Uint8Array.of(0x01, ...fingerprintBytes(Recursive, "Nothings"), 6, 0x20, 0xff, 0xff, 0xff, 0xff, 0x7f)
      )
      assert.match(message, /cannot decode the payload of test\/Recursive\.Nothings: /)
    }).pipe(Effect.scoped))
})
