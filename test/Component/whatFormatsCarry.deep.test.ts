/** Each format carries a value as it is, or its writer refuses it: no other value arrives, and no peer is blamed. */
import { describe, it } from "@effect/vitest"
import { DateTime, Effect, Equal, Schema } from "effect"
import * as assert from "node:assert/strict"
import { isDeepStrictEqual } from "node:util"
import { type AnySchema, send } from "./formatSupport.ts"
import { formats } from "./support.ts"
import { table } from "./whatFormatsCarryTable.ts"

const isSame = (a: unknown, b: unknown): boolean => isDeepStrictEqual(a, b) || Equal.equals(a, b)

for (const format of formats) {
  describe(`in ${format}`, () => {
    for (const [name, { arrives = [], arrivesInJson = [], by, refused = [], schema }] of Object.entries(table)) {
      it.effect(`${name}: a value arrives as it was sent, or its writer refuses it`, () =>
        Effect.gen(function*() {
          const carried = [...arrives, ...(format === "json" ? arrivesInJson : [])]
          for (const { as, outcome, value } of yield* send(schema, format, carried)) {
            assert.ok("arrived" in outcome, `as ${as}: ${"refused" in outcome ? outcome.refused : ""}`)
            const [got, sent] = by === undefined ? [outcome.arrived, value] : [by(outcome.arrived), by(value)]
            if (!isSame(got, sent)) assert.deepStrictEqual(got, sent, `as ${as}`)
          }
          const reasons = new Map(refused)
          for (const { as, outcome, value } of yield* send(schema, format, [...reasons.keys()])) {
            assert.ok("refused" in outcome, `as ${as}: a value arrived that was to be refused`)
            assert.match(outcome.refused, reasons.get(value)!)
          }
          if (format === "json") return
          for (const { as, outcome } of yield* send(schema, format, arrivesInJson)) {
            assert.ok("refused" in outcome, `as ${as}: text arrived that UTF-8 has no form for`)
            assert.match(
              outcome.refused,
              /^Expected (text|a key) without lone surrogates, which only format "json" carries/
            )
          }
        }).pipe(Effect.scoped))
    }
  })
}

describe("a schema that is made again at each use", () => {
  interface List {
    readonly value: unknown
    readonly next: List | null
  }
  const list = (item: AnySchema): Schema.Codec<List> =>
    Schema.Struct({ value: item, next: Schema.NullOr(Schema.suspend(() => list(item))) })

  it.effect("is carried in JSON, as deep as its values are", () =>
    Effect.gen(function*() {
      const values = [{ value: "a", next: { value: "b", next: { value: "c", next: null } } }]
      for (const { outcome, value } of yield* send(list(Schema.String), "json", values)) {
        assert.ok("arrived" in outcome)
        assert.deepEqual(outcome.arrived, value)
      }
    }).pipe(Effect.scoped))
})

describe("a time whose offset is not of whole minutes", () => {
  const times = [
    DateTime.makeZonedUnsafe(0, { timeZone: "Africa/Monrovia" }),
    DateTime.makeZonedUnsafe(-5e12, { timeZone: "Europe/Amsterdam" }),
    DateTime.makeZonedUnsafe(0, { timeZone: 90_000 })
  ]

  it.effect("is carried in binary, and refused in JSON", () =>
    Effect.gen(function*() {
      for (const { outcome, value } of yield* send(Schema.DateTimeZoned, "binary", times)) {
        assert.ok("arrived" in outcome && Equal.equals(outcome.arrived, value))
      }
      for (
        const { outcome } of yield* send(
          Schema.Struct({ at: Schema.DateTimeZoned }),
          "json",
          times.map((at) => ({ at }))
        )
      ) {
        assert.ok("refused" in outcome)
        assert.match(
          outcome.refused,
          /^Expected a time whose offset is of whole minutes, for which JSON has a form at \["at"\]/
        )
      }
    }).pipe(Effect.scoped))
})
