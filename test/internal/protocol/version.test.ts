import { assert, describe, it } from "@effect/vitest"
import {
  decodeVersion,
  encodeVersion,
  flagGoingAway,
  flagNoMoreRequests,
  flagUnderstood,
  protocolVersion
} from "../../../src/internal/protocol/version.ts"

describe("the version message", () => {
  it("is the reference's four bytes without flags", () => {
    assert.deepStrictEqual(encodeVersion(protocolVersion), Uint8Array.of(0, 0, 0, 0))
    assert.deepStrictEqual(decodeVersion(Uint8Array.of(0, 0, 0, 0)), { version: 0, flags: 0 })
  })

  it("carries flags after the version", () => {
    const payload = encodeVersion(0x01020304, flagUnderstood | flagNoMoreRequests)
    assert.deepStrictEqual(payload, Uint8Array.of(4, 3, 2, 1, 5, 0, 0, 0))
    assert.deepStrictEqual(decodeVersion(payload), { version: 0x01020304, flags: 5 })
    assert.deepStrictEqual([flagUnderstood, flagGoingAway, flagNoMoreRequests], [1, 2, 4])
  })

  it("reads numbers as unsigned", () => {
    assert.deepStrictEqual(decodeVersion(encodeVersion(0xffffffff, 0xfffffffe)), {
      version: 0xffffffff,
      flags: 0xfffffffe
    })
  })

  it("ignores what later versions add, and half a flags field", () => {
    assert.deepStrictEqual(decodeVersion(Uint8Array.of(1, 0, 0, 0, 7, 7, 7)), { version: 1, flags: 0 })
    assert.deepStrictEqual(decodeVersion(Uint8Array.of(1, 0, 0, 0, 3, 0, 0, 0, 9, 9)), { version: 1, flags: 3 })
  })

  it("is malformed below four bytes", () => {
    for (let length = 0; length < 4; length++) assert.isUndefined(decodeVersion(new Uint8Array(length)))
  })
})
