/** A value that is sent in a format, and what becomes of it. */
import { Cause, Effect, Exit, Option, Schema, SchemaTransformation } from "effect"
import { CallError, Component } from "effect-call"
import { Rpc, RpcGroup } from "effect/rpc"
import * as assert from "node:assert/strict"
import { makeLog } from "../support/log.ts"
import { type formats, open } from "./support.ts"

export type Format = typeof formats[number]

/** None of the schemas here needs anything. */
export type AnySchema = Schema.Codec<unknown, unknown>

/** What became of a value: it arrived, or its writer refused it, for a reason. */
type Outcome = { readonly arrived: unknown } | { readonly refused: string }

/** Sends a value as a payload, as a result and as a failure. */
export const send = Effect.fnUntraced(function*(schema: AnySchema, format: Format, values: ReadonlyArray<unknown>) {
  const Values = Component.make(
    "test/Values",
    RpcGroup.make(
      Rpc.make("Put", { payload: schema }),
      Rpc.make("Get", { success: schema }),
      Rpc.make("Fail", { error: schema })
    )
  )
  let given: unknown
  const received: Array<unknown> = []
  const log = makeLog()
  const { client } = yield* open(
    Values,
    Values.group.toLayer({
      Put: (payload) => Effect.sync(() => void received.push(payload)),
      Get: () => Effect.sync(() => given),
      Fail: () => Effect.suspend(() => Effect.fail(given))
    }),
    { format }
  ).pipe(Effect.provide(log.layer))

  const reasonIn = (text: string, what: string, method: string) => {
    const start = `the ${what} of test/Values.${method} cannot be encoded: `
    assert.ok(text.includes(start), text)
    return text.slice(text.indexOf(start) + start.length).split("\n")[0]!
  }
  /** A server tells its log why, and its caller nothing but that it is at fault. */
  const logged = (error: unknown, what: string, method: string): string => {
    assert.ok(error instanceof CallError.RemoteError, String(error))
    assert.equal(error.message, "internal error: the handler died")
    return reasonIn(log.lines.at(-1)!.cause, what, method)
  }

  const outcomes: Array<{ readonly value: unknown; readonly as: string; readonly outcome: Outcome }> = []
  for (const value of values) {
    given = value
    received.length = 0
    const put = yield* Effect.exit(client.Put(value))
    if (Exit.isFailure(put)) {
      assert.ok(Cause.hasDies(put.cause), Cause.pretty(put.cause))
      assert.equal(received.length, 0)
      const refused = reasonIn(String(Cause.squash(put.cause)), "payload", "Put")
      outcomes.push({ value, as: "a payload", outcome: { refused } })
    } else outcomes.push({ value, as: "a payload", outcome: { arrived: received[0] } })

    const got = yield* Effect.exit(client.Get())
    const result = Exit.isSuccess(got)
      ? { arrived: got.value }
      : { refused: logged(Cause.squash(got.cause), "result", "Get") }
    outcomes.push({ value, as: "a result", outcome: result })

    const error = yield* Effect.flip(client.Fail())
    const failure = error instanceof CallError.RemoteError
      ? { refused: logged(error, "failure", "Fail") }
      : { arrived: error }
    outcomes.push({ value, as: "a failure", outcome: failure })
  }
  return outcomes
})

export interface Row {
  readonly schema: AnySchema
  /** What arrives in both formats. */
  readonly arrives?: ReadonlyArray<unknown>
  /** What arrives in one format, and is refused in the other one. */
  readonly arrivesInJson?: ReadonlyArray<unknown>
  /** What is refused in both, and why. */
  readonly refused?: ReadonlyArray<readonly [unknown, RegExp]>
  /** What is compared, where it is not the value itself. */
  readonly by?: (value: unknown) => unknown
}

export class Point {
  readonly x = 1
}

export class Named extends Schema.Class<Named>("Named")({ name: Schema.String, more: Schema.Unknown }) {}
export class Failed extends Schema.TaggedError<Failed>()("Failed", { why: Schema.String }) {}

export interface Tree {
  readonly name: string
  readonly more: unknown
  readonly children: ReadonlyArray<Tree>
}

export const Tree = Schema.Struct({
  name: Schema.String,
  more: Schema.Unknown,
  children: Schema.Array(Schema.suspend((): Schema.Codec<Tree> => Tree))
})

/** It is made of text, and is none itself. */
export const Codes = Schema.String.pipe(
  Schema.decodeTo(
    Schema.Array(Schema.Number),
    SchemaTransformation.transform({
      decode: (text): ReadonlyArray<number> => Array.from({ length: text.length }, (_, i) => text.charCodeAt(i)),
      encode: (codes: ReadonlyArray<number>) => String.fromCharCode(...codes)
    })
  )
)

/** A declared type that is written as anything at all. */
export const Box = Schema.declare((u): u is { readonly content: unknown } => u instanceof BoxOf, {
  toCodecJson: () => ({
    to: Schema.Any.ast,
    transformation: SchemaTransformation.transform({
      decode: (content) => new BoxOf(content),
      encode: (box: BoxOf) => box.content
    })
  })
})

export class BoxOf {
  readonly content: unknown
  constructor(content: unknown) {
    this.content = content
  }
}

const cyclic: Record<string, unknown> = {}
cyclic["self"] = [cyclic]

/** Deeper than the stack. */
let deep: unknown = 1
for (let i = 0; i < 50_000; i++) deep = [deep]

const twice = { a: 1 }

export const json = [[twice, twice], null, true, 0, -1.5, 1e300, "", "a", "\ud800", { "\udfff": "\udc00" }, [], [1, [
  null,
  {
    a: "\ufffd"
  }
]], {
  a: { b: [] },
  ["__proto__"]: 1
}]

export const notJson: ReadonlyArray<readonly [unknown, RegExp]> = [
  [{ a: [0, () => 1] }, /^Expected a value that JSON carries, got a function at \["a"\]\[1\]$/],
  [{ a: Symbol.for("a") }, /got a symbol at \["a"\]$/],
  [[1n], /got a bigint at \[0\]$/],
  [[undefined], /got undefined at \[0\]$/],
  // oxlint-disable-next-line no-sparse-arrays
  [[1, , 2], /got undefined at \[1\]$/],
  [[NaN], /got NaN at \[0\]$/],
  [{ a: Infinity }, /got Infinity at \["a"\]$/],
  [{ a: -Infinity }, /got -Infinity at \["a"\]$/],
  [new Map([[1, 2]]), /got an instance of Map$/],
  [[new Set()], /got an instance of Set at \[0\]$/],
  [new Date(0), /got an instance of Date$/],
  [new Point(), /got an instance of Point$/],
  [Object.create({ inherited: 1 }), /got an instance of Object$/],
  [new Error("no"), /got an instance of Error$/],
  [Uint8Array.of(1), /got an instance of Uint8Array$/],
  [Object("text"), /got an instance of String$/],
  [Option.some(1), /got an instance of /],
  [Object.defineProperty({ a: 1 }, "toJSON", { value: () => 5 }), /got an object with a toJSON method$/],
  [[Object.assign([1], { toJSON: () => 5 })], /got an object with a toJSON method at \[0\]$/],
  [cyclic, /got a value that contains itself at \["self"\]\[0\]$/],
  [deep, /./],
  [
    {
      get a() {
        throw new Error("a secret")
      }
    },
    /got one that throws when it is read$/
  ]
]

/** The same, with what is not even an object. */
export const neverJson: typeof notJson = [
  [undefined, /^Expected a value that JSON carries, got undefined$/],
  [() => 1, /got a function$/],
  [Symbol.for("a"), /got a symbol$/],
  [1n, /got a bigint$/],
  [NaN, /got NaN$/],
  ...notJson
]
