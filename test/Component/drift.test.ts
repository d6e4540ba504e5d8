/**
 * Contracts that have drifted apart: two peers whose schemas of a method differ never hand out a wrong value.
 *
 * A value is right where it is what the reader's schema makes of the writer's JSON. Everything else is an error that
 * says so.
 */
import { describe, it } from "@effect/vitest"
import * as assert from "node:assert/strict"
import { assertDrift, places, throughJson } from "./drifting.ts"
import { pairs } from "./schemaPairs.ts"

// Each pair in one of the places here, one pair after the other in the next place; in all of them in the deep tests.
const everyPlace = Object.entries(places)

describe.each(pairs.map((pair, i) => [...pair, everyPlace[i % everyPlace.length]!] as const))(
  "%s",
  (_, relation, one, other, [place, how]) => {
    it.effect(
      `as ${place} ${relation === "equal" ? "are one contract" : "are two contracts, and are read as JSON is"}`,
      () => assertDrift(relation, one, other, { [place]: how })
    )
  }
)

describe("the table of pairs", () => {
  it("has at least 40, of which JSON carries some and refuses some", () => {
    assert.ok(pairs.length >= 40)
    const outcomes = pairs.flatMap(([, , one, other]) => [
      ...one.values.map((value) => throughJson(one.schema, other.schema, value)),
      ...other.values.map((value) => throughJson(other.schema, one.schema, value))
    ])
    const refused = outcomes.filter((outcome) => outcome === "refused").length
    assert.ok(refused > 20 && outcomes.length - refused > 20, `${refused} of ${outcomes.length}`)
  })
})
