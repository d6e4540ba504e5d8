/** The fingerprint of a contract, as a request carries it. */
import { describe, it } from "@effect/vitest"
import * as assert from "node:assert/strict"
import { fingerprintSize, isFingerprint, writeFingerprint } from "../../../src/internal/protocol/fingerprint.ts"

const fingerprint = { low: -2, high: 0x01020304 }

describe("a fingerprint", () => {
  const bytes = new Uint8Array(3 + fingerprintSize)
  writeFingerprint(new DataView(bytes.buffer), 3, fingerprint)

  it("is written little-endian, the low half first", () => {
    assert.deepEqual([...bytes], [0, 0, 0, 0xfe, 0xff, 0xff, 0xff, 4, 3, 2, 1])
  })

  it("is recognised where it was written", () => {
    assert.ok(isFingerprint(bytes, 3, fingerprint))
  })

  it("is another one when any of its bytes differs", () => {
    for (let i = 3; i < bytes.length; i++) {
      const other = bytes.slice()
      other[i]! ^= 0x80
      assert.ok(!isFingerprint(other, 3, fingerprint), `byte ${i}`)
    }
  })
})
