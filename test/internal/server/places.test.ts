import { describe, it } from "@effect/vitest"
import * as assert from "node:assert/strict"
import { StreamPlaces } from "../../../src/internal/server/places.ts"

describe("the places of streams", () => {
  it("are limited for all, and for each connection", () => {
    const places = new StreamPlaces({ maxStreams: 3, maxStreamsPerConnection: 2 })
    assert.deepEqual([places.take(0), places.take(1), places.take(2)], [true, true, false])
    assert.deepEqual([places.take(0), places.take(0)], [true, false])
    places.free()
    assert.equal(places.take(1), true)
  })

  it("cannot be freed by streams that have none", () => {
    const places = new StreamPlaces({ maxStreams: 1, maxStreamsPerConnection: 1 })
    assert.throws(() => places.free(), /a stream has ended that had no place/)
  })
})
