import { describe, it } from "@effect/vitest"
import * as assert from "node:assert/strict"
import type { Cut } from "../../../src/internal/session/cut.ts"
import { Underway } from "../../../src/internal/session/underway.ts"

const mebibyte = 1_048_576

const makeUnderway = () => {
  const resumed: Array<Cut> = []
  const cut = (): Cut => ({ cut: () => false })
  return { underway: new Underway((cut) => void resumed.push(cut)), resumed, cut }
}

describe("what is under way in pieces", () => {
  it("is 64 MiB together at most; the others wait in their order", () => {
    const { cut, resumed, underway } = makeUnderway()
    const [a, b, c, d] = [cut(), cut(), cut(), cut()]
    assert.ok(underway.begin(a, 40 * mebibyte, false))
    assert.ok(underway.begin(b, 24 * mebibyte, true))
    assert.equal(underway.begin(c, 30 * mebibyte, false), false)
    // It would fit, but must not overtake the one that waits.
    underway.end(b)
    assert.deepEqual(resumed, [])
    assert.equal(underway.begin(d, 1, false), false)
    underway.end(a)
    assert.deepEqual(resumed, [c, d])
    assert.ok(underway.begin(c, 30 * mebibyte, false))
  })

  it("goes alone where it is larger than that", () => {
    const { cut, resumed, underway } = makeUnderway()
    const [small, huge, next] = [cut(), cut(), cut()]
    assert.ok(underway.begin(small, 1, false))
    assert.equal(underway.begin(huge, 100 * mebibyte, false), false)
    underway.end(small)
    assert.deepEqual(resumed, [huge])
    assert.equal(underway.begin(next, 1, false), false)
    underway.end(huge)
    assert.deepEqual(resumed, [huge, next])
  })

  it("is 64 messages at most, and any number of items", () => {
    const { cut, resumed, underway } = makeUnderway()
    const messages = Array.from({ length: 64 }, cut)
    for (const message of messages) assert.ok(underway.begin(message, 1, true))
    for (let i = 0; i < 100; i++) assert.ok(underway.begin(cut(), 1, false))
    const more = cut()
    assert.equal(underway.begin(more, 1, true), false)
    underway.end(messages[0]!)
    assert.deepEqual(resumed, [more])
  })

  it("can be given up while it waits", () => {
    const { cut, resumed, underway } = makeUnderway()
    const [a, b, c] = [cut(), cut(), cut()]
    assert.ok(underway.begin(a, 60 * mebibyte, false))
    assert.equal(underway.begin(b, 60 * mebibyte, false), false)
    assert.equal(underway.begin(c, 1, false), false)
    underway.end(b)
    underway.end(b)
    assert.deepEqual(resumed, [c])
  })
})
