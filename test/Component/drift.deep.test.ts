/**
 * Contracts that have drifted apart: each pair of schemas in every place in which a schema may stand in another one.
 */
import { describe, it } from "@effect/vitest"
import { assertDrift, places } from "./drifting.ts"
import { pairs } from "./schemaPairs.ts"

describe.each(pairs)("%s", (_, relation, one, other) => {
  it.effect(
    relation === "equal"
      ? "are one contract in every place"
      : "are two contracts, and are read as JSON is in every place",
    () => assertDrift(relation, one, other, places)
  )
})
