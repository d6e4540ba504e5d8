/** Shard keys: which values are one, and which endpoint of how many they belong to. */
import { describe, it } from "@effect/vitest"
import * as fc from "fast-check"
import * as assert from "node:assert/strict"
import { isShardKey, maxShardKey, notAShardKey, shardOf } from "../../../src/internal/balancer/shardKey.ts"

describe("a shard key", () => {
  it("belongs to the endpoint at key mod n, on both sides of what a number can hold", () => {
    const keys = fc.oneof(
      fc.bigInt({ min: 0n, max: maxShardKey }),
      fc.bigInt({ min: 2n ** 53n - 4n, max: 2n ** 53n + 4n }),
      fc.bigInt({ min: maxShardKey - 4n, max: maxShardKey })
    )
    fc.assert(fc.property(keys, fc.integer({ min: 1, max: 10_000 }), (key, count) => {
      assert.equal(shardOf(key, count), Number(key % BigInt(count)))
    }))
  })

  it("is a bigint from 0 to 2^64 − 1 and nothing else", () => {
    for (const key of [0n, 1n, maxShardKey]) assert.ok(isShardKey(key))
    for (const key of [-1n, maxShardKey + 1n, 1, "1", null, undefined]) assert.ok(!isShardKey(key as never))
  })

  it("outside u64 belongs to no endpoint, and is named", () => {
    for (const key of [-1n, maxShardKey + 1n]) {
      assert.equal(shardOf(key, 3), -1)
      assert.match(notAShardKey(key), new RegExp(`^shard key ${key} is out of range`))
    }
  })
})
