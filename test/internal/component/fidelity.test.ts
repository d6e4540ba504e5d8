/** Where a text in bytes may have lost something. */
import { describe, it } from "@effect/vitest"
import * as assert from "node:assert/strict"
import { hasReplacement } from "../../../src/internal/component/fidelity.ts"

const replacement = Buffer.from("\ufffd")

describe("bytes with a U+FFFD", () => {
  it("are found wherever it is, among bytes that begin and end like it", () => {
    const units = [...replacement, 0x61]
    for (let length = 0; length <= 7; length++) {
      for (let i = 0; i < units.length ** length; i++) {
        const bytes = Uint8Array.from({ length }, (_, at) => units[Math.floor(i / units.length ** at) % units.length]!)
        assert.equal(hasReplacement(bytes), Buffer.from(bytes).includes(replacement), String(bytes))
      }
    }
  })

  it("are found in many bytes, and in a part of a larger buffer", () => {
    const block = new Uint8Array(5000).fill(0x61)
    block.set(replacement, 4000)
    for (const length of [3, 200, 255, 256, 257, 258, 3000]) {
      for (const start of [4000, 4003 - length]) {
        assert.ok(hasReplacement(block.subarray(start, start + length)), `${start} ${length}`)
      }
      for (const start of [4001, 4002 - length]) {
        assert.ok(!hasReplacement(block.subarray(start, start + length)), `${start} ${length}`)
      }
    }
  })
})
