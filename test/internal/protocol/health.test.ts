/** Health on the wire: what a client asks, and what a server answers. */
import { describe, it } from "@effect/vitest"
import * as assert from "node:assert/strict"
import { decodeAnswer, decodeQuestion, encodeAnswer, encodeQuestion } from "../../../src/internal/protocol/health.ts"

describe("a question for health", () => {
  it("is the status that the caller knows, and the name of a component", () => {
    assert.deepEqual([...encodeQuestion({ component: "", known: false })], [0])
    assert.deepEqual([...encodeQuestion({ component: "a", known: true })], [1, 0x61])
    assert.deepEqual([...encodeQuestion({ component: "é", known: undefined })], [255, 0xc3, 0xa9])
  })

  it("is read as it was written", () => {
    for (const known of [false, true, undefined]) {
      const question = { component: "shop/Cart", known }
      assert.deepEqual(decodeQuestion(encodeQuestion(question)), question)
    }
  })

  it("is refused with a text where its first byte is missing or unknown", () => {
    const problem = (first: string) => `the first byte of a question for health is ${first}, expected 0, 1 or 255`
    assert.equal(decodeQuestion(new Uint8Array()), problem("missing"))
    assert.equal(decodeQuestion(Uint8Array.of(2)), problem("2"))
  })
})

describe("an answer", () => {
  it("is read as it was written", () => {
    assert.equal(decodeAnswer(encodeAnswer(true)), true)
    assert.equal(decodeAnswer(encodeAnswer(false)), false)
  })

  it("is not read from any other bytes", () => {
    for (const bytes of [[], [2], [255], [1, 0]]) assert.equal(decodeAnswer(Uint8Array.from(bytes)), undefined)
  })
})
