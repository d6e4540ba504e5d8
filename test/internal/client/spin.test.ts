/**
 * A spin: it keeps the event loop from sleeping, turn by turn, for as long as it is wanted.
 */
import { describe, it } from "@effect/vitest"
import { Effect } from "effect"
import * as assert from "node:assert/strict"
import { Spin } from "../../../src/internal/client/spin.ts"
import { turn } from "./openSession.ts"

const turns = (count: number) => Effect.replicateEffect(turn, count, { discard: true })

/** A spin that is wanted for so many turns, and how often it has asked. */
const spinOf = (millis: number, wanted: number) => {
  const seen = { asked: 0 }
  return { seen, spin: new Spin(millis, () => ++seen.asked <= wanted) }
}

const hour = 3_600_000

describe("a spin", () => {
  it.live("asks once a turn whether it is wanted, and stops where it is not", () =>
    Effect.gen(function*() {
      const { seen, spin } = spinOf(hour, 3)
      spin.start()
      assert.equal(seen.asked, 0)
      yield* turns(10)
      assert.equal(seen.asked, 4)
    }))

  it.live("stops when its time is over, though it is wanted", () =>
    Effect.gen(function*() {
      const { seen, spin } = spinOf(0, Infinity)
      spin.start()
      yield* turns(10)
      assert.equal(seen.asked, 1)
    }))

  it.live("does not ask more often where it is started while it spins", () =>
    Effect.gen(function*() {
      const { seen, spin } = spinOf(hour, 3)
      for (let i = 0; i < 5; i++) spin.start()
      yield* turns(2)
      assert.ok(seen.asked <= 2, `${seen.asked}`)
      yield* turns(10)
      assert.equal(seen.asked, 4)
    }))

  it.live("starts again after it has stopped", () =>
    Effect.gen(function*() {
      const { seen, spin } = spinOf(hour, 0)
      spin.start()
      yield* turns(10)
      spin.start()
      yield* turns(10)
      assert.equal(seen.asked, 2)
    }))
})
