/** Two peers whose schemas of a method differ, and what each makes of what the other sends. */
import { Effect, Exit, Schema } from "effect"
import { Component } from "effect-call"
import { Rpc, RpcGroup } from "effect/rpc"
import * as assert from "node:assert/strict"
import { inspect } from "node:util"
import { makeLog } from "../support/log.ts"
import type { Codec, Relation, Side } from "./schemaPairs.ts"
import { clientOver, open } from "./support.ts"

/** Where a schema may stand in another one. */
export const places: Readonly<
  Record<string, { readonly schema: (of: Codec) => Codec; readonly value: (of: unknown) => unknown }>
> = {
  itself: { schema: (of) => of, value: (of) => of },
  field: { schema: (of) => Schema.Struct({ first: Schema.Int, it: of }), value: (it) => ({ first: 7, it }) },
  element: { schema: (of) => Schema.Array(of), value: (of) => [of, of] }
}

/** A method for each of the places, in which a schema is a payload, a result and a failure. */
const componentOf = (schema: Codec, among: typeof places) =>
  Component.make(
    "test/Drift",
    RpcGroup.make(
      ...Object.entries(among).flatMap(([place, { schema: placed }]) => [
        Rpc.make(`payload-${place}`, { payload: placed(schema) }),
        Rpc.make(`success-${place}`, { success: placed(schema) }),
        Rpc.make(`error-${place}`, { error: placed(schema) })
      ])
    )
  )

type Outcome = { readonly value: unknown } | "refused"

/** What a reader makes of what a writer writes in JSON. */
export const throughJson = (writer: Codec, reader: Codec, value: unknown): Outcome => {
  const json = JSON.stringify(Schema.encodeSync(Schema.toCodecJson(writer))(value))
  const read = Schema.decodeUnknownExit(Schema.toCodecJson(reader))(JSON.parse(json))
  return Exit.isSuccess(read) ? { value: read.value } : "refused"
}

/** A client's methods, by their names. */
type Methods = Record<string, (payload?: unknown) => Effect.Effect<unknown, unknown>>

/** Sends the values of both sides in both directions, where the schemas stand in these places. */
export const assertDrift = Effect.fnUntraced(
  function*(relation: Relation, one: Side, other: Side, among: typeof places) {
    for (const [writer, reader] of [[one, other], [other, one]] as const) {
      let written: unknown
      const received: Array<unknown> = []
      const log = makeLog()
      /** The server reads payloads and writes results and failures. */
      const handlersOf = (schema: Codec) =>
        componentOf(schema, among).group.toLayer(
          Object.fromEntries(
            Object.keys(among).flatMap((place) => [
              [`payload-${place}`, (payload: unknown) => Effect.sync(() => void received.push(payload))],
              [`success-${place}`, () => Effect.sync(() => written)],
              [`error-${place}`, () => Effect.suspend(() => Effect.fail(written))]
            ])
          ) as never
        )
      const served = Effect.fnUntraced(function*(server: Codec, client: Codec) {
        const { connection } = yield* open(componentOf(server, among), handlersOf(server))
        // Its methods' names are made above, so that no type knows them.
        return (yield* clientOver(connection, componentOf(client, among))) as unknown as Methods
      }, Effect.provide(log.layer))
      const writing = yield* served(reader.schema, writer.schema)
      const reading = yield* served(writer.schema, reader.schema)
      for (const [place, { schema, value: placed }] of Object.entries(among)) {
        for (const value of writer.values.map(placed)) {
          const expected = throughJson(schema(writer.schema), schema(reader.schema), value)
          const check = (what: string, outcome: Outcome) =>
            assert.deepStrictEqual(outcome, expected, `${place} as ${what}: ${inspect(value)}`)
          written = value
          received.length = 0
          const sent = yield* Effect.exit(writing[`payload-${place}`]!(value))
          check("payload", Exit.isSuccess(sent) ? { value: received[0] } : refusal(sent))
          const result = yield* Effect.exit(reading[`success-${place}`]!())
          check("result", Exit.isSuccess(result) ? { value: result.value } : refusal(result))
          const failure = yield* Effect.exit(reading[`error-${place}`]!())
          assert.ok(Exit.isFailure(failure))
          check("failure", isMisfit(failure) ? "refused" : { value: errorOf(failure) })
        }
      }
      // One line for each connection and method that has come to JSON, and not a call of them is lost.
      const methods = writer.values.length === 0 ? 0 : Object.keys(among).length * 3
      const lines = log.lines.filter(({ message }) => message.includes("client and server have different contracts of"))
      assert.equal(lines.length, relation === "equal" ? 0 : methods)
    }
  },
  Effect.scoped
)

/** The error that a call has failed with. */
const errorOf = (exit: Exit.Failure<unknown, unknown>): unknown => {
  const [reason] = exit.cause.reasons
  assert.ok(reason?._tag === "Fail", String(exit.cause))
  return reason.error
}

/** Whether a call has failed since the contracts differ. */
const isMisfit = (exit: Exit.Failure<unknown, unknown>): boolean => {
  const error = errorOf(exit)
  return error instanceof Error &&
    /^cannot decode the (payload|result|failure) of test\/Drift\.[a-z-]+: .*\(client and server may have different contracts\)$/
      .test(error.message)
}

const refusal = (exit: Exit.Failure<unknown, unknown>): "refused" => {
  assert.ok(isMisfit(exit), String(exit.cause))
  return "refused"
}
