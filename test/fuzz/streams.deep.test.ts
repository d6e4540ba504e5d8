/** A short run of what `node test/fuzz/streams.ts` does for longer. Each run is another one: its seed is printed. */
import { describe, it } from "@effect/vitest"
import { Effect } from "effect"
import * as assert from "node:assert/strict"
import { runCases } from "./streams.ts"

describe("conversations with streams, right and wrong", () => {
  for (const direction of ["server", "client"] as const) {
    it.live(`end as they should for a ${direction}, and leave nothing`, () =>
      Effect.gen(function*() {
        const seed = Math.floor(Math.random() * 1_000_000_000)
        const { ran, violation } = yield* Effect.promise(() => runCases(direction, seed, 3000))
        assert.equal(violation, undefined, `of seed ${seed}`)
        assert.equal(ran, 3000)
      }), 120_000)
  }
})
