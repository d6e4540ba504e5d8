import { assert, describe, it } from "@effect/vitest"
import { hashKey, hashText, mix } from "../../../src/internal/balancer/hash.ts"

const bitsOf = (value: number) => value.toString(2).replaceAll("0", "").length

describe("a hash", () => {
  it("is the same in every process and version: clients must agree where a key belongs", () => {
    assert.deepStrictEqual([hashText(""), hashText("tcp://10.0.0.1:80")], [2872998923, 3663679666])
    assert.deepStrictEqual([hashKey(0n), hashKey(7n), hashKey(2n ** 64n - 1n)], [2856213345, 1220097424, 3664794242])
  })

  it("of a key depends on each of its 64 bits, and on no others", () => {
    for (let bit = 0n; bit < 64n; bit++) assert.notStrictEqual(hashKey(1n << bit), hashKey(0n), `bit ${bit}`)
    assert.strictEqual(hashKey(2n ** 64n + 7n), hashKey(7n))
  })

  it("changes in half of its bits where one bit changes", () => {
    let changed = 0
    for (let i = 0; i < 1000; i++) changed += bitsOf((mix(i) ^ mix(i ^ (1 << (i % 32)))) >>> 0)
    assert.closeTo(changed / 1000, 16, 0.5)
  })
})
