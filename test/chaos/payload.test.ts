import { describe, it } from "@effect/vitest"
import * as assert from "node:assert/strict"
import { makeAnswer, makePayload, readAnswer, readPayload } from "./payload.ts"

/** What is wrong with bytes that are no payload. */
const problemWith = (bytes: Uint8Array): string => {
  const read = readPayload(bytes)
  assert.ok(typeof read === "string")
  return read
}

const sizes = [0, 16, 17, 100, 65_536, 3_000_001]

describe("a payload", () => {
  for (const size of sizes) {
    it(`of ${size} bytes is read as what it was made of`, () => {
      const payload = makePayload(70_000, size, 12)
      assert.equal(payload.length, size)
      assert.deepEqual(readPayload(payload), size === 0 ? { id: 0, work: 0 } : { id: 70_000, work: 12 })
    })

    it(`of ${size} bytes comes back in an answer that says who gave it`, () => {
      const answer = makeAnswer(7, makePayload(70_000, size, 12))
      assert.deepEqual(readAnswer(answer, 70_000, size), { stamp: 7 })
    })
  }

  it("is not the same for two calls", () => {
    assert.notDeepEqual(makePayload(1, 1000, 0).subarray(16), makePayload(2, 1000, 0).subarray(16))
  })

  it("is refused when any byte of it is another", () => {
    const payload = makePayload(3, 40, 5)
    for (let at = 0; at < payload.length; at++) {
      const broken = payload.slice()
      broken[at]! ^= 1
      assert.equal(typeof readPayload(broken), "string", `byte ${at}`)
    }
  })

  it("is refused when it is cut, or longer", () => {
    const payload = makePayload(3, 40, 5)
    assert.match(problemWith(payload.subarray(0, 39)), /39 bytes of what says it is call 3 with 40/)
    assert.match(problemWith(payload.subarray(0, 3)), /too few/)
    assert.match(problemWith(Buffer.concat([payload, new Uint8Array(1)])), /41 bytes/)
  })
})

describe("an answer", () => {
  it("is wrong where it is another call's, or has another size", () => {
    const answer = makeAnswer(1, makePayload(4, 40, 0))
    assert.equal(readAnswer(answer, 5, 40), "the answer to call 4")
    assert.equal(readAnswer(answer, 4, 41), "44 bytes, expected 45")
    assert.equal(readAnswer(new Uint8Array(), 4, 0), "0 bytes, expected 4")
  })
})
